"""The pipeline with a database of its own for each module, and originals to send through it."""

import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nats
import pytest
from PIL import Image

from deploy.samples.clip import Clip, write_clip
from media.v1 import media_pb2
from services.manifest import app as manifest
from services.metadata import app as metadata
from services.runtime import grpc_client, topology
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.transcode import app as transcode
from tests.env import Env
from tests.integration.transcode.harness import Pipeline, metadata_stub, serving, until_serving


@pytest.fixture(scope="module")
def env(infra: Env, database_url: str, unused_tcp_port_factory: Callable[[], int]) -> Env:
    """Settings of every service of one module: short leases, so that what dies is missed soon."""
    metadata_, transcode, manifest_ = (f"127.0.0.1:{unused_tcp_port_factory()}" for _ in range(3))
    return {
        **infra,
        "MILLRACE_DATABASE_URL": database_url,
        "MILLRACE_METADATA_LISTEN": metadata_,
        "MILLRACE_METADATA_TARGET": metadata_,
        "MILLRACE_TRANSCODE_LISTEN": transcode,
        "MILLRACE_TRANSCODE_TARGET": transcode,
        "MILLRACE_MANIFEST_LISTEN": manifest_,
        "MILLRACE_MANIFEST_TARGET": manifest_,
        "MILLRACE_TASK_LEASE_S": "2",
        "MILLRACE_RECONCILER_INTERVAL_S": "0.5",
        "MILLRACE_LEASE_AMNESTY_S": "1",
        "MILLRACE_UPLOAD_MAX_IMAGE_BYTES": "1000000",
        "MILLRACE_TRANSCODE_FLEET_VIDEO_SLOTS": "1",
    }


@pytest.fixture(scope="module")
async def pipeline(env: Env, storage: Blobs, broker: Bus) -> AsyncIterator[Pipeline]:
    """Metadata and manifest, and a way in; who transcodes is each test's own affair."""
    await _purge(env["MILLRACE_NATS_URL"])
    async with (
        serving(env, metadata.serve, manifest.serve),
        grpc_client.channel(env["MILLRACE_METADATA_TARGET"]) as channel,
    ):
        stub = metadata_stub(channel)
        await until_serving(stub)
        yield Pipeline(stub, storage, broker)


@pytest.fixture(scope="module")
async def undisturbed(pipeline: Pipeline, env: Env, long_clip: bytes) -> dict[str, list[bytes]]:
    """What becomes of the long clip when nothing happens to anybody: the checksum of every file."""
    media_id = await pipeline.begin(long_clip, "video/mp4")
    async with serving(env, transcode.serve):
        media = await pipeline.finished(media_id)
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    return await pipeline.checksums(media_id)


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Five seconds below the lowest step of the ladder: encoded in no time."""
    return _clip(tmp_path_factory, Clip("short.mp4", 320, 180, 30, 150, 50, 28))


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Long enough for something to happen to its worker meanwhile."""
    return _clip(tmp_path_factory, Clip("long.mp4", 640, 360, 30, 1_500, 300, 28))


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A photo lying on its side, with a place in its metadata."""
    image = Image.linear_gradient("L").resize((1600, 1200)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    data = io.BytesIO()
    image.save(data, "JPEG", exif=exif)
    return data.getvalue()


def _clip(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> bytes:
    path: Path = tmp_path_factory.mktemp("clips") / clip.name
    write_clip(clip, path)
    return path.read_bytes()


async def _purge(nats_url: str) -> None:
    """Forgets what tests of other databases left in the streams."""
    connection = await nats.connect(nats_url)
    try:
        jetstream = connection.jetstream()
        for stream in (topology.EVENTS, topology.TASKS):
            await jetstream.purge_stream(stream)
    finally:
        await connection.close()
