"""The keys that the issuer publishes (RFC 7517), kept here, so that no outage of the issuer is one of ours."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import httpx
import jwt
import structlog
from jwt.exceptions import PyJWTError

from services.runtime.errors import Unavailable

_LIFESPAN_S: Final = 300.0
_UNKNOWN_PAUSE_S: Final = 30.0
"""A new key is found this late at the latest; made-up `kid`s cause no more requests than that."""
_FAILURE_PAUSE_S: Final = 5.0
_TIMEOUT_S: Final = 3.0

_log = structlog.get_logger(__name__)


class Jwks:
    """The key set at a URL: kept for five minutes, and for longer while it cannot be read again."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is fetched yet; `clock` counts seconds and never goes back."""
        self._url = url
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._tried_at_s = float("-inf")
        self._failed = False
        self._refreshing = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """The key with this identifier; None where the issuer has none.

        Raises:
            Unavailable: it is not known here, and the issuer does not answer within three seconds.
        """
        # Who holds a key that has merely grown old need not wait while somebody else asks for it.
        if self._is_due(kid) and not (kid in self._keys and self._refreshing.locked()):
            async with self._refreshing:
                if self._is_due(kid):
                    await self._refresh()
        if kid not in self._keys and self._failed:
            raise Unavailable("the issuer's keys cannot be read", reason="KEYS_UNAVAILABLE")
        return self._keys.get(kid)

    def _is_due(self, kid: str) -> bool:
        pause_s = _LIFESPAN_S if kid in self._keys else _UNKNOWN_PAUSE_S
        return self._clock() - self._tried_at_s >= (_FAILURE_PAUSE_S if self._failed else pause_s)

    async def _refresh(self) -> None:
        self._tried_at_s = self._clock()
        self._failed = True
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                self._keys = await self._fetch()
        except (httpx.HTTPError, httpx.InvalidURL, PyJWTError, ValueError, TypeError, OSError) as error:
            _log.warning("keys_not_read", url=self._url, error=repr(error))
        else:
            self._failed = False

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        async with httpx.AsyncClient(follow_redirects=True, timeout=_TIMEOUT_S) as client:
            answer = (await client.get(self._url)).raise_for_status().json()
        if not isinstance(answer, dict):
            raise TypeError("not a JSON object")
        return {
            key.key_id: key
            for key in jwt.PyJWKSet.from_dict(answer)
            if key.key_id and key.public_key_use in ("sig", None)
        }
