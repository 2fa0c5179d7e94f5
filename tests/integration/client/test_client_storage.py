"""Parts on real object storage: what its answers mean to the client."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from millrace import Backoff, ChecksumAlgorithm, PresignedPart, StorageRefused
from millrace.parts import PIECE_BYTES, PartBody, PartRange, Source
from millrace.storage import AlreadyThere, Damaged, Storage, Transient, UrlRefused
from services.runtime.blobs import Blobs
from tests.unit.client.fakes import base64_of

BUCKET = "originals"
PART_BYTES = 5 << 20
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Multipart:
    """An open multipart upload."""

    blobs: Blobs
    key: str
    upload_id: str

    async def sign(
        self, size_bytes: int, *, expires_in: timedelta = HOUR, headers: Mapping[str, str] | None = None
    ) -> PresignedPart:
        bound = {**(headers or {}), "content-length": str(size_bytes)}
        signed = self.blobs.sign_parts(BUCKET, self.key, self.upload_id, {1: bound}, expires_in=expires_in)
        return PresignedPart(1, signed[1], size_bytes, headers or {})

    async def held(self) -> list[tuple[int, str, int]]:
        parts = await self.blobs.list_parts(BUCKET, self.key, self.upload_id)
        return [(part.number, part.etag, part.size_bytes) for part in parts]

    async def complete(self) -> None:
        parts = await self.blobs.list_parts(BUCKET, self.key, self.upload_id)
        await self.blobs.complete_multipart(BUCKET, self.key, self.upload_id, parts)


@pytest.fixture
async def multipart(storage: Blobs) -> AsyncIterator[Multipart]:
    key = f"000/{uuid4()}/original"
    opened = Multipart(storage, key, await storage.create_multipart(BUCKET, key, content_type="video/mp4"))
    yield opened
    await storage.abort_multipart(BUCKET, key, opened.upload_id)


@pytest.fixture
async def puts() -> AsyncIterator[Storage]:
    opened = Storage(backoff=Backoff())
    yield opened
    await opened.aclose()


@pytest.fixture
def body(tmp_path: Path) -> Callable[[bytes], PartBody]:
    """Makes a body of bytes."""

    def of(content: bytes) -> PartBody:
        path = tmp_path / f"{uuid4()}.mp4"
        path.write_bytes(content)
        return PartBody(Source.of(path), PartRange(1, 0, len(content)))

    return of


@asynccontextmanager
async def cut_off(*, after_bytes: int) -> AsyncIterator[str]:
    """A URL where the connection breaks in the middle: storage itself cannot be made to do that."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(after_bytes)
        writer.transport.abort()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_a_part_read_from_disk_arrives_whole(multipart: Multipart, puts: Storage, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    content = os.urandom(3 + PART_BYTES + 10)
    path.write_bytes(content)
    part = PartRange(1, 3, PART_BYTES)
    etag = await puts.put(await multipart.sign(PART_BYTES), PartBody(Source.of(path), part))
    assert await multipart.held() == [(1, etag, PART_BYTES)]
    await multipart.complete()
    assert await multipart.blobs.get(BUCKET, multipart.key) == content[3 : 3 + PART_BYTES]


async def test_another_length_than_was_signed_is_refused(
    multipart: Multipart, puts: Storage, body: Callable[[bytes], PartBody]
) -> None:
    with pytest.raises(UrlRefused):
        await puts.put(replace(await multipart.sign(PART_BYTES), size_bytes=5), body(b"short"))
    assert await multipart.held() == []


async def test_an_expired_url_is_told_from_other_refusals(
    multipart: Multipart, puts: Storage, body: Callable[[bytes], PartBody]
) -> None:
    part = await multipart.sign(5, expires_in=timedelta(seconds=1))
    await asyncio.sleep(2.1)
    with pytest.raises(UrlRefused):
        await puts.put(part, body(b"12345"))
    assert await multipart.held() == []


async def test_an_upload_that_is_gone_is_refused_for_good(
    multipart: Multipart, puts: Storage, body: Callable[[bytes], PartBody]
) -> None:
    part = await multipart.sign(5)
    await multipart.blobs.abort_multipart(BUCKET, multipart.key, multipart.upload_id)
    with pytest.raises(StorageRefused) as caught:
        await puts.put(part, body(b"12345"))
    assert caught.value.code == "NoSuchUpload"


async def test_a_connection_cut_in_the_middle_of_a_part_is_worth_another_try(
    multipart: Multipart, puts: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(os.urandom(PART_BYTES))
    part = PartRange(1, 0, PART_BYTES)
    signed = await multipart.sign(PART_BYTES)
    async with cut_off(after_bytes=2 * PIECE_BYTES) as cut_url:
        with pytest.raises(Transient):
            await puts.put(replace(signed, url=cut_url), PartBody(Source.of(path), part))
    etag = await puts.put(signed, PartBody(Source.of(path), part))
    assert await multipart.held() == [(1, etag, PART_BYTES)]


@pytest.mark.parametrize("algorithm", ChecksumAlgorithm)
async def test_a_part_with_a_checksum_is_refused_when_other_bytes_arrive(
    storage: Blobs, puts: Storage, algorithm: ChecksumAlgorithm, body: Callable[[bytes], PartBody]
) -> None:
    key = f"000/{uuid4()}/original"
    upload_id = await storage.create_multipart(BUCKET, key, content_type="video/mp4", algorithm=algorithm.value)
    opened = Multipart(storage, key, upload_id)
    right = bytes(range(256)) * 20
    part = await opened.sign(len(right), headers={f"x-amz-checksum-{algorithm.lower()}": base64_of(algorithm, right)})
    with pytest.raises(Damaged):
        await puts.put(part, body(right[::-1]))
    assert await opened.held() == []
    etag = await puts.put(part, body(right))
    assert await opened.held() == [(1, etag, len(right))]
    await storage.abort_multipart(BUCKET, key, upload_id)


async def test_a_put_of_a_whole_is_taken_once(storage: Blobs, puts: Storage, body: Callable[[bytes], PartBody]) -> None:
    key, headers = f"000/{uuid4()}/original", {"If-None-Match": "*"}
    bound = {"content-length": "5", "if-none-match": "*"}
    part = PresignedPart(1, storage.sign_put(BUCKET, key, bound, expires_in=HOUR), 5, headers)
    etag = await puts.put(part, body(b"12345"))
    with pytest.raises(AlreadyThere):
        await puts.put(part, body(b"54321"))
    assert (await storage.head(BUCKET, key)).etag == etag
