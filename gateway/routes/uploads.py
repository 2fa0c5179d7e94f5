"""Uploads: begin, sign, list, complete, abort. File bytes go from the client to object storage and never pass here."""

from typing import Final

from fastapi import APIRouter, Response

from gateway import models, views
from gateway.clients import COMPLETE_TIMEOUT_S
from gateway.dependencies import MediaId, OnceByKey, ThisProcess, WhoAsks
from gateway.idempotency import Answer
from gateway.progress import Progress
from gateway.routes.documented import problems
from media.v1 import upload_service_pb2 as pb
from services.runtime import ids
from services.runtime.grpc_client import call

COMPLETE_PATH: Final = "/v1/complete-upload"
COMPLETE_BODY_BYTES: Final = 1_500_000
"""10,000 parts with quoted SHA-256-long ETags and generous white space."""

router = APIRouter(tags=["uploads"])


@router.post(
    "/v1/initiate-upload",
    status_code=201,
    response_model=models.InitiatedUpload,
    summary="Begin an upload",
    responses=problems(409, 413, 422, 429),
)
async def initiate_upload(body: models.InitiateUpload, here: ThisProcess, request: OnceByKey) -> Response:
    """Creates the media and answers with presigned URLs for its first parts.

    PUT each part to its URL with the part's headers, several at a time, and keep the `ETag` of every answer. Then
    complete the upload. URLs of an answer that is replayed may have expired: sign-parts gives fresh ones.
    Send the `traceresponse` of this answer as `traceparent` on the calls that follow, and all of it is one trace.
    """

    async def begin(request_id: str) -> Answer:
        begun = await call(
            here.clients.upload.InitiateUpload,
            pb.InitiateUploadRequest(
                user_id=request.user_id,
                filename=body.filename,
                content_type=body.content_type,
                size_bytes=body.size_bytes,
                request_id=request_id,
                checksum_algorithm=views.checksum_algorithm(body.checksum_algorithm),
                checksum=body.checksum or "",
            ),
        )
        location = here.addresses.media_path(begun.media_id)
        return Answer.of(201, views.initiated_upload(begun), {"Location": location})

    async with here.admission.entered():
        return await request.answer(begin)


@router.post(
    COMPLETE_PATH,
    status_code=202,
    response_model=models.Media,
    summary="Complete an upload",
    responses=problems(404, 409, 413, 422),
)
async def complete_upload(body: models.CompleteUpload, here: ThisProcess, request: OnceByKey) -> Response:
    """Joins the parts and queues the processing; `Location` leads to the media. Safe to repeat, even without a key."""

    async def complete(_: str) -> Answer:
        media_id = str(ids.parse_media_id(body.media_id))
        completed = await call(
            here.clients.upload.CompleteUpload,
            pb.CompleteUploadRequest(
                user_id=request.user_id,
                media_id=media_id,
                parts=[
                    pb.CompletedPart(part_number=part.part_number, etag=part.etag, checksum=part.checksum or "")
                    for part in body.parts
                ],
                checksum=body.checksum or "",
            ),
            timeout_s=COMPLETE_TIMEOUT_S,
        )
        media = views.media(completed.media, Progress(), here.addresses)
        return Answer.of(202, media, {"Location": here.addresses.media_path(media_id)})

    return await request.answer(complete)


@router.post(
    "/v1/uploads/{media_id}/sign-parts",
    summary="Sign more parts, or the same ones again",
    responses=problems(404, 409, 422),
)
async def sign_parts(
    media_id: MediaId, body: models.SignParts, caller: WhoAsks, here: ThisProcess
) -> models.SignedParts:
    """Answers with fresh URLs, for parts beyond the first window and for URLs that have expired.

    Where the upload has a checksum algorithm, each URL is for a part of that checksum alone.
    """
    signed = await call(
        here.clients.upload.SignParts,
        pb.SignPartsRequest(
            user_id=caller.user_id, media_id=media_id, part_numbers=body.part_numbers, checksums=body.checksums
        ),
    )
    return models.SignedParts(parts=views.presigned_parts(signed.parts), expires_at=views.time(signed.expires_at))


@router.get(
    "/v1/uploads/{media_id}/parts",
    summary="List the parts that storage holds",
    responses=problems(404, 409, 422),
)
async def list_parts(media_id: MediaId, caller: WhoAsks, here: ThisProcess) -> models.UploadedParts:
    """Answers with what has arrived, so that a client that lost its place sends only the rest."""
    held = await call(here.clients.upload.ListParts, pb.ListPartsRequest(user_id=caller.user_id, media_id=media_id))
    return models.UploadedParts(
        kind=views.KINDS[held.kind],
        parts=views.uploaded_parts(held.parts),
        upload_id=held.upload_id,
        part_size_bytes=held.part_size_bytes,
        part_count=held.part_count,
    )


@router.delete(
    "/v1/uploads/{media_id}",
    summary="Abort an upload",
    responses=problems(404, 409, 422),
)
async def abort_upload(media_id: MediaId, caller: WhoAsks, here: ThisProcess) -> models.Media:
    """Gives an open upload up; the media ends as failed with the reason `upload_aborted`. Safe to repeat."""
    aborted = await call(
        here.clients.upload.AbortUpload, pb.AbortUploadRequest(user_id=caller.user_id, media_id=media_id)
    )
    return views.media(aborted.media, Progress(), here.addresses)
