"""The real edge, warmed as publishing warms it."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from services.manifest.edge import HttpEdge
from services.manifest.warming import Warmth
from services.runtime.blobs import Blobs
from tests.env import Env


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


async def put(storage: Blobs, key: str, data: bytes) -> None:
    await storage.put("delivery", key, data, content_type="video/mp4", sha256=hashlib.sha256(data).digest())


async def test_what_was_warmed_the_edge_has(storage: Blobs, infra: Env, http: httpx.AsyncClient) -> None:
    folder = f"warm/{secrets.token_hex(8)}"
    keys = [f"{folder}/{number}" for number in range(20)]
    for key in keys:
        await put(storage, key, key.encode() * 10_000)
    edge = HttpEdge(http, infra["MILLRACE_EDGE_URL"], concurrency=4, budget_s=10)
    assert await edge.warm([*keys, f"{folder}/missing"]) == Warmth(20, 1)
    for key in keys:
        answer = await http.get(f"{infra['MILLRACE_EDGE_URL']}/{key}")
        assert answer.headers["x-cache"] == "HIT"
        assert answer.content == key.encode() * 10_000


async def test_an_edge_that_is_not_there_fails_nothing(http: httpx.AsyncClient, unused_tcp_port: int) -> None:
    edge = HttpEdge(http, f"http://127.0.0.1:{unused_tcp_port}", concurrency=4, budget_s=5)
    assert await edge.warm(["a", "b"]) == Warmth(0, 2)


async def test_whatever_breaks_on_the_way_fails_nothing() -> None:
    async def hook(request: httpx.Request) -> None:
        raise RuntimeError("no error of the HTTP library")

    async with httpx.AsyncClient(event_hooks={"request": [hook]}) as client:
        edge = HttpEdge(client, "http://127.0.0.1:1", concurrency=2, budget_s=5)
        assert await edge.warm(["a", "b"]) == Warmth(0, 2)


async def test_warming_ends_when_its_time_is_up(http: httpx.AsyncClient) -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    began = time.monotonic()
    async with server:
        edge = HttpEdge(http, f"http://{host}:{port}", concurrency=2, budget_s=0.2)
        assert await edge.warm(["a", "b", "c"]) == Warmth(0, 3)
    assert time.monotonic() - began < 2
