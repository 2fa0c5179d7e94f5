"""`python -m services` runs any set of services in one process."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

import millrace
from deploy.local.stack import Stack
from tests.integration.gateway.conftest import until_ready


async def test_four_services_in_one_process_publish_an_image_and_end_when_told(tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    Image.new("RGB", (1600, 900), "red").save(picture)
    with Stack(tmp_path / "stack", services=()) as stack:
        environment = {**os.environ, **stack.settings}
        with (tmp_path / "log").open("wb") as log:
            services, gateway = [
                await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=environment, stderr=log)
                for module in ("services", "gateway")
            ]
        try:
            async with (
                millrace.Client(stack.settings["MILLRACE_GATEWAY_URL"], stack.token("alice")) as client,
                asyncio.timeout(60),
            ):
                await until_ready(stack.settings["MILLRACE_GATEWAY_URL"])
                uploaded = await millrace.upload(client, picture)
                media = await millrace.wait_until_published(client, uploaded.media_id)
            assert media.playback is not None
            assert [thumbnail.size_px for thumbnail in media.playback.thumbnails] == [1200, 1200, 600, 600, 150, 150]
        finally:
            for process in (services, gateway):
                process.terminate()
            async with asyncio.timeout(30):
                codes = [await process.wait() for process in (services, gateway)]
        assert codes == [0, 0], (tmp_path / "log").read_text()


async def test_an_unknown_service_is_refused() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "upload", "downlaod", stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"no such service: downlaod" in said


@pytest.mark.parametrize("name", ["upload", "metadata", "transcode", "manifest"])
async def test_a_service_that_cannot_listen_says_so_and_ends(name: str, infra: dict[str, str]) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    host, port = taken.sockets[0].getsockname()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services",
        name,
        env={**os.environ, **infra, f"MILLRACE_{name.upper()}_LISTEN": f"{host}:{port}"},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    finally:
        taken.close()
    assert process.returncode == 1
    assert f"cannot listen at {host}:{port}".encode() in said
