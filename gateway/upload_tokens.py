"""Upload tokens: the gateway's own short-lived proof of who uploads, for Uppy, which cannot send a bearer token.

A token is good for uploading as one user and for nothing else: the API takes bearer tokens of the issuer alone, and
those mean nothing here. The two differ in algorithm, key, issuer, audience and `typ` (RFC 8725 §3.9 to §3.11).
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from jwt.exceptions import PyJWTError
from pydantic import SecretStr

from gateway.auth import Caller
from services.runtime.errors import FailedPrecondition, Unauthenticated

COOKIE: Final = "millrace_upload"
"""Name of the cookie that carries a token for pages of the gateway's own origin."""

COOKIE_PATH: Final = "/uppy"

_ALGORITHM: Final = "HS256"
_ISSUER: Final = "millrace-gateway"
_AUDIENCE: Final = "millrace-uploads"
_TYPE: Final = "millrace-upload+jwt"
_MAX_TOKEN_CHARS: Final = 2_048


@dataclass(frozen=True, slots=True)
class UploadToken:
    """A token and when it ends."""

    text: str
    expires_at: datetime


class UploadTokens:
    """Makes upload tokens and verifies them. Nothing is stored; a token cannot be extended, and grants no other one."""

    def __init__(self, key: SecretStr, lifetime: timedelta) -> None:
        self._key = key.get_secret_value().encode()
        self.lifetime = lifetime

    def mint(self, user_id: str) -> UploadToken:
        """A token for uploads of this user, good from now on."""
        now_s = int(time.time())
        expires_s = now_s + int(self.lifetime.total_seconds())
        claims = {"sub": user_id, "iss": _ISSUER, "aud": _AUDIENCE, "iat": now_s, "exp": expires_s}
        text = jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"typ": _TYPE})
        return UploadToken(text, datetime.fromtimestamp(expires_s, UTC))

    def caller(self, token: str) -> Caller:
        """Verifies a token.

        Raises:
            Unauthenticated: it has expired, or is none of ours.
        """
        if len(token) > _MAX_TOKEN_CHARS:
            raise _invalid()
        try:
            decoded = jwt.decode_complete(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                audience=_AUDIENCE,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the upload token has expired", reason="TOKEN_EXPIRED") from error
        except (PyJWTError, ValueError, TypeError) as error:
            raise _invalid() from error
        claims: dict[str, Any] = decoded["payload"]
        if decoded["header"].get("typ") != _TYPE:
            raise _invalid()
        return Caller(claims["sub"], datetime.fromtimestamp(claims["exp"], UTC))


def disabled() -> FailedPrecondition:
    """The refusal of a gateway that has no key for upload tokens."""
    return FailedPrecondition("upload tokens are turned off here", reason="UPLOAD_TOKENS_DISABLED")


def check_own_page(*, fetch_site: str | None, origin: str | None, own_url: str) -> None:
    """Refuses a cookie that came along with a call of somebody else's page.

    `SameSite=Strict` keeps the cookie from other sites; this keeps it from other origins of the same site as well,
    which matters since one of Uppy's calls begins an upload with a GET. Without either header the caller is no current
    browser, or the gateway is reached over plain HTTP, where browsers send none with a GET.

    Args:
        fetch_site: the Sec-Fetch-Site header.
        origin: the Origin header.
        own_url: of this gateway, as clients reach it.

    Raises:
        Unauthenticated: another page asks.
    """
    if fetch_site is not None:
        is_own = fetch_site == "same-origin"
    else:
        is_own = origin is None or _origin(origin) == _origin(own_url)
    if not is_own:
        raise Unauthenticated("the cookie is for pages of this origin", reason="COOKIE_CROSS_SITE")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _invalid() -> Unauthenticated:
    return Unauthenticated("the upload token does not verify", reason="TOKEN_INVALID")
