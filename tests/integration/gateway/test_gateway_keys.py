"""Idempotency-Key with real services: one upload, one answer, however often and from however many it is asked for."""

import asyncio
import json
import os
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration

from gateway import idempotency
from media.v1 import metadata_service_pb2, metadata_service_pb2_grpc, upload_service_pb2, upload_service_pb2_grpc
from services.runtime import grpc_client
from services.runtime.grpc_client import call
from tests.env import Env
from tests.integration.gateway.client import Json, Uploader, problem
from tests.integration.gateway.conftest import PART_BYTES

INITIATE = "/v1/initiate-upload"
CONTENT = os.urandom(4 * PART_BYTES + 54_321)
FILE: Json = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": len(CONTENT)}


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


async def persist(alice: Uploader, path: str, body: Json, key: dict[str, str]) -> tuple[httpx.Response, int]:
    """Repeats while the first is under way, as `Retry-After` says; the answer, and how often it was told to wait."""
    waits = 0
    while True:
        response = await alice.http.post(path, json=body, headers=key)
        if response.status_code != 409:
            return response, waits
        problem(response, 409, "request-in-flight")
        waits += 1
        await asyncio.sleep(min(int(response.headers["retry-after"]), 0.2))


async def test_a_repeat_gets_the_first_answer_byte_for_byte(
    alice: Uploader, bob: Uploader, key: dict[str, str]
) -> None:
    first = await alice.http.post(INITIATE, json=FILE, headers=key)
    again = await alice.http.post(INITIATE, json=FILE, headers=key)
    quoted = await alice.http.post(INITIATE, json=FILE, headers={"Idempotency-Key": f'"{key["Idempotency-Key"]}"'})
    assert (first.status_code, again.status_code, quoted.status_code) == (201, 201, 201)
    assert first.content == again.content == quoted.content
    assert first.headers["location"] == again.headers["location"] == f"/v1/media/{first.json()['media_id']}"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == quoted.headers["idempotency-replayed"] == "true"
    url = again.json()["parts"][0]["url"]
    assert (await alice.storage.put(url, content=CONTENT[:PART_BYTES])).status_code == 200
    bobs = await bob.http.post(INITIATE, json=FILE, headers=key)
    assert bobs.status_code == 201
    assert bobs.json()["media_id"] != first.json()["media_id"]


async def test_another_request_under_the_same_key_is_refused(alice: Uploader, key: dict[str, str]) -> None:
    assert (await alice.http.post(INITIATE, json=FILE, headers=key)).status_code == 201
    for response in (
        await alice.http.post(INITIATE, json=FILE | {"size_bytes": 5}, headers=key),
        await alice.http.post(INITIATE, content=json.dumps(FILE, indent=1), headers=key | JSON),
        await alice.http.post(
            COMPLETE, json={"media_id": "x", "parts": [{"part_number": 1, "etag": "e"}]}, headers=key
        ),
    ):
        problem(response, 422, "idempotency-key-reused")
    assert (await alice.http.post(INITIATE, json=FILE, headers=key)).headers["idempotency-replayed"] == "true"


JSON = {"Content-Type": "application/json"}
COMPLETE = "/v1/complete-upload"


async def test_of_many_at_once_one_is_carried_out_and_the_others_wait_for_its_answer(
    alice: Uploader, key: dict[str, str]
) -> None:
    answers = await asyncio.gather(*(persist(alice, INITIATE, FILE, key) for _ in range(8)))
    assert {response.status_code for response, _ in answers} == {201}
    assert len({response.content for response, _ in answers}) == 1
    assert [response.headers.get("idempotency-replayed") for response, _ in answers].count(None) == 1
    assert sum(waits for _, waits in answers) > 0


async def test_a_refusal_leaves_the_key_free(alice: Uploader, key: dict[str, str]) -> None:
    refused = await alice.http.post(INITIATE, json=FILE | {"content_type": "text/plain"}, headers=key)
    problem(refused, 422, "content-type-unsupported")
    assert (await alice.http.post(INITIATE, json=FILE, headers=key)).status_code == 201


async def test_complete_answers_repeats_as_the_first_time(alice: Uploader, key: dict[str, str]) -> None:
    begun = await alice.initiate(CONTENT)
    sent = await alice.put(begun, CONTENT)
    body = {"media_id": begun["media_id"], "parts": sent}
    problem(await alice.complete(begun["media_id"], sent[1:], headers=key), 422, "parts-incomplete")
    answers = await asyncio.gather(*(persist(alice, COMPLETE, body, key) for _ in range(4)))
    assert {response.status_code for response, _ in answers} == {202}
    assert len({response.content for response, _ in answers}) == 1
    assert {response.headers["location"] for response, _ in answers} == {f"/v1/media/{begun['media_id']}"}


async def test_after_a_gateway_died_a_repeat_finds_what_it_had_begun(
    alice: Uploader, env: Env, key: dict[str, str]
) -> None:
    """What the first gateway had done by then is done here by hand, as the calls that it makes."""
    body = json.dumps(FILE).encode()
    minute, day = Duration(), Duration()
    minute.FromTimedelta(timedelta(minutes=1))
    day.FromTimedelta(timedelta(days=1))
    async with (
        grpc_client.channel(env["MILLRACE_METADATA_TARGET"]) as metadata_channel,
        grpc_client.channel(env["MILLRACE_UPLOAD_TARGET"]) as upload_channel,
    ):
        metadata = metadata_service_pb2_grpc.MetadataServiceStub(metadata_channel)
        upload = upload_service_pb2_grpc.UploadServiceStub(upload_channel)
        begun = await call(
            metadata.BeginRequest,
            metadata_service_pb2.BeginRequestRequest(
                user_id="alice",
                idempotency_key=key["Idempotency-Key"],
                fingerprint=idempotency.fingerprint("POST", INITIATE, body),
                lease=minute,
                keep=day,
            ),
        )
        first = await call(
            upload.InitiateUpload,
            upload_service_pb2.InitiateUploadRequest(user_id="alice", request_id=begun.operation_id, **FILE),
        )
        waiting = await alice.http.post(INITIATE, content=body, headers=key | JSON)
        problem(waiting, 409, "request-in-flight")
        await call(
            metadata.EndRequest,
            metadata_service_pb2.EndRequestRequest(
                user_id="alice",
                idempotency_key=key["Idempotency-Key"],
                operation_id=begun.operation_id,
                outcome_unknown=True,
            ),
        )
    problem(await alice.http.post(INITIATE, content=body + b" ", headers=key | JSON), 422, "idempotency-key-reused")
    again = await alice.http.post(INITIATE, content=body, headers=key | JSON)
    assert again.status_code == 201
    assert again.json()["media_id"] == first.media_id
    assert "idempotency-replayed" not in again.headers
