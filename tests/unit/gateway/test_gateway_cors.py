"""Pages of other origins may call the API with tokens of their own, hear errors as well, and never use our cookie."""

from typing import Any

import pytest

from tests.unit.gateway.application import Answers, client_of, parts

ORIGIN = {"Origin": "https://shop.example"}


def preflight(method: str, *headers: str) -> dict[str, str]:
    asked = {"Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = ", ".join(headers)
    return {**ORIGIN, **asked}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/initiate-upload", preflight("POST", "authorization", "content-type", "idempotency-key", "traceparent")),
        ("/v1/media/x", preflight("GET", "authorization")),
        ("/v1/uploads/x", preflight("DELETE", "authorization")),
        ("/uppy/token/s3/multipart", preflight("POST", "content-type", "uppy-versions")),
        ("/uppy/token/s3/multipart/u", preflight("DELETE")),
    ],
)
async def test_a_preflight_is_answered_without_a_token(path: str, headers: dict[str, str]) -> None:
    async with client_of(parts()) as client:
        response = await client.options(path, headers={**headers, "Authorization": ""})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["access-control-max-age"] == "7200"
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize("headers", [preflight("POST", "x-other"), preflight("PATCH")], ids=str)
async def test_other_headers_and_methods_are_not_for_them(headers: dict[str, str]) -> None:
    async with client_of(parts()) as client:
        assert (await client.options("/v1/media", headers=headers)).status_code == 400


async def test_errors_are_heard_as_well_wherever_they_come_from() -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    async with client_of(parts(metadata=Answers({"GetQuota": broken}))) as client:
        answers = [
            await client.get("/v1/quota", headers=ORIGIN),
            await client.get("/v1/media/nonsense", headers=ORIGIN),
            await client.get("/v1/media", headers={**ORIGIN, "Authorization": "Bearer nonsense"}),
            await client.get("/nowhere", headers=ORIGIN),
            await client.post("/v1/initiate-upload", content=b"x" * 70_000, headers=ORIGIN),
        ]
    assert [answer.status_code for answer in answers] == [500, 404, 401, 404, 413]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"Location", "Retry-After", "Idempotency-Replayed", "traceresponse"} <= set(exposed)


async def test_an_operator_may_name_the_origins() -> None:
    async with client_of(parts(), cors_origins="https://shop.example https://admin.example") as client:
        known = await client.get("/healthz", headers=ORIGIN)
        unknown = await client.get("/healthz", headers={"Origin": "https://evil.example"})
    assert known.headers["access-control-allow-origin"] == "https://shop.example"
    assert "Origin" in known.headers["vary"]
    assert "access-control-allow-origin" not in unknown.headers
