"""Who asks: bearer tokens that are JWTs of one issuer, for one audience, signed with one pinned algorithm.

The algorithm comes from the settings and never from the token, so neither `none` nor an HMAC keyed with the public key
can pass (RFC 8725 §3.1).
"""

import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.exceptions import PyJWTError

from gateway.jwks import Jwks
from gateway.settings import GatewaySettings
from services.runtime.errors import Unauthenticated

LEEWAY_S: Final = 30
"""Clocks of issuer and gateway may differ by this much."""

_MAX_TOKEN_CHARS: Final = 8_192
_MAX_USER_CHARS: Final = 128

Key: TypeAlias = jwt.PyJWK | EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey | bytes
KeySource: TypeAlias = Callable[[str], Awaitable[Key]]
"""Finds the key (from a set, or PEM) that a token names.

Raises Unauthenticated where there is none, Unavailable where nobody can tell right now.
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and until when they have proven it."""

    user_id: str
    expires_at: datetime


class Authenticator:
    """Turns a bearer token into a caller."""

    def __init__(self, key_source: KeySource, *, algorithm: str, issuer: str, audience: str) -> None:
        self._key_source = key_source
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience

    async def caller(self, token: str | None) -> Caller:
        """Verifies a token.

        Args:
            token: what follows `Bearer` in the Authorization header; None where there is none.

        Raises:
            Unauthenticated: no token, or one that does not verify; the message says which, and no more.
            Unavailable: the issuer's keys cannot be read right now.
        """
        if not token:
            raise Unauthenticated("send a bearer token in the Authorization header", reason="TOKEN_MISSING")
        if len(token) > _MAX_TOKEN_CHARS:
            raise _invalid()
        key = await self._key_source(token)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired", reason="TOKEN_EXPIRED") from error
        except (PyJWTError, ValueError, TypeError) as error:
            raise _invalid() from error
        return Caller(_user_of(claims["sub"]), _time_of(claims["exp"]))


def authenticator(settings: GatewaySettings) -> Authenticator:
    """The authenticator that the settings describe."""
    source = from_jwks(Jwks(settings.jwks_url)) if settings.jwks_url else _from_file(settings.jwt_public_key_file)
    return Authenticator(
        source, algorithm=settings.jwt_algorithm, issuer=settings.jwt_issuer, audience=settings.jwt_audience
    )


def from_jwks(keys: Jwks) -> KeySource:
    """Keys that the issuer publishes, by the token's `kid`."""

    async def key_of(token: str) -> Key:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except PyJWTError as error:
            raise _invalid() from error
        if not isinstance(kid, str) or (key := await keys.key(kid)) is None:
            raise _invalid()
        return key

    return key_of


def from_key(key: Key) -> KeySource:
    """One key for every token."""

    async def key_of(token: str) -> Key:
        return key

    return key_of


def _from_file(path: Path | None) -> KeySource:
    if path is None:
        raise ValueError("no key file")
    key = load_pem_public_key(path.read_bytes())  # once: PyJWT would parse the PEM again for every token
    if not isinstance(key, EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey):
        raise ValueError(f"{path}: no key of an algorithm that is taken")  # noqa: TRY004 it is the file that is wrong
    return from_key(key)


def _user_of(subject: Any) -> str:
    if (
        not isinstance(subject, str)
        or not 1 <= len(subject) <= _MAX_USER_CHARS
        or any(unicodedata.category(character).startswith("C") for character in subject)
    ):
        raise _invalid()
    return subject


def _time_of(expiry_s: Any) -> datetime:
    try:
        return datetime.fromtimestamp(float(expiry_s), UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _invalid() -> Unauthenticated:
    return Unauthenticated("the token does not verify", reason="TOKEN_INVALID")
