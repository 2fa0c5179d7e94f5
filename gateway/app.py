"""Wires the gateway together and serves it."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from gateway import auth, clients, idempotency, problems
from gateway.admission import Admission
from gateway.dependencies import Parts
from gateway.feed import Feed
from gateway.middleware import BodyLimit, Envelope, PathTokens, is_quiet, security_headers
from gateway.routes import events, health, media, pages, quotas, upload_tokens, uploads, uppy
from gateway.settings import GatewaySettings
from gateway.upload_tokens import UploadTokens
from gateway.views import Addresses
from services.runtime import bus
from services.runtime.errors import Unavailable

BODY_BYTES: Final = 65_536
_DRAIN_S: Final = 5
_BACKLOG: Final = 2_048
"""Connections that may wait to be accepted in a burst."""

_CORS_METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
_CORS_REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Uppy-Versions",  # older Uppy clients tell their version
    "traceparent",
    "tracestate",
)
_CORS_RESPONSE_HEADERS: Final = ("Location", "Retry-After", "Idempotency-Replayed", "WWW-Authenticate", "traceresponse")
_CORS_MAX_AGE_S: Final = 7_200
"""As long as Chromium keeps the answer to a preflight at most."""

_DESCRIPTION: Final = """Upload images and videos straight to object storage, follow their processing, play the result.

1. `POST /v1/initiate-upload` with name, type and size; it answers with presigned URLs.
2. PUT every part to its URL, with the part's headers, and keep the `ETag` of each answer.
3. `POST /v1/complete-upload` with all ETags.
4. Follow `GET /v1/media/{media_id}/events` until the media is `published`, then play `playback.manifest_url`.

Every error is an `application/problem+json` (RFC 9457) with a stable `type` and what to do `next`.
"""

_log = structlog.get_logger(__name__)


async def serve(stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then drains: streams end, requests in flight get their time.

    Raises:
        Unavailable: the address cannot be bound, or the broker cannot be reached at first.
    """
    settings = GatewaySettings()
    async with (
        bus.connected(settings.nats_url, "gateway", replicas=settings.nats_replicas) as broker,
        clients.connected(settings) as services,
    ):
        parts = Parts(
            clients=services,
            bus=broker,
            feed=Feed(settings.gateway_max_event_streams),
            authenticator=auth.authenticator(settings),
            addresses=_addresses(settings),
            stopping=stop,
            idempotency_terms=idempotency.Terms(
                lease=timedelta(seconds=settings.idempotency_lease_s),
                keep=timedelta(seconds=settings.idempotency_keep_s),
            ),
            upload_tokens=_upload_tokens(settings),
            admission=Admission(settings.gateway_beginning_uploads, settings.gateway_patience_s),
        )
        with _listening(settings.gateway_listen) as listener:
            app = application(parts, upload_origins=settings.upload_origins, cors_origins=settings.gateway_cors_origins)
            server = Server(_config(app))
            async with asyncio.TaskGroup() as group:
                following = group.create_task(parts.feed.follow(broker))
                stopping = group.create_task(_end(server, parts))
                _log.info("http_serving", address=settings.gateway_listen)
                await server.serve(sockets=[listener])
                following.cancel()
                stopping.cancel()


def application(parts: Parts, *, upload_origins: str = "", cors_origins: str = "*") -> ASGIApp:
    """The whole application: routes within their envelope within a span, none of which sees a token in a path.

    Args:
        parts: what routes need.
        upload_origins: origins that presigned URLs lead to, separated by spaces.
        cors_origins: origins whose pages may call the API, separated by spaces.
    """
    app = FastAPI(
        title="Millrace",
        version="1",
        description=_DESCRIPTION,
        # FastAPI's own tracing: one server span a request, named by its route, in the stable semantic conventions.
        telemetry={"operation_spans": False, "metrics": False, "logs": False, "exclude": is_quiet},
        docs_url=None,
        redoc_url=None,
        openapi_tags=[
            {"name": "uploads", "description": "From a file to an original in object storage."},
            {
                "name": "uppy",
                "description": "Companion's S3 contract, for an unmodified `@uppy/aws-s3` of version 5 or 6. All of it "
                "is served below `/uppy/{upload_token}` as well, with the token in place of a header or the cookie.",
            },
            {"name": "media", "description": "Where a media stands, and where viewers find it."},
            {"name": "health", "description": "For load balancers and orchestrators."},
        ],
    )
    app.state.parts = parts
    problems.install(app)
    for module in (uploads, quotas, media, events, upload_tokens, uppy, health, pages):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    app.add_middleware(BodyLimit, limit_bytes=_body_limit_bytes)
    app.add_middleware(Envelope, headers=security_headers(parts.addresses.edge_url, upload_origins))
    app.add_middleware(
        CORSMiddleware,
        allow_origins=cors_origins.split(),
        allow_methods=_CORS_METHODS,
        allow_headers=_CORS_REQUEST_HEADERS,
        expose_headers=_CORS_RESPONSE_HEADERS,
        allow_credentials=False,  # tokens travel in headers and paths; the one cookie is for pages of our own
        max_age=_CORS_MAX_AGE_S,
    )
    return PathTokens(app)


def _body_limit_bytes(path: str) -> int:
    completes = path == uploads.COMPLETE_PATH or uppy.COMPLETE_PATH.fullmatch(path)
    return uploads.COMPLETE_BODY_BYTES if completes else BODY_BYTES


def _addresses(settings: GatewaySettings) -> Addresses:
    return Addresses(
        gateway_url=settings.gateway_url.rstrip("/"),
        edge_url=settings.edge_url.rstrip("/"),
        traces_url=settings.traces_url.rstrip("/"),
    )


def _upload_tokens(settings: GatewaySettings) -> UploadTokens | None:
    if not settings.upload_token_key.get_secret_value():
        return None
    return UploadTokens(settings.upload_token_key, timedelta(seconds=settings.upload_token_ttl_s))


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=65,  # longer than the usual 60 s of load balancers, so that they close first
        timeout_graceful_shutdown=_DRAIN_S,
    )


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own, for everything that runs in it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


async def _end(server: uvicorn.Server, parts: Parts) -> None:
    await parts.stopping.wait()
    parts.feed.wake_all()
    server.should_exit = True


@contextmanager
def _listening(listen: str) -> Iterator[socket.socket]:
    host, _, port = listen.rpartition(":")
    try:
        listener = socket.create_server((host, int(port)), backlog=_BACKLOG, reuse_port=False)
    except OSError as error:
        raise Unavailable(f"cannot listen at {listen}") from error
    with listener:
        yield listener
