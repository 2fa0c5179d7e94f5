"""Uploads through the gateway, with real storage, database and broker behind it."""

import asyncio
import base64
import hashlib
import os
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import google_crc32c
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from media.v1 import events_pb2
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.ids import new_media_id
from tests.integration.gateway.client import Uploader, problem
from tests.integration.gateway.conftest import PART_BYTES, WINDOW_PARTS

CONTENT = os.urandom(4 * PART_BYTES + 54_321)
PART_COUNT = 5


def checksum_of(algorithm: str, data: bytes) -> str:
    crc32c: int = google_crc32c.value(data)
    digest = crc32c.to_bytes(4, "big") if algorithm == "CRC32C" else hashlib.sha256(data).digest()
    return base64.b64encode(digest).decode()


async def test_a_file_goes_up_in_windows_and_its_processing_begins_once(
    alice: Uploader, broker: Bus, storage: Blobs
) -> None:
    announced: list[str] = []

    async def listen() -> None:
        async with aclosing(broker.listen("media.uploaded")) as messages:
            async for _, data in messages:
                announced.append(events_pb2.MediaUploaded.FromString(data).media_id)

    listening = asyncio.create_task(listen())
    begun = await alice.initiate(CONTENT)
    assert (begun["part_count"], begun["part_size_bytes"]) == (PART_COUNT, PART_BYTES)
    assert [part["part_number"] for part in begun["parts"]] == list(range(1, WINDOW_PARTS + 1))
    assert (await alice.media(begun["media_id"]))["status"] == "uploading"

    sent = await alice.put(begun, CONTENT)
    accepted = await alice.complete(begun["media_id"], sent)
    assert accepted.status_code == 202
    assert accepted.headers["location"] == f"/v1/media/{begun['media_id']}"
    assert accepted.json()["status"] == "processing"

    repeats = await asyncio.gather(*(alice.complete(begun["media_id"], sent) for _ in range(10)))
    assert {repeat.status_code for repeat in repeats} == {202}
    await asyncio.sleep(0.5)
    listening.cancel()
    assert announced.count(begun["media_id"]) == 1

    shard = f"{new_media_id('alice').int >> 64 & 0xFFF:03x}"
    stored = await storage.get("originals", f"{shard}/{begun['media_id']}/original")
    assert stored == CONTENT


async def test_concurrent_first_completes_have_one_outcome(alice: Uploader) -> None:
    begun = await alice.initiate(CONTENT)
    sent = await alice.put(begun, CONTENT)
    answers = await asyncio.gather(*(alice.complete(begun["media_id"], sent) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {202, 409, 503}
    assert any(answer.status_code == 202 for answer in answers)
    assert (await alice.complete(begun["media_id"], sent)).status_code == 202
    assert (await alice.media(begun["media_id"]))["status"] == "processing"


async def test_wrong_and_missing_parts_are_named_and_can_be_mended(alice: Uploader) -> None:
    begun = await alice.initiate(CONTENT)
    media_id = begun["media_id"]
    first = begun["parts"][0]
    put = await alice.storage.put(first["url"], content=CONTENT[: first["size_bytes"]])
    etag = put.headers["etag"]
    claimed = [{"part_number": number, "etag": etag} for number in range(1, PART_COUNT + 1)]
    body = problem(await alice.complete(media_id, claimed), 422, "parts-differ")
    assert body["details"]["missing_parts"] == "2-5"
    body = problem(await alice.complete(media_id, claimed[:2]), 422, "parts-incomplete")
    assert body["details"]["missing_parts"] == "3-5"

    sent = await alice.put(begun, CONTENT)
    wrong = [{"part_number": 1, "etag": "0" * 32}, *sent[1:]]
    body = problem(await alice.complete(media_id, wrong), 422, "parts-differ")
    assert body["details"]["different_parts"] == "1"
    assert (await alice.media(media_id))["status"] == "uploading"
    assert (await alice.complete(media_id, sent)).status_code == 202


@pytest.mark.parametrize("change", [-1, 1])
async def test_storage_refuses_a_part_of_another_length(alice: Uploader, change: int) -> None:
    begun = await alice.initiate(CONTENT)
    part = begun["parts"][0]
    refused = await alice.storage.put(part["url"], content=bytes(part["size_bytes"] + change))
    assert refused.status_code == 403
    listed = await alice.http.get(f"/v1/uploads/{begun['media_id']}/parts")
    assert listed.json()["parts"] == []


async def test_a_signature_is_for_one_part_alone(alice: Uploader) -> None:
    begun = await alice.initiate(CONTENT)
    first, _ = begun["parts"]
    tampered = first["url"].replace("partNumber=1", "partNumber=2")
    assert tampered != first["url"]
    refused = await alice.storage.put(tampered, content=CONTENT[:PART_BYTES])
    assert refused.status_code == 403


async def test_a_part_sent_twice_counts_once_the_latest(alice: Uploader) -> None:
    begun = await alice.initiate(CONTENT)
    url = begun["parts"][0]["url"]
    old = (await alice.storage.put(url, content=bytes(PART_BYTES))).headers["etag"].strip('"')
    await asyncio.sleep(1.1)  # storage tells them apart by a time in seconds
    new = (await alice.storage.put(url, content=CONTENT[:PART_BYTES])).headers["etag"].strip('"')
    listed = (await alice.http.get(f"/v1/uploads/{begun['media_id']}/parts")).json()
    assert listed["parts"] == [{"part_number": 1, "etag": new, "size_bytes": PART_BYTES}]
    assert old != new
    assert (listed["part_count"], listed["part_size_bytes"]) == (PART_COUNT, PART_BYTES)
    sent = await alice.put(begun, CONTENT)
    stale = [{"part_number": 1, "etag": old}, *sent[1:]]
    problem(await alice.complete(begun["media_id"], stale), 422, "parts-differ")


@pytest.mark.parametrize("numbers", [[6], [1, 1]])
async def test_signs_only_parts_that_the_file_has(alice: Uploader, numbers: list[int]) -> None:
    begun = await alice.initiate(CONTENT)
    response = await alice.http.post(f"/v1/uploads/{begun['media_id']}/sign-parts", json={"part_numbers": numbers})
    problem(response, 422, "part-numbers-invalid")


async def test_another_users_media_is_like_no_media_at_all(alice: Uploader, bob: Uploader) -> None:
    begun = await alice.initiate(CONTENT)
    sent = await alice.put(begun, CONTENT)
    unknown_of_bob, unknown_of_alice = str(new_media_id("bob")), str(new_media_id("alice"))
    for media_id in (begun["media_id"], unknown_of_bob, unknown_of_alice):
        refusals = [
            await bob.http.get(f"/v1/media/{media_id}"),
            await bob.http.get(f"/v1/media/{media_id}/events"),
            await bob.http.get(f"/v1/uploads/{media_id}/parts"),
            await bob.http.post(f"/v1/uploads/{media_id}/sign-parts", json={"part_numbers": [1]}),
            await bob.complete(media_id, sent),
            await bob.abort(media_id),
        ]
        bodies = [problem(refusal, 404, "media-not-found") for refusal in refusals]
        assert {(body["title"], body["detail"], body["next"]) for body in bodies} == {
            ("Media not found", "There is no such media.", "Check the identifier and whose token you send.")
        }
    assert begun["media_id"] not in (await bob.http.get("/v1/media")).text
    assert (await alice.complete(begun["media_id"], sent)).status_code == 202


async def test_abort_ends_it_for_good(alice: Uploader, storage: Blobs) -> None:
    begun = await alice.initiate(CONTENT)
    sent = await alice.put(begun, CONTENT)
    for _ in range(2):
        aborted = await alice.abort(begun["media_id"])
        assert aborted.status_code == 200
        assert aborted.json()["failure"]["reason"] == "upload_aborted"
    refused = await alice.complete(begun["media_id"], sent)
    assert problem(refused, 409, "upload-aborted")["next"] == "Initiate a new upload."
    assert (await alice.media(begun["media_id"]))["status"] == "failed"
    late = await alice.storage.put(begun["parts"][0]["url"], content=CONTENT[:PART_BYTES])
    assert late.status_code == 404
    base = f"/v1/uploads/{begun['media_id']}"
    for response in (
        await alice.http.get(f"{base}/parts"),
        await alice.http.post(f"{base}/sign-parts", json={"part_numbers": [1]}),
    ):
        assert problem(response, 409, "upload-not-open")["details"] == {"state": "aborted"}


async def test_what_is_complete_is_not_aborted(alice: Uploader) -> None:
    begun = await alice.initiate(b"x")
    sent = await alice.put(begun, b"x")
    assert (await alice.complete(begun["media_id"], sent)).status_code == 202
    assert (await alice.abort(begun["media_id"])).status_code == 409
    assert (await alice.media(begun["media_id"]))["status"] == "processing"


async def test_complete_and_abort_at_once_have_one_winner(alice: Uploader) -> None:
    for _ in range(10):
        begun = await alice.initiate(b"small")
        sent = await alice.put(begun, b"small")
        completed, aborted = await asyncio.gather(
            alice.complete(begun["media_id"], sent), alice.abort(begun["media_id"])
        )
        status = (await alice.media(begun["media_id"]))["status"]
        if status == "processing":
            assert (completed.status_code, aborted.status_code) == (202, 409)
        else:
            assert status == "failed"
            assert (completed.status_code, aborted.status_code) == (409, 200)


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"filename": "a.txt", "content_type": "text/plain", "size_bytes": 5}, "content-type-unsupported"),
        ({"filename": "a\n.png", "content_type": "image/png", "size_bytes": 5}, "filename-invalid"),
        ({"filename": "a.png", "content_type": "image/png", "size_bytes": 1_000_001}, "file-too-large"),
    ],
)
async def test_refuses_what_is_out_of_bounds(alice: Uploader, body: dict[str, Any], slug: str) -> None:
    assert problem(await alice.http.post("/v1/initiate-upload", json=body), 422, slug)["details"]["field"] in body


async def test_a_small_file_takes_one_put_once(alice: Uploader, storage: Blobs) -> None:
    begun = await alice.initiate(b"small")
    assert (begun["kind"], begun["upload_id"], begun["part_count"]) == ("put", "", 1)
    (part,) = begun["parts"]
    without = await alice.storage.put(part["url"], content=b"small")
    assert without.status_code == 403
    first = await alice.storage.put(part["url"], content=b"small", headers=part["headers"])
    again = await alice.storage.put(part["url"], content=b"other", headers=part["headers"])
    assert (first.status_code, again.status_code) == (200, 412)
    listed = (await alice.http.get(f"/v1/uploads/{begun['media_id']}/parts")).json()
    assert listed["kind"] == "put"
    assert listed["parts"] == [{"part_number": 1, "etag": first.headers["etag"].strip('"'), "size_bytes": 5}]
    sent = [{"part_number": 1, "etag": listed["parts"][0]["etag"]}]
    assert (await alice.complete(begun["media_id"], sent)).status_code == 202


@pytest.mark.parametrize("algorithm", ["CRC32C", "SHA256"])
async def test_every_part_is_bound_to_its_checksum_and_the_whole_is_kept(alice: Uploader, algorithm: str) -> None:
    whole = checksum_of(algorithm, CONTENT)
    begun = await alice.initiate(CONTENT, checksum_algorithm=algorithm)
    assert begun["parts"] == []
    path = f"/v1/uploads/{begun['media_id']}/sign-parts"
    problem(await alice.http.post(path, json={"part_numbers": [1]}), 422, "checksums-missing")

    pieces = [CONTENT[start : start + PART_BYTES] for start in range(0, len(CONTENT), PART_BYTES)]
    checksums = [checksum_of(algorithm, piece) for piece in pieces]
    numbers = list(range(1, PART_COUNT + 1))
    signed = (await alice.http.post(path, json={"part_numbers": numbers, "checksums": checksums})).json()["parts"]
    damaged = await alice.storage.put(signed[0]["url"], content=bytes(len(pieces[0])), headers=signed[0]["headers"])
    assert damaged.status_code == 400
    assert "BadDigest" in damaged.text
    sent = []
    for part, piece, checksum in zip(signed, pieces, checksums, strict=True):
        put = await alice.storage.put(part["url"], content=piece, headers=part["headers"])
        assert put.status_code == 200, put.text
        sent.append({"part_number": part["part_number"], "etag": put.headers["etag"], "checksum": checksum})
    body = {"media_id": begun["media_id"], "parts": sent, "checksum": whole}
    completed = await alice.http.post("/v1/complete-upload", json=body)
    assert completed.status_code == 202, completed.text
    expected = {"algorithm": algorithm, "value": whole} if algorithm == "CRC32C" else None
    assert completed.json()["checksum"] == expected  # a SHA-256 of the whole is verified as the file is read


async def test_other_bytes_than_the_checksum_of_the_whole_fail_the_media(alice: Uploader) -> None:
    begun = await alice.initiate(CONTENT, checksum_algorithm="CRC32C", checksum=checksum_of("CRC32C", b"other"))
    pieces = [CONTENT[start : start + PART_BYTES] for start in range(0, len(CONTENT), PART_BYTES)]
    checksums = [checksum_of("CRC32C", piece) for piece in pieces]
    numbers = list(range(1, PART_COUNT + 1))
    path = f"/v1/uploads/{begun['media_id']}/sign-parts"
    signed = (await alice.http.post(path, json={"part_numbers": numbers, "checksums": checksums})).json()["parts"]
    sent = []
    for part, piece in zip(signed, pieces, strict=True):
        put = await alice.storage.put(part["url"], content=piece, headers=part["headers"])
        sent.append({"part_number": part["part_number"], "etag": put.headers["etag"]})
    problem(await alice.complete(begun["media_id"], sent), 409, "checksum-mismatch")
    failed = await alice.media(begun["media_id"])
    assert (failed["status"], failed["failure"]["reason"]) == ("failed", "checksum_mismatch")
    assert failed["checksum"] is None


async def test_a_complete_without_trace_context_goes_on_in_the_uploads_trace(
    alice: Uploader, spans: InMemorySpanExporter
) -> None:
    trace_id = uuid4().hex
    begun = await alice.initiate(b"small", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
    sent = await alice.put(begun, b"small")
    spans.clear()
    completed = await alice.complete(begun["media_id"], sent)
    assert completed.json()["trace_id"] == trace_id
    assert trace_id not in completed.headers["traceresponse"]

    def names_in_trace() -> set[str]:
        return {span.name for span in spans.get_finished_spans() if f"{span.context.trace_id:032x}" == trace_id}

    for _ in range(100):
        if "send media.uploaded" in names_in_trace():
            break
        await asyncio.sleep(0.05)
    assert {"complete upload", "send media.uploaded"} <= names_in_trace()


async def test_answers_name_their_span_by_the_route_and_tell_its_trace(
    alice: Uploader, spans: InMemorySpanExporter
) -> None:
    spans.clear()
    begun = await alice.http.get(f"/v1/media/{new_media_id('alice')}")
    _, trace_id, span_id, _ = begun.headers["traceresponse"].split("-")
    assert begun.json()["trace_id"] == trace_id
    await asyncio.sleep(0.1)
    (server,) = [span for span in spans.get_finished_spans() if f"{span.context.span_id:016x}" == span_id]
    assert [span.kind for span in spans.get_finished_spans()].count(SpanKind.SERVER) == 2  # gateway and metadata
    assert server.name == "GET /v1/media/{media_id}"
    assert server.attributes is not None
    assert server.attributes["user.id"] == "alice"
    assert not any("Bearer" in str(value) for value in server.attributes.values())
