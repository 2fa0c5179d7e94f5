"""The service as it is run: server, relay and reconciler together."""

import asyncio
import secrets

import pytest

from media.v1 import events_pb2
from services.metadata import app
from services.metadata.settings import MetadataSettings
from services.runtime import grpc_client
from services.runtime.bus import Bus
from tests.integration.metadata.calls import Metadata

SOON_S = 10.0


async def test_it_serves_announces_and_ends_when_told(
    settings: MetadataSettings, broker: Bus, user: str, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    for name, value in {
        "MILLRACE_DATABASE_URL": settings.database_url.get_secret_value(),
        "MILLRACE_NATS_URL": settings.nats_url,
        "MILLRACE_METADATA_LISTEN": f"127.0.0.1:{unused_tcp_port}",
    }.items():
        monkeypatch.setenv(name, value)
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def listen() -> None:
        async for announced in broker.listen("media.uploaded"):
            heard.put_nowait(announced)

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen())
        serving = group.create_task(app.serve(stop))
        async with grpc_client.channel(f"127.0.0.1:{unused_tcp_port}") as channel:
            upload = await Metadata(channel).processing(user, request_id=secrets.token_hex(8))
            _, body = await asyncio.wait_for(heard.get(), SOON_S)
        assert events_pb2.MediaUploaded.FromString(body).media_id == upload.media_id
        stop.set()
        await asyncio.wait_for(serving, SOON_S)
        listening.cancel()
