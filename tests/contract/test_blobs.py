"""What the storage port promises, on a real S3 server; any S3 that Millrace is to run on must pass."""

import asyncio
import base64
import hashlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from urllib.parse import parse_qs, urlsplit

import google_crc32c
import httpx
import pytest

from services.runtime import blobs
from services.runtime.blobs import IMMUTABLE, Blobs, ChecksumAlgorithm, Form, Part, PendingUpload
from services.runtime.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from services.runtime.settings import S3Settings
from tests.env import Env, settings_from

FIVE_MIB = 5 * 1024 * 1024
TTL = timedelta(minutes=5)
ALGORITHMS: Final[tuple[ChecksumAlgorithm, ...]] = ("CRC32C", "SHA256")


def _key() -> str:
    return f"contract/{secrets.token_hex(8)}/original"


async def _put(storage: Blobs, key: str, data: bytes) -> None:
    await storage.put("delivery", key, data, content_type="video/mp4", sha256=hashlib.sha256(data).digest())


async def _send(url: str, data: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as http:
        return await http.put(url, content=data, headers=headers)


async def _original(storage: Blobs, key: str, data: bytes) -> str:
    """An object in the private bucket; its ETag."""
    url = storage.sign_put("originals", key, {"content-length": str(len(data))}, expires_in=TTL)
    return str((await _send(url, data)).headers["etag"]).strip('"')


def _checksum(algorithm: ChecksumAlgorithm, data: bytes) -> str:
    if algorithm == "SHA256":
        return base64.b64encode(hashlib.sha256(data).digest()).decode()
    crc: int = google_crc32c.value(data)
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


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
        urls = storage.sign_parts(
            "originals", key, upload_id, {1: {"content-length": "4"}}, expires_in=timedelta(seconds=1)
        )
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


class TestWholeObjects:
    """What comes in one piece."""

    async def test_a_put_is_taken_once(self, storage: Blobs) -> None:
        key, headers = _key(), {"if-none-match": "*", "content-length": "6"}
        url = storage.sign_put("originals", key, headers, expires_in=TTL)
        first = await _send(url, b"first!", {"if-none-match": "*"})
        assert first.status_code == 200
        assert (await _send(url, b"second", {"if-none-match": "*"})).status_code == 412
        assert await storage.get("originals", key) == b"first!"
        assert (await storage.head("originals", key)).etag == first.headers["etag"].strip('"')

    async def test_of_many_puts_at_once_one_is_taken(self, storage: Blobs) -> None:
        key, headers = _key(), {"if-none-match": "*", "content-length": "6"}
        url = storage.sign_put("originals", key, headers, expires_in=TTL)
        answers = await asyncio.gather(
            *(_send(url, f"data{number:02}".encode(), {"if-none-match": "*"}) for number in range(20))
        )
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) == 1
        assert set(statuses) <= {200, 409, 412}
        assert await storage.get("originals", key) == f"data{statuses.index(200):02}".encode()

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param({}, id="left out"),
            pytest.param({"if-none-match": "x"}, id="changed"),
        ],
    )
    async def test_headers_that_were_signed_cannot_be_left_out(self, storage: Blobs, sent: dict[str, str]) -> None:
        key = _key()
        url = storage.sign_put("originals", key, {"if-none-match": "*", "content-length": "4"}, expires_in=TTL)
        assert (await _send(url, b"data", sent)).status_code == 403
        with pytest.raises(NotFound):
            await storage.head("originals", key)

    @pytest.mark.parametrize("length", [3, 5])
    async def test_the_signature_binds_the_length(self, storage: Blobs, length: int) -> None:
        key = _key()
        url = storage.sign_put("originals", key, {"if-none-match": "*", "content-length": "4"}, expires_in=TTL)
        assert (await _send(url, b"x" * length, {"if-none-match": "*"})).status_code == 403

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    async def test_its_checksum_is_verified_and_told(self, storage: Blobs, algorithm: ChecksumAlgorithm) -> None:
        data = secrets.token_bytes(10_000)
        checksum = _checksum(algorithm, data)
        sent = {"if-none-match": "*", f"x-amz-checksum-{algorithm.lower()}": checksum}
        key = _key()
        url = storage.sign_put("originals", key, {**sent, "content-length": str(len(data))}, expires_in=TTL)
        refused = await _send(url, bytes(len(data)), sent)
        assert (refused.status_code, "BadDigest" in refused.text) == (400, True)
        with pytest.raises(NotFound):
            await storage.head("originals", key)
        assert (await _send(url, data, sent)).status_code == 200
        assert (await storage.head("originals", key)).checksums == {algorithm: checksum}

    async def test_a_deleted_object_is_gone_and_may_be_deleted_again(self, storage: Blobs) -> None:
        key = _key()
        await _original(storage, key, b"data")
        for _ in range(2):
            await storage.delete("originals", key)
            with pytest.raises(NotFound):
                await storage.head("originals", key)
        await storage.delete("originals", f"{key}/never/was")


class TestForms:
    """What a browser's form may send."""

    @staticmethod
    async def post(form: Form, data: bytes, **changed: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=60) as http:
            return await http.post(form.url, data={**form.fields, **changed}, files={"file": ("a.mp4", data)})

    @pytest.mark.parametrize("size_bytes", [1, 500, 1_000])
    async def test_a_file_within_its_bounds_arrives(self, storage: Blobs, size_bytes: int) -> None:
        key, data = _key(), secrets.token_bytes(size_bytes)
        form = storage.sign_form("originals", key, max_size_bytes=1_000, expires_in=TTL)
        assert (await self.post(form, data)).status_code == 201
        assert await storage.get("originals", key) == data

    @pytest.mark.parametrize(("size_bytes", "code"), [(0, "EntityTooSmall"), (1_001, "EntityTooLarge")])
    async def test_a_file_out_of_bounds_does_not(self, storage: Blobs, size_bytes: int, code: str) -> None:
        key = _key()
        form = storage.sign_form("originals", key, max_size_bytes=1_000, expires_in=TTL)
        answer = await self.post(form, bytes(size_bytes))
        assert (answer.status_code, code in answer.text) == (400, True)
        with pytest.raises(NotFound):
            await storage.head("originals", key)

    async def test_the_key_is_bound(self, storage: Blobs) -> None:
        key, another = _key(), _key()
        form = storage.sign_form("originals", key, max_size_bytes=1_000, expires_in=TTL)
        assert (await self.post(form, b"data", key=another)).status_code == 403
        with pytest.raises(NotFound):
            await storage.head("originals", another)

    async def test_it_expires(self, storage: Blobs) -> None:
        form = storage.sign_form("originals", _key(), max_size_bytes=1_000, expires_in=timedelta(seconds=1))
        await asyncio.sleep(2.1)
        assert (await self.post(form, b"data")).status_code == 403

    async def test_it_may_be_sent_again_hence_it_leads_to_no_original(self, storage: Blobs) -> None:
        key = _key()
        form = storage.sign_form("originals", key, max_size_bytes=1_000, expires_in=TTL)
        assert (await self.post(form, b"first")).status_code == 201
        assert (await self.post(form, b"second")).status_code == 201
        assert await storage.get("originals", key) == b"second"


class TestCopies:
    async def test_the_bytes_of_an_etag_are_copied(self, storage: Blobs) -> None:
        source, key, data = _key(), _key(), secrets.token_bytes(FIVE_MIB + 1_000)
        etag = await _original(storage, source, data)
        await storage.copy("originals", source, key, etag=etag)
        assert await storage.get("originals", key) == data
        await storage.delete("originals", source)
        assert await storage.get("originals", key) == data

    async def test_other_bytes_are_not(self, storage: Blobs) -> None:
        source, key = _key(), _key()
        etag = await _original(storage, source, b"looked at")
        await storage.delete("originals", source)
        await _original(storage, source, b"sent again")
        with pytest.raises(AlreadyExists):
            await storage.copy("originals", source, key, etag=etag)
        with pytest.raises(NotFound):
            await storage.head("originals", key)

    async def test_a_source_that_is_gone_is_not_found(self, storage: Blobs) -> None:
        with pytest.raises(NotFound):
            await storage.copy("originals", _key(), _key(), etag="0" * 32)

    async def test_a_key_that_is_taken_keeps_its_bytes(self, storage: Blobs) -> None:
        source, key = _key(), _key()
        await _original(storage, key, b"first")
        etag = await _original(storage, source, b"second")
        with pytest.raises(AlreadyExists):
            await storage.copy("originals", source, key, etag=etag)
        assert await storage.get("originals", key) == b"first"

    async def test_of_many_copies_at_once_one_is_made(self, storage: Blobs) -> None:
        key = _key()
        sources = {f"{key}-{number}": f"source {number}".encode() for number in range(10)}
        etags = {source: await _original(storage, source, data) for source, data in sources.items()}
        outcomes = await asyncio.gather(
            *(storage.copy("originals", source, key, etag=etag) for source, etag in etags.items()),
            return_exceptions=True,
        )
        assert sum(outcome is None for outcome in outcomes) == 1, outcomes
        assert all(outcome is None or isinstance(outcome, AlreadyExists) for outcome in outcomes)
        assert await storage.get("originals", key) == [*sources.values()][outcomes.index(None)]


class TestChecksums:
    """Parts with checksums that storage verifies as they arrive."""

    @staticmethod
    async def uploaded(
        storage: Blobs, key: str, algorithm: ChecksumAlgorithm, parts: Mapping[int, bytes]
    ) -> tuple[str, list[Part]]:
        """An upload with these parts, and they as its client knows them."""
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4", algorithm=algorithm)
        known = []
        for number, data in parts.items():
            checksum = _checksum(algorithm, data)
            sent = {f"x-amz-checksum-{algorithm.lower()}": checksum}
            bound = {number: {**sent, "content-length": str(len(data))}}
            url = storage.sign_parts("originals", key, upload_id, bound, expires_in=TTL)[number]
            answer = await _send(url, data, sent)
            assert answer.status_code == 200, answer.text
            known.append(Part(number, answer.headers["etag"].strip('"'), len(data), checksum))
        return upload_id, known

    PARTS: Final = {1: secrets.token_bytes(FIVE_MIB), 2: secrets.token_bytes(FIVE_MIB), 3: secrets.token_bytes(777)}
    WHOLE: Final = b"".join(PARTS.values())

    @pytest.mark.parametrize("are_said_again", [True, False])
    async def test_crcs_of_parts_make_that_of_the_whole(self, storage: Blobs, are_said_again: bool) -> None:
        key = _key()
        upload_id, known = await self.uploaded(storage, key, "CRC32C", self.PARTS)
        said = known if are_said_again else [replace(part, checksum="") for part in known]
        await storage.complete_multipart("originals", key, upload_id, said, algorithm="CRC32C")
        assert (await storage.head("originals", key)).checksums == {"CRC32C": _checksum("CRC32C", self.WHOLE)}
        assert await storage.get("originals", key) == self.WHOLE

    async def test_hashes_of_parts_make_none_of_the_whole(self, storage: Blobs) -> None:
        key = _key()
        upload_id, known = await self.uploaded(storage, key, "SHA256", self.PARTS)
        await storage.complete_multipart("originals", key, upload_id, known, algorithm="SHA256")
        assert (await storage.head("originals", key)).checksums == {}
        assert await storage.get("originals", key) == self.WHOLE

    async def test_hashes_are_to_be_said_again(self, storage: Blobs) -> None:
        key = _key()
        upload_id, known = await self.uploaded(storage, key, "SHA256", self.PARTS)
        unsaid = [replace(part, checksum="") for part in known]
        with pytest.raises(FailedPrecondition):
            await storage.complete_multipart("originals", key, upload_id, unsaid, algorithm="SHA256")
        assert len(await storage.list_parts("originals", key, upload_id)) == 3

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    async def test_checksums_of_other_bytes_are_refused_at_the_end(
        self, storage: Blobs, algorithm: ChecksumAlgorithm
    ) -> None:
        key = _key()
        upload_id, known = await self.uploaded(storage, key, algorithm, {1: b"data"})
        wrong = [replace(known[0], checksum=_checksum(algorithm, b"atad"))]
        with pytest.raises(FailedPrecondition):
            await storage.complete_multipart("originals", key, upload_id, wrong, algorithm=algorithm)

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    async def test_a_part_of_other_bytes_is_refused_as_it_arrives(
        self, storage: Blobs, algorithm: ChecksumAlgorithm
    ) -> None:
        key = _key()
        upload_id = await storage.create_multipart("originals", key, content_type="video/mp4", algorithm=algorithm)
        sent = {f"x-amz-checksum-{algorithm.lower()}": _checksum(algorithm, b"meant")}
        url = storage.sign_parts("originals", key, upload_id, {1: {**sent, "content-length": "5"}}, expires_in=TTL)[1]
        refused = await _send(url, b"other", sent)
        assert (refused.status_code, "BadDigest" in refused.text) == (400, True)
        assert (await _send(url, b"other", {})).status_code == 403
        other = {f"x-amz-checksum-{algorithm.lower()}": _checksum(algorithm, b"other")}
        assert (await _send(url, b"other", other)).status_code == 403
        assert await storage.list_parts("originals", key, upload_id) == []
        assert (await _send(url, b"meant", sent)).status_code == 200


class TestPending:
    """Multipart uploads that nobody ended."""

    @staticmethod
    async def all_of(storage: Blobs, prefix: str) -> list[PendingUpload]:
        """Every upload below a prefix, from page to page, as the listing gives them."""
        after: tuple[str, str] | None = ("", "")
        found: list[PendingUpload] = []
        async with asyncio.timeout(60):
            while after is not None:
                page, after = await storage.pending_multipart("originals", after=after)
                found += page
        return [one for one in found if one.key.startswith(prefix)]

    async def test_they_are_listed_with_their_key_and_age_until_they_end(self, storage: Blobs) -> None:
        prefix = f"contract/{secrets.token_hex(8)}"
        before = datetime.now(UTC)
        begun = {
            await storage.create_multipart("originals", f"{prefix}/{name}", content_type="video/mp4"): name
            for name in ("joined", "aborted", "pending")
        }
        listed = await self.all_of(storage, prefix)
        assert {one.upload_id: one.key for one in listed} == {u: f"{prefix}/{name}" for u, name in begun.items()}
        # Storage lists times to the second.
        assert all(before - timedelta(seconds=2) < one.initiated_at <= datetime.now(UTC) for one in listed)
        joined, aborted, pending = begun
        url = storage.sign_parts("originals", f"{prefix}/joined", joined, {1: {"content-length": "4"}}, expires_in=TTL)[
            1
        ]
        await _send(url, b"data")
        parts = await storage.list_parts("originals", f"{prefix}/joined", joined)
        await storage.complete_multipart("originals", f"{prefix}/joined", joined, parts)
        await storage.abort_multipart("originals", f"{prefix}/aborted", aborted)
        assert [one.upload_id for one in await self.all_of(storage, prefix)] == [pending]
        await storage.abort_multipart("originals", f"{prefix}/pending", pending)

    @pytest.mark.parametrize("page_size", [1, 7, 1_000])
    async def test_page_after_page_lists_each_of_them_once(
        self, page_size: int, storage: Blobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prefix = f"contract/{secrets.token_hex(8)}"
        keys = [f"{prefix}/{number % 15}" for number in range(40)]  # several of a key
        begun = await asyncio.gather(
            *(storage.create_multipart("originals", key, content_type="video/mp4") for key in keys)
        )
        # A page of a thousand, or of ten thousand, takes long to fill.
        in_small_pages = partial(storage._control.list_multipart_uploads, MaxUploads=page_size)
        monkeypatch.setattr(storage._control, "list_multipart_uploads", in_small_pages)
        first, _ = await storage.pending_multipart("originals")
        assert len(first) <= page_size
        listed = await self.all_of(storage, prefix)
        assert sorted(one.upload_id for one in listed) == sorted(begun)
        assert {one.upload_id: one.key for one in listed} == dict(zip(begun, keys, strict=True))
        for key, upload_id in zip(keys, begun, strict=True):
            await storage.abort_multipart("originals", key, upload_id)
        assert await self.all_of(storage, prefix) == []


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
