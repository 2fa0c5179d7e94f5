"""What the storage port promises, on a real S3 server; any S3 that Millrace is to run on must pass."""

import asyncio
import hashlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from services.runtime import blobs
from services.runtime.blobs import IMMUTABLE, Blobs, Part
from services.runtime.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from services.runtime.settings import S3Settings
from tests.env import Env, settings_from

FIVE_MIB = 5 * 1024 * 1024
TTL = timedelta(minutes=5)


def _key() -> str:
    return f"contract/{secrets.token_hex(8)}/original"


async def _put(storage: Blobs, key: str, data: bytes) -> None:
    await storage.put("delivery", key, data, content_type="video/mp4", sha256=hashlib.sha256(data).digest())


async def _send(url: str, data: bytes) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.put(url, content=data)


class TestObjects:
    async def test_what_was_put_is_read_whole_and_in_ranges(self, storage: Blobs) -> None:
        key, data = _key(), secrets.token_bytes(100_000)
        await _put(storage, key, data)
        blob = await storage.head("delivery", key)
        assert blob.size_bytes == len(data)
        assert await storage.get("delivery", key) == data
        assert await storage.read("delivery", key, etag=blob.etag, offset=10, length=20) == data[10:30]
        assert await storage.read("delivery", key, etag=blob.etag, offset=99_990, length=50) == data[99_990:]

    async def test_a_key_is_written_once(self, storage: Blobs) -> None:
        key = _key()
        await _put(storage, key, b"first")
        with pytest.raises(AlreadyExists):
            await _put(storage, key, b"second")
        assert await storage.get("delivery", key) == b"first"

    async def test_of_many_writers_one_wins(self, storage: Blobs) -> None:
        key = _key()
        outcomes = await asyncio.gather(
            *(_put(storage, key, f"writer {n}".encode()) for n in range(20)), return_exceptions=True
        )
        assert sum(outcome is None for outcome in outcomes) == 1
        assert all(outcome is None or isinstance(outcome, AlreadyExists) for outcome in outcomes)

    async def test_bytes_that_differ_from_their_checksum_are_refused(self, storage: Blobs) -> None:
        key = _key()
        with pytest.raises((FailedPrecondition, Unavailable)):
            await storage.put(
                "delivery", key, b"sent", content_type="text/plain", sha256=hashlib.sha256(b"meant").digest()
            )
        with pytest.raises(NotFound):
            await storage.head("delivery", key)

    async def test_reads_are_pinned_to_the_bytes(self, storage: Blobs) -> None:
        key = _key()
        await _put(storage, key, b"these")
        with pytest.raises(AlreadyExists):
            await storage.read("delivery", key, etag="0" * 32, offset=0, length=5)

    async def test_lists_by_prefix(self, storage: Blobs) -> None:
        prefix = f"contract/{secrets.token_hex(8)}"
        for name in ("b", "a", "c/d"):
            await _put(storage, f"{prefix}/{name}", name.encode())
        listed = await storage.list("delivery", f"{prefix}/")
        assert [(blob.key.removeprefix(f"{prefix}/"), blob.size_bytes) for blob in listed] == [
            ("a", 1),
            ("b", 1),
            ("c/d", 3),
        ]

    async def test_unknown_keys_are_not_found(self, storage: Blobs) -> None:
        for call in (storage.head("delivery", "none"), storage.get("delivery", "none")):
            with pytest.raises(NotFound):
                await call

    async def test_what_is_delivered_is_immutable_and_typed(self, storage: Blobs, infra: Env) -> None:
        key = _key()
        await _put(storage, key, b"segment")
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{infra['MILLRACE_EDGE_URL']}/{key}")
        assert answer.headers["cache-control"] == IMMUTABLE
        assert answer.headers["content-type"] == "video/mp4"


class TestMultipart:
    async def test_parts_become_the_object(self, storage: Blobs) -> None:
        key, data = _key(), secrets.token_bytes(FIVE_MIB + 1_000)
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4")
        halves = {1: data[:FIVE_MIB], 2: data[FIVE_MIB:]}
        lengths = {number: {"content-length": str(len(half))} for number, half in halves.items()}
        urls = storage.sign_parts("originals", key, upload_id, lengths, expires_in=TTL)
        etags = {
            number: (await _send(urls[number], half)).headers["etag"].strip('"') for number, half in halves.items()
        }
        listed = await storage.list_parts("originals", key, upload_id)
        assert [(part.number, part.etag, part.size_bytes) for part in listed] == [
            (1, etags[1], FIVE_MIB),
            (2, etags[2], 1_000),
        ]
        await storage.complete_multipart("originals", key, upload_id, listed)
        assert await storage.get("originals", key) == data

    async def test_a_part_sent_twice_counts_once_and_the_latest_wins(self, storage: Blobs) -> None:
        key = _key()
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4")
        urls = storage.sign_parts("originals", key, upload_id, {1: {"content-length": "6"}}, expires_in=TTL)
        await _send(urls[1], b"first!")
        await asyncio.sleep(1.1)  # storage lists times to the second
        latest = (await _send(urls[1], b"second")).headers["etag"].strip('"')
        assert [part.etag for part in await storage.list_parts("originals", key, upload_id)] == [latest]

    async def test_the_signature_binds_the_length(self, storage: Blobs) -> None:
        key = _key()
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4")
        urls = storage.sign_parts("originals", key, upload_id, {1: {"content-length": "1000"}}, expires_in=TTL)
        assert "content-length" in parse_qs(urlsplit(urls[1]).query)["X-Amz-SignedHeaders"][0]
        assert (await _send(urls[1], b"x" * 1_001)).status_code == 403
        assert (await _send(urls[1], b"x" * 999)).status_code == 403
        assert await storage.list_parts("originals", key, upload_id) == []

    async def test_a_url_serves_its_own_part_only(self, storage: Blobs) -> None:
        key = _key()
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4")
        urls = storage.sign_parts("originals", key, upload_id, {1: {"content-length": "4"}}, expires_in=TTL)
        assert (await _send(urls[1].replace("partNumber=1", "partNumber=2"), b"data")).status_code == 403

    async def test_an_expired_url_is_refused(self, storage: Blobs) -> None:
        key = _key()
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4")
        urls = storage.sign_parts("originals", key, upload_id, {1: {"content-length": "4"}}, expires_in=timedelta(seconds=1))
        await asyncio.sleep(2.1)
        assert (await _send(urls[1], b"data")).status_code == 403

    async def test_a_wrong_etag_is_refused_and_the_upload_stays(self, storage: Blobs) -> None:
        key = _key()
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4")
        urls = storage.sign_parts("originals", key, upload_id, {1: {"content-length": "4"}}, expires_in=TTL)
        await _send(urls[1], b"data")
        with pytest.raises(FailedPrecondition):
            await storage.complete_multipart("originals", key, upload_id, [Part(1, "0" * 32)])
        assert len(await storage.list_parts("originals", key, upload_id)) == 1

    async def test_abort_is_final_and_repeatable(self, storage: Blobs) -> None:
        key = _key()
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4")
        await storage.abort_multipart("originals", key, upload_id)
        await storage.abort_multipart("originals", key, upload_id)
        with pytest.raises(NotFound):
            await storage.list_parts("originals", key, upload_id)


class TestHungStorage:
    """Storage that takes connections and never answers."""

    @pytest.fixture
    def silent(self, infra: Env) -> Iterator[Env]:
        """Settings that lead there."""
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
            yield {**infra, "MILLRACE_S3_ENDPOINT_URL": f"http://127.0.0.1:{listener.getsockname()[1]}"}

    async def test_it_holds_up_neither_questions_nor_the_end(self, silent: Env) -> None:
        async with blobs.connected(settings_from(S3Settings, silent)) as hung:
            reads = [asyncio.create_task(hung.get("originals", "k")) for _ in range(64)]
            await asyncio.sleep(0.5)
            async with asyncio.timeout(14):
                with pytest.raises(Unavailable):
                    await hung.head("originals", "k")
            for read in reads:
                read.cancel()
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 1

    async def test_a_process_ends_in_spite_of_a_call_that_hangs(self, silent: Env) -> None:
        program = (
            "import asyncio\n"
            "from services.runtime import blobs\n"
            "from services.runtime.settings import S3Settings\n"
            "async def main():\n"
            "    async with blobs.connected(S3Settings()) as hung, asyncio.timeout(0.5):\n"
            "        await hung.get('originals', 'k')\n"
            "try:\n"
            "    asyncio.run(main())\n"
            "except TimeoutError:\n"
            "    print('gave up', flush=True)\n"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, env={**os.environ, **silent}, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        try:
            async with asyncio.timeout(30):
                assert await process.stdout.readline() == b"gave up\n"
            async with asyncio.timeout(5):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()


class TestAccess:
    async def test_originals_are_private(self, storage: Blobs, infra: Env) -> None:
        key = _key()
        upload_id = await storage.create_multipart("originals", key, content_type="image/jpeg")
        urls = storage.sign_parts("originals", key, upload_id, {1: {"content-length": "6"}}, expires_in=TTL)
        await _send(urls[1], b"secret")
        await storage.complete_multipart(
            "originals", key, upload_id, await storage.list_parts("originals", key, upload_id)
        )
        async with httpx.AsyncClient() as http:
            direct = await http.get(f"{infra['MILLRACE_S3_ENDPOINT_URL']}/originals/{key}")
            through_the_edge = await http.get(f"{infra['MILLRACE_EDGE_URL']}/{key}")
        assert direct.status_code == 403
        assert through_the_edge.status_code == 404

    async def test_wrong_credentials_are_refused(self, infra: Env) -> None:
        wrong = settings_from(S3Settings, {**infra, "MILLRACE_S3_SECRET_ACCESS_KEY": "wrong"})
        async with blobs.connected(wrong) as stranger:
            with pytest.raises(Unavailable):
                await stranger.list("originals", "contract/")


async def test_an_answer_that_breaks_off_is_an_outage(infra: Env) -> None:
    async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\nETag: "e"\r\n\r\nonly this')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    broken = settings_from(S3Settings, {**infra, "MILLRACE_S3_ENDPOINT_URL": f"http://{host}:{port}"})
    async with blobs.connected(broken) as storage:
        with pytest.raises(Unavailable):
            await storage.read("originals", "k", etag="e", offset=0, length=1000)
        with pytest.raises(Unavailable):
            await storage.get("originals", "k")
    server.close()
