"""An upload token uploads as its user for some hours, and is good for nothing else."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from gateway import upload_tokens
from gateway.settings import GatewaySettings
from gateway.upload_tokens import UploadTokens
from services.runtime.errors import Unauthenticated
from tests.unit.gateway.application import TOKENS, client_of, parts

KEY = "k" * 32
NEEDED: dict[str, Any] = {
    "edge_url": "https://edge.example",
    "jwt_issuer": "i",
    "jwt_audience": "a",
    "jwks_url": "https://issuer.example/jwks",
}


def forged(key: Any = KEY, algorithm: str = "HS256", typ: str = "millrace-upload+jwt", **changes: Any) -> str:
    now_s = int(time.time())
    claims = {
        "sub": "alice",
        "iss": "millrace-gateway",
        "aud": "millrace-uploads",
        "iat": now_s,
        "exp": now_s + 3_600,
        **changes,
    }
    left = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(left, key, algorithm=algorithm, headers={"typ": typ})


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=128))
def test_a_token_names_its_user_until_it_ends(user: str) -> None:
    token = TOKENS.mint(user)
    caller = TOKENS.caller(token.text)
    assert (caller.user_id, caller.expires_at) == (user, token.expires_at)
    assert timedelta(hours=11, minutes=59) < token.expires_at - datetime.now(UTC) <= timedelta(hours=12)
    assert set(token.text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_the_forgery_of_these_tests_is_taken_when_nothing_is_wrong() -> None:
    assert TOKENS.caller(forged()).user_id == "alice"


@pytest.mark.parametrize(
    "token",
    [
        forged(key="x" * 32),
        forged(algorithm="HS512", key="k" * 64),
        forged(algorithm="none", key=None),
        forged(typ="JWT"),
        forged(iss="issuer"),
        forged(aud="millrace"),
        forged(exp=None),
        forged(sub=None),
        "",
        "s3",
        "a.b.c",
        "e" * 4_000,
    ],
)
def test_anything_else_does_not_verify(token: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        TOKENS.caller(token)
    assert refused.value.reason == "TOKEN_INVALID"


def test_a_token_ends() -> None:
    with pytest.raises(Unauthenticated) as refused:
        TOKENS.caller(forged(exp=int(time.time()) - 1))
    assert refused.value.reason == "TOKEN_EXPIRED"


def test_another_key_makes_all_tokens_void() -> None:
    other = UploadTokens(SecretStr("n" * 32), timedelta(hours=1))
    with pytest.raises(Unauthenticated):
        other.caller(TOKENS.mint("alice").text)


async def test_whoever_may_ask_gets_an_endpoint_for_uppy() -> None:
    async with client_of(parts()) as client:
        response = await client.post("/v1/upload-tokens")
        again = await client.post("/v1/upload-tokens", json={"cookie": False})
        stranger = await client.post("/v1/upload-tokens", headers={"Authorization": ""})
    body = response.json()
    assert (response.status_code, again.status_code, stranger.status_code) == (201, 201, 401)
    assert TOKENS.caller(body["token"]).user_id == "alice"
    assert body["endpoint"] == f"https://gateway.example/uppy/{body['token']}"
    assert "set-cookie" not in response.headers
    assert response.headers["cache-control"] == "no-store"


async def test_pages_of_our_own_get_a_cookie_that_only_uppys_routes_see() -> None:
    async with client_of(parts()) as client:
        response = await client.post("/v1/upload-tokens", json={"cookie": True})
    body = response.json()
    assert body["endpoint"] == "https://gateway.example/uppy"
    value, *attributes = response.headers["set-cookie"].split("; ")
    assert value == f"millrace_upload={body['token']}"
    assert {one.lower() for one in attributes} == {
        "httponly",
        "max-age=43200",
        "path=/uppy",
        "samesite=strict",
        "secure",
    }


async def test_an_upload_token_is_no_bearer_token_and_grants_no_other_one() -> None:
    headers = {"Authorization": f"Bearer {TOKENS.mint('alice').text}"}
    async with client_of(parts()) as client:
        for method, path in (("GET", "/v1/media"), ("POST", "/v1/upload-tokens")):
            response = await client.request(method, path, headers=headers)
            assert response.status_code == 401
            assert response.json()["type"].endswith("/token-invalid")


async def test_a_bearer_token_is_no_upload_token() -> None:
    async with client_of(parts()) as client:
        bearer = client.headers["Authorization"].removeprefix("Bearer ")
        response = await client.get(f"/uppy/{bearer}/s3/params?filename=a", headers={"Authorization": ""})
        cookie = await client.get(
            "/uppy/s3/params", headers={"Authorization": "", "Cookie": f"millrace_upload={bearer}"}
        )
    assert (response.status_code, cookie.status_code) == (401, 401)
    assert response.json()["type"].endswith("/token-invalid")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/upload-tokens"), ("GET", "/uppy/s3/params"), ("GET", "/uppy/x/s3/params")]
)
async def test_without_a_key_there_are_none(method: str, path: str) -> None:
    async with client_of(parts(has_upload_tokens=False)) as client:
        response = await client.request(method, path)
    assert response.status_code == 404
    assert response.json()["type"].endswith("/upload-tokens-disabled")


@pytest.mark.parametrize(
    ("fetch_site", "origin", "is_own"),
    [
        ("same-origin", None, True),
        ("same-origin", "https://gateway.example", True),
        ("same-site", None, False),
        ("same-site", "https://gateway.example", False),
        ("cross-site", None, False),
        ("none", None, False),
        (None, "https://gateway.example", True),
        (None, "https://GATEWAY.example", True),
        (None, "http://gateway.example", False),
        (None, "https://gateway.example:8443", False),
        (None, "https://other.example", False),
        (None, "null", False),
        (None, None, True),
    ],
)
def test_a_cookie_counts_on_pages_of_our_own(fetch_site: str | None, origin: str | None, is_own: bool) -> None:
    def check() -> None:
        upload_tokens.check_own_page(fetch_site=fetch_site, origin=origin, own_url="https://gateway.example/")

    if is_own:
        check()
    else:
        with pytest.raises(Unauthenticated):
            check()


def test_a_short_key_is_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="32 bytes"):
        GatewaySettings(**NEEDED, upload_token_key=SecretStr("k" * 31))
    assert "kkk" not in repr(GatewaySettings(**NEEDED, upload_token_key=SecretStr(KEY)))


@pytest.mark.parametrize(
    "origins",
    ["https://s3.example; script-src *", "https://s3.example/path", "'unsafe-inline'", "ftp://a", "s3.example"],
)
def test_origins_cannot_break_out_of_their_header(origins: str) -> None:
    with pytest.raises(ValidationError, match="not an origin"):
        GatewaySettings(**NEEDED, upload_origins=origins)
