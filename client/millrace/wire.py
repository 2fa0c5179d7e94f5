"""Requests to the gateway: the token, deadlines, retries, and problems turned into exceptions.

Every call here may be repeated safely: reads by nature, `initiate` by its Idempotency-Key, the others because the
gateway promises it. So all of them are retried alike.
"""

import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.request import getproxies

import httpx

from millrace.backoff import Backoff
from millrace.errors import NetworkError, UnexpectedAnswer, problem_from

TRANSIENT = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses after which the same request may succeed. A plain 500 is a defect, and asking again would repeat it."""

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_LONGEST_RETRY_AFTER_S = 900.0
_FIRST_ATTEMPTS = 4  # about 3 s: a gateway that never answered is more likely misspelt than out of reach

# Proxies of the environment are for other machines: without NO_PROXY, even a server on this one would go through them.
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64)


@cache
def tls() -> ssl.SSLContext:
    """Whom to trust; made once, since reading all certificates takes longer than a small upload."""
    return httpx.create_ssl_context()


def http_client(
    transport: httpx.AsyncBaseTransport | None = None,
    *,
    timeout: httpx.Timeout = _TIMEOUT,
    headers: Mapping[str, str] | None = None,
    base_url: str = "",
    in_the_clear: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """An httpx client as this package uses it: no redirects, no cookies of others, loopback past any proxy.

    Args:
        transport: replaces the network altogether.
        timeout: longest silences.
        headers: of every request.
        base_url: what paths are relative to.
        in_the_clear: takes plain HTTP that no proxy is asked for.
    """
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {f"all://{host}": None for host in _LOOPBACK}
    if in_the_clear:
        mounts |= {f"http://{host}": in_the_clear for host in _LOOPBACK}
        if not {"http", "all"} & set(getproxies()):
            mounts["http://"] = in_the_clear
    return httpx.AsyncClient(
        base_url=base_url,
        headers={"User-Agent": "millrace-python", **(headers or {})},
        timeout=timeout,
        limits=LIMITS,
        verify=tls(),
        transport=transport,
        mounts=mounts if transport is None else None,
    )


class Wire:
    """The gateway as this client speaks to it."""

    def __init__(
        self, base_url: str, token: str, *, backoff: Backoff, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = http_client(transport, base_url=base_url, headers=headers)
        self._backoff = backoff
        self._has_answered = False

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> dict[str, Any]:
        """Calls the gateway until it answers for good.

        Args:
            method: HTTP method.
            path: below the base URL, beginning with a slash.
            json: body, or None for no body.
            params: query.
            headers: beside the token's.
            timeout_s: longest silence of one try, in seconds.

        Returns:
            The answer's JSON object; empty where the answer has no body.

        Raises:
            ProblemError: the gateway refused, or kept failing; its subclasses say which.
            NetworkError: nobody answered, after every retry.
            UnexpectedAnswer: the answer is not a JSON object.
        """
        failures = 0
        while True:
            wait_s = 0.0
            timeout = httpx.Timeout(timeout_s, connect=10.0)
            try:
                response = await self._http.request(
                    method,
                    path,
                    json=json,
                    params=params,
                    headers=headers,
                    timeout=timeout,
                )
            except httpx.TransportError as error:
                failures += 1
                if failures >= self._attempts:
                    raise NetworkError(f"{self._http.base_url} cannot be reached: {reason_of(error)}") from error
            except (httpx.InvalidURL, httpx.StreamError, httpx.DecodingError) as error:
                raise UnexpectedAnswer(f"{self._http.base_url}: {reason_of(error)}") from error
            else:
                self._has_answered = True
                if response.is_success:
                    return _object_of(response)
                failures += 1
                if not _is_transient(response) or failures >= self._attempts:
                    raise _error_of(response)
                wait_s = retry_after_s(response)
            await self._backoff.pause(failures, at_least_s=wait_s)

    def stream(self, path: str, *, headers: Mapping[str, str], timeout: httpx.Timeout) -> Any:
        """An answer read as it comes: an asynchronous context manager of `httpx.Response`. Not retried here."""
        return self._http.stream("GET", path, headers=headers, timeout=timeout)

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._http.aclose()

    @property
    def base_url(self) -> str:
        """The gateway's URL, without a slash at its end."""
        return str(self._http.base_url).rstrip("/")

    @property
    def _attempts(self) -> int:
        """Tries of one call: as many as asked for, once it is known that a gateway is there."""
        return self._backoff.attempts if self._has_answered else min(_FIRST_ATTEMPTS, self._backoff.attempts)


def _is_transient(response: httpx.Response) -> bool:
    """Whether the same request may succeed: by its status, or because a conflict says so itself (one in flight)."""
    if response.status_code == 409:
        return problem_from(response).extra.get("retryable") is True
    return response.status_code in TRANSIENT


def reason_of(error: Exception) -> str:
    """Why a request failed, in a few words; httpx leaves the text of timeouts empty."""
    return str(error) or {"ConnectTimeout": "no connection in time", "ReadTimeout": "no answer in time"}.get(
        type(error).__name__, type(error).__name__
    )


def retry_after_s(response: httpx.Response) -> float:
    """Seconds the server asks to wait, at most a quarter of an hour; 0 where it says nothing or names a date."""
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isdecimal() else 0.0


def _object_of(response: httpx.Response) -> dict[str, Any]:
    if not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise UnexpectedAnswer(f"{response.url.copy_with(query=None)} answered with something else than JSON")
    return body


def _error_of(response: httpx.Response) -> Exception:
    if response.is_redirect:
        where = response.headers.get("location", "nowhere")
        return UnexpectedAnswer(f"the gateway leads elsewhere, to {where}: is the base URL right?")
    return problem_from(response)
