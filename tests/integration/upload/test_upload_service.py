"""The upload service through its gRPC door, on real storage and a real metadata service."""

import os
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2

from media.v1 import media_pb2, metadata_service_pb2, upload_service_pb2
from media.v1.metadata_service_pb2_grpc import MetadataServiceStub
from services.runtime import grpc_client
from services.runtime.blobs import Blobs, Part
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from services.upload import app as upload
from tests.env import Env
from tests.integration.upload.calls import PART_BYTES, key_of

if TYPE_CHECKING:
    from media.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

DATA = os.urandom(PART_BYTES + 999)


async def initiate(stub: "UploadServiceAsyncStub") -> upload_service_pb2.InitiateUploadResponse:
    return await grpc_client.call(
        stub.InitiateUpload,
        upload_service_pb2.InitiateUploadRequest(
            user_id="alice", filename="a.mp4", content_type="video/mp4", size_bytes=len(DATA)
        ),
    )


async def put(begun: upload_service_pb2.InitiateUploadResponse) -> list[upload_service_pb2.CompletedPart]:
    sent = []
    async with httpx.AsyncClient(timeout=30) as client:
        for part in begun.parts:
            offset = (part.part_number - 1) * begun.part_size_bytes
            answer = await client.put(part.url, content=DATA[offset : offset + part.size_bytes])
            assert answer.status_code == 200
            sent.append(upload_service_pb2.CompletedPart(part_number=part.part_number, etag=answer.headers["etag"]))
    return sent


async def complete(
    stub: "UploadServiceAsyncStub", media_id: str, sent: list[upload_service_pb2.CompletedPart]
) -> media_pb2.Media:
    request = upload_service_pb2.CompleteUploadRequest(user_id="alice", media_id=media_id, parts=sent)
    return (await grpc_client.call(stub.CompleteUpload, request)).media


async def test_parts_add_up_and_the_original_is_what_was_sent(stub: "UploadServiceAsyncStub", storage: Blobs) -> None:
    begun = await initiate(stub)
    assert [(part.part_number, part.size_bytes) for part in begun.parts] == [(1, PART_BYTES), (2, 999)]
    media = await complete(stub, begun.media_id, await put(begun))
    assert media.status == media_pb2.MEDIA_STATUS_PROCESSING
    assert media.size_bytes == len(DATA)
    assert await storage.get("originals", media.s3_key) == DATA


async def test_what_storage_joined_before_a_crash_is_found(stub: "UploadServiceAsyncStub", storage: Blobs) -> None:
    begun = await initiate(stub)
    sent = await put(begun)
    key = key_of(begun.media_id)
    joined = [Part(part.part_number, part.etag.strip('"')) for part in sent]
    await storage.complete_multipart("originals", key, begun.upload_id, joined)
    for _ in range(2):
        media = await complete(stub, begun.media_id, sent)
        assert media.status == media_pb2.MEDIA_STATUS_PROCESSING


async def test_a_client_that_forgot_its_parts_completes_what_is_completing(
    stub: "UploadServiceAsyncStub", env: Env
) -> None:
    begun = await initiate(stub)
    await put(begun)
    async with grpc_client.channel(env["MILLRACE_METADATA_TARGET"]) as behind:
        request = metadata_service_pb2.BeginCompleteRequest(user_id="alice", media_id=begun.media_id)
        await grpc_client.call(MetadataServiceStub(behind).BeginComplete, request)
    asked = upload_service_pb2.ListPartsRequest(user_id="alice", media_id=begun.media_id)
    held = (await grpc_client.call(stub.ListParts, asked)).parts
    wrong = [upload_service_pb2.CompletedPart(part_number=part.part_number, etag="0" * 32) for part in held]
    with pytest.raises(InvalidArgument):
        await complete(stub, begun.media_id, wrong)
    again = upload_service_pb2.SignPartsRequest(user_id="alice", media_id=begun.media_id, part_numbers=[1])
    assert len((await grpc_client.call(stub.SignParts, again)).parts) == 1
    sent = [upload_service_pb2.CompletedPart(part_number=part.part_number, etag=part.etag) for part in held]
    assert (await complete(stub, begun.media_id, sent)).status == media_pb2.MEDIA_STATUS_PROCESSING


async def test_an_upload_that_storage_gave_up_is_lost_and_its_media_fails(
    stub: "UploadServiceAsyncStub", storage: Blobs
) -> None:
    begun = await initiate(stub)
    sent = await put(begun)
    await storage.abort_multipart("originals", key_of(begun.media_id), begun.upload_id)
    asked = upload_service_pb2.ListPartsRequest(user_id="alice", media_id=begun.media_id)
    with pytest.raises(FailedPrecondition) as refused:
        await grpc_client.call(stub.ListParts, asked)
    assert refused.value.reason == "UPLOAD_LOST"
    with pytest.raises(FailedPrecondition) as refused:
        await complete(stub, begun.media_id, sent)
    assert refused.value.reason == "UPLOAD_LOST"
    aborted = await grpc_client.call(
        stub.AbortUpload, upload_service_pb2.AbortUploadRequest(user_id="alice", media_id=begun.media_id)
    )
    assert aborted.media.failure.reason == "upload_lost"


async def test_a_replayed_part_after_completion_changes_nothing(stub: "UploadServiceAsyncStub", storage: Blobs) -> None:
    begun = await initiate(stub)
    media = await complete(stub, begun.media_id, await put(begun))
    async with httpx.AsyncClient(timeout=30) as client:
        replayed = await client.put(begun.parts[0].url, content=bytes(PART_BYTES))
    assert replayed.status_code == 404
    assert await storage.get("originals", media.s3_key) == DATA


async def test_errors_travel_with_reason_and_details(stub: "UploadServiceAsyncStub") -> None:
    begun = await initiate(stub)
    with pytest.raises(InvalidArgument) as refused:
        await complete(stub, begun.media_id, [upload_service_pb2.CompletedPart(part_number=1, etag="x")])
    assert refused.value.reason == "PARTS_INCOMPLETE"
    assert refused.value.details == {"field": "parts", "missing_parts": "2"}
    request = upload_service_pb2.ListPartsRequest(user_id="bob", media_id=begun.media_id)
    with pytest.raises(NotFound):
        await grpc_client.call(stub.ListParts, request)


async def test_it_says_that_it_serves(channel: grpc.aio.Channel) -> None:
    check: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer = await check(health_pb2.HealthCheckRequest(service=upload.SERVICE_NAME), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
