"""The upload service and the metadata service behind it, in this process, on real servers."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING
from unittest import mock

import grpc
import pytest

from media.v1.upload_service_pb2_grpc import UploadServiceStub
from services.metadata import app as metadata
from services.runtime import grpc_client
from services.upload import app as upload
from tests.env import Env
from tests.integration.upload.calls import PART_BYTES

if TYPE_CHECKING:
    from media.v1.upload_service_pb2_grpc import UploadServiceAsyncStub


@pytest.fixture(scope="module")
def env(infra: Env, database_url: str, unused_tcp_port_factory: Callable[[], int]) -> Env:
    """Settings of both services."""
    metadata_, upload_ = (f"127.0.0.1:{unused_tcp_port_factory()}" for _ in range(2))
    return {
        **infra,
        "MILLRACE_DATABASE_URL": database_url,
        "MILLRACE_METADATA_LISTEN": metadata_,
        "MILLRACE_METADATA_TARGET": metadata_,
        "MILLRACE_UPLOAD_LISTEN": upload_,
        "MILLRACE_UPLOAD_TARGET": upload_,
        "MILLRACE_UPLOAD_PART_SIZE_BYTES": str(PART_BYTES),
        "MILLRACE_UPLOAD_SWEEP_INTERVAL_S": "0.2",
    }


@pytest.fixture(scope="module")
async def channel(env: Env) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the upload service."""
    stop = asyncio.Event()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(metadata.serve(stop))
            group.create_task(upload.serve(stop))

    with mock.patch.dict(os.environ, env):
        running = asyncio.create_task(run())
        async with grpc_client.channel(env["MILLRACE_UPLOAD_TARGET"]) as opened:
            async with asyncio.timeout(20):
                await opened.channel_ready()
                async with grpc_client.channel(env["MILLRACE_METADATA_TARGET"]) as behind:
                    await behind.channel_ready()
            yield opened
        stop.set()
        await running


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> "UploadServiceAsyncStub":
    return UploadServiceStub(channel)
