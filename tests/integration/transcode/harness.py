"""The pipeline on real servers: metadata and manifest in this process, workers in this one or in one of their own."""

import asyncio
import base64
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import grpc
import psutil
from google.protobuf.duration_pb2 import Duration

from media.v1 import events_pb2, media_pb2, metadata_service_pb2
from media.v1.metadata_service_pb2_grpc import MetadataServiceStub
from services.runtime import grpc_client
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.errors import NotFound, Unavailable
from tests.env import Env

if TYPE_CHECKING:
    from media.v1.metadata_service_pb2_grpc import MetadataServiceAsyncStub

Serve = Callable[[asyncio.Event], Awaitable[None]]

USER = "user-1"
_FINAL = {media_pb2.MEDIA_STATUS_PUBLISHED, media_pb2.MEDIA_STATUS_FAILED}


@asynccontextmanager
async def serving(env: Env, *serves: Serve) -> AsyncIterator[None]:
    """Services in this process until the block ends, then drained."""
    stop = asyncio.Event()
    with mock.patch.dict(os.environ, env):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_serve(serve, stop)) for serve in serves]
            await asyncio.sleep(0)
            try:
                yield
            finally:
                stop.set()
                await asyncio.wait(tasks)


async def _serve(serve: Serve, stop: asyncio.Event) -> None:
    await serve(stop)


@asynccontextmanager
async def worker_process(env: Env, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A transcode service in a process of its own, at a port of its own; killed at the end if it is still there."""
    env = {**os.environ, **env, "MILLRACE_TRANSCODE_LISTEN": "127.0.0.1:0"}
    with log.open("ab") as stderr:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services", "transcode", env=env, stderr=stderr
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def children_at_work(worker_pid: int) -> list[psutil.Process]:
    """The children that do a worker's jobs right now: forked by its fork server, which is none of them itself."""
    found: list[psutil.Process] = []
    for fork_server in psutil.Process(worker_pid).children():
        with suppress(psutil.NoSuchProcess):
            found += fork_server.children()
    return found


class Line:
    """A TCP line to a server that can be cut: calls break off and connections are refused; or be slow."""

    def __init__(self, target: str, *, bytes_per_s: float = float("inf")) -> None:
        """A line to `target`, which carries so much of what the server answers on each connection."""
        self._bytes_per_s = bytes_per_s
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = "127.0.0.1:0"

    async def mend(self) -> None:
        """Listens, at the same port as ever."""
        host, _, port = self.address.rpartition(":")
        self._server = await asyncio.start_server(self._connect, host, int(port))
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())

    def cut(self) -> None:
        """Ends every connection and takes no new one."""
        assert self._server
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            ends = {writer, far_writer}
            self._writers |= ends
            try:
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer, self._bytes_per_s))
            finally:
                self._writers -= ends
                for each in ends:
                    each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_per_s: float = float("inf")) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(len(data) / bytes_per_s)
    writer.close()


@dataclass(frozen=True)
class Pipeline:
    """What tests do with the pipeline: put an original in, and watch."""

    metadata: "MetadataServiceAsyncStub"
    storage: Blobs
    broker: Bus

    async def begin(self, data: bytes, content_type: str, *, etag: str = "", sha256: bytes = b"") -> str:
        """Lays an original into storage as an upload would, and lets processing begin; returns the media's id.

        With an `etag`, other bytes were completed than those that lie there now; with a `sha256`, that is what its
        owner said the whole has.
        """
        kind = media_pb2.MEDIA_TYPE_IMAGE if content_type.startswith("image/") else media_pb2.MEDIA_TYPE_VIDEO
        created = await grpc_client.call(
            self.metadata.CreateMedia,
            metadata_service_pb2.CreateMediaRequest(
                user_id=USER,
                type=kind,
                filename="original",
                content_type=content_type,
                size_bytes=len(data),
                part_size_bytes=10_000_000,
                time_to_live=Duration(seconds=3600),
                kind=media_pb2.UPLOAD_KIND_MULTIPART,
                checksum_algorithm=(
                    media_pb2.CHECKSUM_ALGORITHM_SHA256 if sha256 else media_pb2.CHECKSUM_ALGORITHM_UNSPECIFIED
                ),
                checksum=base64.b64encode(sha256).decode(),
            ),
        )
        upload = created.upload
        await self.storage.put(
            "originals",
            upload.s3_key,
            data,
            content_type=content_type,
            sha256=hashlib.sha256(data).digest(),
        )
        blob = await self.storage.head("originals", upload.s3_key)
        media_id = upload.media_id
        await grpc_client.call(
            self.metadata.AttachUpload,
            metadata_service_pb2.AttachUploadRequest(media_id=media_id, upload_id=f"upload-{media_id}"),
        )
        await grpc_client.call(
            self.metadata.BeginComplete,
            metadata_service_pb2.BeginCompleteRequest(user_id=USER, media_id=media_id),
        )
        await grpc_client.call(
            self.metadata.BeginProcessing,
            metadata_service_pb2.BeginProcessingRequest(
                media_id=media_id,
                original=media_pb2.Original(s3_key=blob.key, etag=etag or blob.etag, size_bytes=blob.size_bytes),
            ),
        )
        return media_id

    async def media(self, media_id: str) -> media_pb2.Media:
        """The media as its owner sees it."""
        request = metadata_service_pb2.GetMediaRequest(user_id=USER, media_id=media_id)
        return (await grpc_client.call(self.metadata.GetMedia, request)).media

    async def finished(self, media_id: str, *, within: timedelta = timedelta(seconds=60)) -> media_pb2.Media:
        """The media once it is published or failed."""
        async with asyncio.timeout(within.total_seconds()):
            while (media := await self.media(media_id)).status not in _FINAL:  # noqa: ASYNC110 only asking tells
                await asyncio.sleep(0.1)
            return media

    async def advanced(self, media_id: str, label: str, *, within: timedelta = timedelta(seconds=60)) -> None:
        """Returns once a task is somewhere between its beginning and its end."""
        async with asyncio.timeout(within.total_seconds()):
            async for _, data in self.broker.listen(f"progress.{media_id}"):
                progress = events_pb2.TaskProgress.FromString(data)
                if progress.label == label and 0 < progress.fraction < 1:
                    return

    async def publication(self, media_id: str) -> metadata_service_pb2.GetPublicationResponse:
        """Everything that was recorded of the first generation."""
        request = metadata_service_pb2.GetPublicationRequest(media_id=media_id, generation=1)
        return await grpc_client.call(self.metadata.GetPublication, request)

    async def checksums(self, media_id: str) -> dict[str, list[bytes]]:
        """Of every file of a publication, by track, in order."""
        publication = await self.publication(media_id)
        tracks = {
            track.label: [track.init_sha256, *(segment.sha256 for segment in track.segments)]
            for track in publication.tracks
        }
        return tracks | {"stills": [still.sha256 for still in publication.stills]}

    async def attempts(self, media_id: str) -> dict[str, int]:
        """The attempt that made the outputs of each task, by the task's label, as keys say."""
        publication = await self.publication(media_id)
        keys = [track.init_s3_key for track in publication.tracks]
        keys += [segment.s3_key for track in publication.tracks for segment in track.segments]
        keys += [still.thumbnail.s3_key for still in publication.stills]
        made = {tuple(key.removeprefix(f"{publication.delivery_prefix}/").split("/")[:2]) for key in keys}
        assert len({label for label, _ in made}) == len(made), "two attempts made one task's outputs"
        return {label: int(attempt.removeprefix("a")) for label, attempt in made}


async def until_serving(stub: "MetadataServiceAsyncStub") -> None:
    """Waits until the metadata service answers anything."""
    request = metadata_service_pb2.GetMediaRequest(user_id=USER, media_id="nonsense")
    async with asyncio.timeout(30):
        while True:
            try:
                await grpc_client.call(stub.GetMedia, request)
            except Unavailable:
                await asyncio.sleep(0.05)
            except NotFound:
                return


def metadata_stub(channel: grpc.aio.Channel) -> "MetadataServiceAsyncStub":
    """The service under test, for tests."""
    return MetadataServiceStub(channel)
