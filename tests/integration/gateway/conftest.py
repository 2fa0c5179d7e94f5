"""Gateway, upload and metadata in this process, on real storage, database and broker."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from unittest import mock

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deploy.local.stack import Stack
from gateway import app as gateway
from services.metadata import app as metadata
from services.upload import app as upload
from tests.env import Env
from tests.integration.gateway.client import Uploader

PART_BYTES = 5 * 1024 * 1024
WINDOW_PARTS = 2


@pytest.fixture(scope="package")
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span of this process that ends from here on, of the gateway and the services alike."""
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


@pytest.fixture(scope="module")
def env(infra: Env, database_url: str, unused_tcp_port_factory: Callable[[], int]) -> Env:
    """Settings with small parts and windows."""
    addresses = {name: f"127.0.0.1:{unused_tcp_port_factory()}" for name in ("metadata", "upload", "gateway")}
    return {
        **infra,
        "MILLRACE_DATABASE_URL": database_url,
        "MILLRACE_METADATA_LISTEN": addresses["metadata"],
        "MILLRACE_METADATA_TARGET": addresses["metadata"],
        "MILLRACE_UPLOAD_LISTEN": addresses["upload"],
        "MILLRACE_UPLOAD_TARGET": addresses["upload"],
        "MILLRACE_GATEWAY_LISTEN": addresses["gateway"],
        "MILLRACE_GATEWAY_URL": f"http://{addresses['gateway']}",
        "MILLRACE_UPLOAD_PART_SIZE_BYTES": str(PART_BYTES),
        "MILLRACE_UPLOAD_WINDOW_PARTS": str(WINDOW_PARTS),
        "MILLRACE_UPLOAD_MAX_IMAGE_BYTES": "1000000",
    }


@pytest.fixture(scope="module")
async def url(env: Env, spans: InMemorySpanExporter) -> AsyncIterator[str]:
    """The gateway's base URL, with everything behind it ready."""
    async with serving(env, metadata.serve, upload.serve, gateway.serve):
        await until_ready(env["MILLRACE_GATEWAY_URL"])
        yield env["MILLRACE_GATEWAY_URL"]


@pytest.fixture
async def alice(url: str, servers: Stack) -> AsyncIterator[Uploader]:
    """One user."""
    async with Uploader(url, servers.token("alice")) as uploader:
        yield uploader


@pytest.fixture
async def bob(url: str, servers: Stack) -> AsyncIterator[Uploader]:
    """Another user."""
    async with Uploader(url, servers.token("bob")) as uploader:
        yield uploader


@asynccontextmanager
async def serving(env: Env, *serves: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[asyncio.Event]:
    """Services in this process until the block ends; yields what stops them before."""
    stop = asyncio.Event()

    async def run(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        await serve(stop)

    with mock.patch.dict(os.environ, env):
        async with asyncio.TaskGroup() as group:
            for serve in serves:
                group.create_task(run(serve))
            try:
                yield stop
            finally:
                stop.set()


async def until_ready(url: str) -> None:
    """Returns once a gateway can serve."""
    async with httpx.AsyncClient(base_url=url) as client, asyncio.timeout(20):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
