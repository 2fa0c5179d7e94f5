"""Wires the gateway together and serves it."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from gateway import auth, clients, problems
from gateway.dependencies import Parts
from gateway.feed import Feed
from gateway.middleware import BodyLimit, Envelope, is_quiet, security_headers
from gateway.routes import events, health, media, pages, uploads
from gateway.settings import GatewaySettings
from gateway.views import Addresses
from services.runtime import bus
from services.runtime.errors import Unavailable

BODY_BYTES: Final = 65_536
_DRAIN_S: Final = 5
_BACKLOG: Final = 2_048
"""Connections that may wait to be accepted in a burst."""

_DESCRIPTION: Final = """Upload images and videos straight to object storage, follow their processing, play the result.

1. `POST /v1/initiate-upload` with name, type and size; it answers with presigned URLs.
2. PUT every part to its URL and keep the `ETag` of each answer.
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
        )
        with _listening(settings.gateway_listen) as listener:
            server = Server(_config(application(parts)))
            async with asyncio.TaskGroup() as group:
                following = group.create_task(parts.feed.follow(broker))
                stopping = group.create_task(_end(server, parts))
                _log.info("http_serving", address=settings.gateway_listen)
                await server.serve(sockets=[listener])
                following.cancel()
                stopping.cancel()


def application(parts: Parts) -> ASGIApp:
    """The whole application: routes within their envelope within a span."""
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
            {"name": "media", "description": "Where a media stands, and where viewers find it."},
            {"name": "health", "description": "For load balancers and orchestrators."},
        ],
    )
    app.state.parts = parts
    problems.install(app)
    for module in (uploads, media, events, health, pages):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    app.add_middleware(
        BodyLimit, default_bytes=BODY_BYTES, by_path_bytes={uploads.COMPLETE_PATH: uploads.COMPLETE_BODY_BYTES}
    )
    app.add_middleware(Envelope, headers=security_headers(parts.addresses.edge_url))
    return app


def _addresses(settings: GatewaySettings) -> Addresses:
    return Addresses(
        gateway_url=settings.gateway_url.rstrip("/"),
        edge_url=settings.edge_url.rstrip("/"),
        traces_url=settings.traces_url.rstrip("/"),
    )


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
