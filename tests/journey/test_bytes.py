"""R1: file bytes never pass through our processes, shown by counting what their links carry."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

import millrace
from deploy.local.stack import Stack
from tests.env import Env
from tests.journey.relay import relay_to

pytestmark = pytest.mark.journey

FILE_BYTES = 48 * 1024 * 1024


@asynccontextmanager
async def running(module: list[str], env: Env, log: Path) -> AsyncIterator[None]:
    """One process of ours with settings of its own."""
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *module, env={**os.environ, **env}, stderr=stderr
        )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def until_ready(url: str) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(30):
        while True:
            try:
                if (await http.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def test_no_file_byte_crosses_gateway_or_upload_service(
    suite: Stack, env: Env, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """Every link into gateway and upload service on which a file could come goes through a counter."""
    upload, gateway = (f"127.0.0.1:{unused_tcp_port_factory()}" for _ in range(2))
    storage = env["MILLRACE_S3_ENDPOINT_URL"]
    async with (
        relay_to(storage.removeprefix("http://")) as upload_to_storage,
        relay_to(upload) as gateway_to_upload,
        relay_to(gateway) as client_to_gateway,
    ):
        own = {
            **env,
            "MILLRACE_UPLOAD_LISTEN": upload,
            "MILLRACE_UPLOAD_TARGET": gateway_to_upload.address,
            "MILLRACE_GATEWAY_LISTEN": gateway,
            "MILLRACE_GATEWAY_URL": f"http://{client_to_gateway.address}",
            "MILLRACE_S3_ENDPOINT_URL": f"http://{upload_to_storage.address}",
            "MILLRACE_S3_PUBLIC_ENDPOINT_URL": storage,
        }
        async with (
            running(["services", "upload"], own, tmp_path / "upload.log"),
            running(["gateway"], own, tmp_path / "gateway.log"),
        ):
            await until_ready(f"http://{client_to_gateway.address}")
            source = tmp_path / "noise.mp4"
            source.write_bytes(secrets.token_bytes(FILE_BYTES))
            async with millrace.Client(f"http://{client_to_gateway.address}", suite.token("carol")) as client:
                media = await millrace.upload(client, source)
                assert media.size_bytes == FILE_BYTES
    carried = [link.carried_bytes for link in (client_to_gateway, gateway_to_upload, upload_to_storage)]
    assert all(link_bytes > 0 for link_bytes in carried), "the counters were not on the way"
    assert sum(carried) < FILE_BYTES / 100, f"links carried {carried} bytes"
