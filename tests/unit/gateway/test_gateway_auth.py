"""Tokens: what passes, and the many that must not."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm

from gateway import auth
from gateway.auth import Authenticator
from gateway.jwks import Jwks
from services.runtime.errors import Unauthenticated, Unavailable
from tests.unit.gateway.serving import JsonApp, served

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changes: Any) -> dict[str, Any]:
    now_s = int(time.time())
    base = {"sub": "alice", "iss": "issuer", "aud": "millrace", "iat": now_s, "exp": now_s + 600}
    return {name: value for name, value in (base | changes).items() if value is not None}


def signed(payload: Mapping[str, Any] | None = None, *, headers: dict[str, Any] | None = None) -> str:
    return jwt.encode(dict(payload or claims()), KEY, algorithm="ES256", headers=headers)


def authenticator(algorithm: str = "ES256", key: bytes = PUBLIC_PEM) -> Authenticator:
    return Authenticator(auth.from_key(key), algorithm=algorithm, issuer="issuer", audience="millrace")


async def refusal(token: str | None) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await authenticator().caller(token)
    return refused.value.reason


async def test_a_good_token_tells_the_user_and_its_end() -> None:
    payload = claims()
    caller = await authenticator().caller(signed(payload))
    assert caller.user_id == "alice"
    assert caller.expires_at.timestamp() == payload["exp"]


@pytest.mark.parametrize("token", [None, ""])
async def test_no_token(token: str | None) -> None:
    assert await refusal(token) == "TOKEN_MISSING"


@pytest.mark.parametrize("token", ["x", "a.b.c", "é", "a" * 9_000, "..", signed()[:-4] + "AAAA"])
async def test_not_a_token_of_ours(token: str) -> None:
    assert await refusal(token) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody"},
        {"iss": None},
        {"aud": "others"},
        {"aud": None},
        {"exp": None},
        {"iat": None},
        {"iat": int(time.time()) + 3_600},
        {"nbf": int(time.time()) + 3_600},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 129},
        {"sub": "a\nb"},
    ],
    ids=str,
)
async def test_claims_that_are_wrong_or_missing(changes: dict[str, Any]) -> None:
    payload = claims(**changes)
    token = jwt.api_jws.encode(json.dumps(payload).encode(), KEY, algorithm="ES256")
    assert await refusal(token) == "TOKEN_INVALID"


async def test_expired_beyond_the_leeway() -> None:
    now_s = int(time.time())
    assert await refusal(signed(claims(iat=now_s - 900, exp=now_s - auth.LEEWAY_S - 5))) == "TOKEN_EXPIRED"
    assert await authenticator().caller(signed(claims(iat=now_s - 900, exp=now_s - auth.LEEWAY_S + 10)))


async def test_alg_none_is_refused() -> None:
    assert await refusal(jwt.encode(claims(), "", algorithm="none")) == "TOKEN_INVALID"


async def test_an_hmac_keyed_with_the_public_key_is_refused() -> None:
    def encoded(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signing_input = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(claims())}"
    mac = hmac.new(PUBLIC_PEM, signing_input.encode(), hashlib.sha256).digest()
    token = f"{signing_input}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert await refusal(token) == "TOKEN_INVALID"


async def test_another_key_or_another_algorithm_is_refused() -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert await refusal(jwt.encode(claims(), stranger, algorithm="ES256")) == "TOKEN_INVALID"
    rsa_key = rsa.generate_private_key(65537, 2048)
    assert await refusal(jwt.encode(claims(), rsa_key, algorithm="RS256")) == "TOKEN_INVALID"


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
async def test_the_algorithm_is_a_setting(algorithm: str) -> None:
    key: Any = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ed25519.Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    token = jwt.encode(claims(), key, algorithm=algorithm)
    assert (await authenticator(algorithm, pem).caller(token)).user_id == "alice"
    with pytest.raises(Unauthenticated):
        await authenticator(algorithm, pem).caller(signed())


@pytest.fixture
async def jwks() -> AsyncIterator[tuple[str, JsonApp]]:
    """A JWKS URL over HTTP, and what it answers."""
    jwk = ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k1", "use": "sig", "alg": "ES256"}
    app = JsonApp({"keys": [jwk]})
    async with served(uvicorn.Config(app, lifespan="off", log_config=None)) as url:
        yield f"{url}/jwks.json", app


def jwks_authenticator(url: str, clock: Callable[[], float] = time.monotonic) -> Authenticator:
    keys = auth.from_jwks(Jwks(url, clock=clock))
    return Authenticator(keys, algorithm="ES256", issuer="issuer", audience="millrace")


async def test_keys_come_from_the_jwks_url_and_are_kept(jwks: tuple[str, JsonApp]) -> None:
    url, app = jwks
    verifier = jwks_authenticator(url)
    for _ in range(3):
        assert (await verifier.caller(signed(headers={"kid": "k1"}))).user_id == "alice"
    assert app.request_count == 1


@pytest.mark.parametrize("headers", [{"kid": "other"}, None, {"jku": "https://evil.example/jwks.json", "kid": "other"}])
async def test_an_unknown_key_is_refused_without_a_storm_of_requests(
    jwks: tuple[str, JsonApp], headers: dict[str, Any] | None
) -> None:
    url, app = jwks
    verifier = jwks_authenticator(url)
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await verifier.caller(signed(headers=headers))
    assert app.request_count <= 1


async def test_an_issuer_that_does_not_answer_is_an_outage_not_a_refusal() -> None:
    with pytest.raises(Unavailable):
        await jwks_authenticator("http://127.0.0.1:9/jwks.json").caller(signed(headers={"kid": "k1"}))


@pytest.mark.parametrize("document", ["text", [], {}, {"keys": []}, {"keys": "none"}, {"keys": [{"kid": 1}]}], ids=str)
async def test_an_answer_that_is_no_key_set_is_an_outage_too(jwks: tuple[str, JsonApp], document: object) -> None:
    url, app = jwks
    app.document = document
    with pytest.raises(Unavailable):
        await jwks_authenticator(url).caller(signed(headers={"kid": "k1"}))


async def test_an_html_page_is_an_outage_too(jwks: tuple[str, JsonApp]) -> None:
    url, app = jwks
    app.body = b"<html>be right back</html>"
    with pytest.raises(Unavailable):
        await jwks_authenticator(url).caller(signed(headers={"kid": "k1"}))


async def test_known_keys_outlive_an_outage_of_the_issuer(jwks: tuple[str, JsonApp]) -> None:
    url, app = jwks
    now_s = 0.0
    verifier = jwks_authenticator(url, lambda: now_s)
    token = signed(headers={"kid": "k1"})
    assert await verifier.caller(token)
    good, app.document = app.document, {"error": "try later"}
    now_s = 301.0
    for _ in range(3):
        assert await verifier.caller(token)
    assert app.request_count == 2  # tried again, but not by every request
    with pytest.raises(Unavailable):  # perhaps a new key: nobody can tell
        await verifier.caller(signed(headers={"kid": "k2"}))
    app.document, now_s = good, 310.0
    assert await verifier.caller(token)
    with pytest.raises(Unauthenticated):
        await verifier.caller(signed(headers={"kid": "k2"}))


async def test_a_silent_issuer_holds_nobody_for_longer_than_one_try() -> None:
    connections: list[asyncio.StreamWriter] = []

    def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    verifier = jwks_authenticator(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/jwks.json")
    began_s = time.monotonic()
    outcomes = await asyncio.gather(
        *(verifier.caller(signed(headers={"kid": "k1"})) for _ in range(6)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 6
    assert time.monotonic() - began_s < 4.5
    assert len(connections) == 1
    connections[0].close()
    silent.close()
