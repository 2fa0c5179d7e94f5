"""What surrounds every route: size limits, headers, one line of log, and an answer to whatever nobody caught."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

import structlog
from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from services.runtime import telemetry
from services.runtime.errors import Internal

_QUIET_PATHS: Final = ("/healthz", "/readyz", "/static/")
_TOKEN_IN_UPPY_PATH: Final = re.compile(r"/+uppy/+(?!s3(?:/|$))([^/]+)")
_JWT_IN_PATH: Final = re.compile(r"eyJ[\w-]+\.[\w-]*\.[\w-]*")

_log = structlog.get_logger(__name__)


class PathTokens:
    """Takes upload tokens out of paths before anything looks at a path: logs, spans and problems never hold one.

    `/uppy/<token>/s3/…` goes on as `/uppy/s3/…`, with the token as `upload_token` in the request's state. What looks
    like a token elsewhere in a path, for instance below a misspelt one, becomes a dash.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] == "http":
            path, token = without_token(scope["path"])
            if path != scope["path"]:
                state = {**scope.get("state", {}), "upload_token": token}
                scope = {**scope, "path": path, "raw_path": quote(path).encode(), "state": state}
        await self._app(scope, receive, send)


def without_token(path: str) -> tuple[str, str | None]:
    """A path without the upload token in it, and that token; None where there is none."""
    if found := _TOKEN_IN_UPPY_PATH.match(path):
        return "/uppy" + _JWT_IN_PATH.sub("-", path[found.end() :]), found[1]
    return _JWT_IN_PATH.sub("-", path), None


class BodyLimit:
    """Refuses bodies above the limit of their path, by their announced length or as they arrive."""

    def __init__(self, app: ASGIApp, *, limit_bytes: Callable[[str], int]) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit_bytes = self._limit_bytes(scope["path"])
        refusal = f"a body may have up to {limit_bytes:,} bytes here"
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced) > limit_bytes:
            await problems.of_status(413, scope["path"], refusal, {"Connection": "close"})(scope, receive, send)
            return
        received_bytes = 0

        async def counted() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > limit_bytes:
                raise HTTPException(413, refusal, {"Connection": "close"})
            return message

        await self._app(scope, counted, send)


class Envelope:
    """Adds headers, the trace among them, writes the access log, and answers what nobody caught.

    The log holds the path but neither query nor headers, hence no token.
    """

    def __init__(self, app: ASGIApp, *, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if traceparent := telemetry.trace_headers().get("traceparent"):
                    headers["traceresponse"] = traceparent
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass
        except Exception as error:
            _log.exception("unhandled_error", method=scope["method"], path=scope["path"])
            trace.get_current_span().record_exception(error)
            if status:
                raise
            answer = problems.of_error(Internal("internal error"), scope["path"])
            await answer(scope, receive, send_with_headers)
        finally:
            if not is_quiet(scope):
                _log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    duration_ms=round((time.monotonic() - started_s) * 1_000, 1),
                )


def is_quiet(scope: Scope) -> bool:
    """Whether a request is asked for all the time, or by every page: such are neither traced nor logged."""
    path: str = scope.get("path", "")
    return path.startswith(_QUIET_PATHS) or scope.get("method") == "OPTIONS"


def security_headers(edge_url: str, upload_origins: str = "") -> dict[str, str]:
    """Headers of every answer: scripts and styles of our own only, media from the edge, files to storage, no framing.

    Args:
        edge_url: the CDN's base URL.
        upload_origins: origins that presigned URLs lead to, separated by spaces.
    """
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": f"'self' data: {edge_url}",
        "media-src": f"'self' blob: {edge_url}",
        "connect-src": " ".join(("'self'", edge_url, *upload_origins.split())),
        "worker-src": "'self' blob:",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
