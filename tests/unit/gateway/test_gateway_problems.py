"""Every error has its problem, and none tells more than it should."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import problems
from services.runtime import errors
from services.runtime.ids import new_media_id
from tests.unit.gateway.application import Answers, client_of, parts

SECRET = "postgresql://user:password@10.0.0.7/millrace"
INITIATE = "/v1/initiate-upload"
JSON = {"content-type": "application/json"}
FILE = {"filename": "a", "content_type": "image/png", "size_bytes": 7}
MEDIA = f"/v1/media/{new_media_id('alice')}"


def taxonomy(kind: type[errors.MillraceError] = errors.MillraceError) -> Iterator[type[errors.MillraceError]]:
    for child in kind.__subclasses__():
        yield child
        yield from taxonomy(child)


def raising(error: Exception) -> Callable[[Any], Any]:
    def answer(_: Any) -> Any:
        raise error

    return answer


@pytest.mark.parametrize("kind", list(taxonomy()), ids=lambda kind: kind.__name__)
async def test_every_class_of_the_taxonomy_is_mapped(kind: type[errors.MillraceError]) -> None:
    metadata = Answers({"GetMedia": raising(kind(SECRET, details={"secret": SECRET}))})
    async with client_of(parts(metadata=metadata)) as client:
        response = await client.get(MEDIA)
    body = response.json()
    assert response.status_code == problems.RENDERINGS[kind].status == body["status"]
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == problems.TYPE_BASE + kind.default_reason.lower().replace("_", "-")
    assert body["instance"] == MEDIA
    assert body["next"]
    assert isinstance(body["retryable"], bool)
    assert ("retry-after" in response.headers) is body["retryable"]


@pytest.mark.parametrize("kind", [errors.Unavailable, errors.Internal, errors.DeadlineExceeded, errors.NotFound])
async def test_outages_and_defects_keep_their_text_to_themselves(kind: type[errors.MillraceError]) -> None:
    metadata = Answers({"GetMedia": raising(kind(SECRET, details={"host": SECRET}))})
    async with client_of(parts(metadata=metadata)) as client:
        response = await client.get(MEDIA)
    assert SECRET not in response.text


async def test_what_nobody_expected_is_a_bland_500() -> None:
    metadata = Answers({"GetMedia": raising(ZeroDivisionError(SECRET))})
    with capture_logs() as logged:
        async with client_of(parts(metadata=metadata)) as client:
            response = await client.get(MEDIA)
    assert [one["event"] for one in logged] == ["unhandled_error", "dependency_failed", "request"]
    assert response.status_code == 500
    assert response.json()["type"] == "https://millrace.dev/problems/internal"
    assert SECRET not in response.text
    assert "x-content-type-options" in response.headers


async def test_reasons_tell_what_to_do_next() -> None:
    error = errors.InvalidArgument("parts differ", reason="PARTS_DIFFER", details={"different_parts": "2-3"})
    async with client_of(parts(upload=Answers({"SignParts": raising(error)}))) as client:
        response = await client.post(f"/v1/uploads/{new_media_id('alice')}/sign-parts", json={"part_numbers": [1]})
    body = response.json()
    assert body["type"] == "https://millrace.dev/problems/parts-differ"
    assert body["title"] == "Parts differ"
    assert body["detail"] == "Parts differ."
    assert body["details"] == {"different_parts": "2-3"}
    assert body["next"] == problems.NEXT_BY_REASON["PARTS_DIFFER"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "slug"),
    [
        ("GET", "/nowhere", {}, 404, "route-not-found"),
        ("PUT", "/v1/media", {}, 405, "method-not-allowed"),
        ("GET", "/v1/media/not-an-id", {}, 404, "media-not-found"),
        ("GET", "/v1/media?page_size=-1", {}, 422, "validation-failed"),
        ("GET", "/v1/media?status=odd", {}, 422, "validation-failed"),
        ("POST", INITIATE, {"content": b"{", "headers": JSON}, 400, "malformed-request"),
        ("POST", INITIATE, {"json": FILE | {"size_bytes": "7"}}, 422, "validation-failed"),
        ("POST", INITIATE, {"json": FILE | {"colour": 1}}, 422, "validation-failed"),
        ("POST", INITIATE, {"json": FILE, "headers": {"idempotency-key": "a b"}}, 422, "idempotency-key-invalid"),
        ("POST", INITIATE, {"content": b"x" * 70_000}, 413, "body-too-large"),
        ("POST", "/v1/complete-upload", {"json": {"media_id": "x", "parts": []}}, 422, "validation-failed"),
    ],
)
async def test_what_http_and_the_schemas_refuse(
    method: str, path: str, options: dict[str, Any], status: int, slug: str
) -> None:
    async with client_of(parts()) as client:
        response = await client.request(method, path, **options)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == problems.TYPE_BASE + slug


async def test_validation_names_the_field_and_not_what_was_sent() -> None:
    body = {"filename": SECRET, "content_type": 5, "size_bytes": 7}
    async with client_of(parts()) as client:
        response = await client.post("/v1/initiate-upload", json=body)
    assert [(one["location"], one["pointer"]) for one in response.json()["errors"]] == [("body", "/content_type")]
    assert SECRET not in response.text


async def test_a_body_that_grows_past_its_limit_is_cut_off() -> None:
    async def chunks() -> Any:
        for _ in range(80):
            yield b"x" * 1_000

    async with client_of(parts()) as client:
        response = await client.post(
            "/v1/initiate-upload", content=chunks(), headers={"content-type": "application/json"}
        )
    assert response.status_code == 413
    assert response.headers["connection"] == "close"


async def test_ten_thousand_parts_fit_into_complete() -> None:
    completed = [{"part_number": number, "etag": '"' + "f" * 64 + '"'} for number in range(1, 10_001)]
    upload = Answers({"CompleteUpload": raising(errors.NotFound("no"))})
    async with client_of(parts(upload=upload)) as client:
        response = await client.post(
            "/v1/complete-upload", json={"media_id": str(new_media_id("alice")), "parts": completed}
        )
    assert response.status_code == 404
    assert len(upload.asked[0].parts) == 10_000


async def test_no_token_is_challenged_and_a_bad_one_is_told_why() -> None:
    async with client_of(parts()) as client:
        missing = await client.get(MEDIA, headers={"Authorization": ""})
        basic = await client.get(MEDIA, headers={"Authorization": "Basic YTpi"})
        bad = await client.get("/v1/media/not-an-id", headers={"Authorization": "Bearer x"})
    assert missing.headers["www-authenticate"] == basic.headers["www-authenticate"] == 'Bearer realm="millrace"'
    assert (missing.status_code, bad.status_code) == (401, 401)
    assert 'error="invalid_token"' in bad.headers["www-authenticate"]
