"""Uppy: Companion's S3 contract, so that an unmodified `@uppy/aws-s3` uploads with our endpoint as its only setting.

Version 6 sends neither headers nor credentials, hence upload tokens: in the path, out of which `middleware.PathTokens`
has taken them by the time a route is found, or in a cookie for pages of our own origin. Sizes are never told in
advance; the upload service checks limits against what storage holds.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias
from uuid import uuid4

from fastapi import APIRouter, Depends, Path, Query, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials
from opentelemetry import trace

from gateway import companion, upload_tokens
from gateway.auth import Caller
from gateway.clients import COMPLETE_TIMEOUT_S
from gateway.dependencies import Parts, ThisProcess, bearer, identified
from gateway.routes.documented import problems
from media.v1 import media_pb2
from media.v1 import upload_service_pb2 as pb
from services.runtime import semconv
from services.runtime.errors import Unauthenticated
from services.runtime.grpc_client import call

COMPLETE_PATH: Final = re.compile(r"/uppy/s3/multipart/[^/]+/complete")

router = APIRouter(prefix="/uppy/s3", tags=["uppy"])

_cookie = APIKeyCookie(
    name=upload_tokens.COOKIE,
    scheme_name="UploadCookie",
    description="An upload token as a cookie, on calls of pages of this origin.",
    auto_error=False,
)


async def _uploader(
    request: Request,
    here: ThisProcess,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    cookie: Annotated[str | None, Security(_cookie)],
) -> Caller:
    """Who uploads, by the token in the path, the bearer token or the cookie: the first that there is decides."""
    if here.upload_tokens is None:
        raise upload_tokens.disabled()
    if token := getattr(request.state, "upload_token", None):
        return identified(here.upload_tokens.caller(token))
    if credentials:
        return identified(await here.authenticator.caller(credentials.credentials))
    if not cookie:
        raise Unauthenticated("send an upload token in the path, a bearer token or the cookie", reason="TOKEN_MISSING")
    upload_tokens.check_own_page(
        fetch_site=request.headers.get("Sec-Fetch-Site"),
        origin=request.headers.get("Origin"),
        own_url=here.addresses.gateway_url or str(request.base_url),
    )
    return identified(here.upload_tokens.caller(cookie))


@dataclass(frozen=True, slots=True)
class Upload:
    """The upload that a call is about, as its client names it; only the services know whether there is such a one."""

    user_id: str
    media_id: str
    upload_id: str
    key: str


async def _upload(
    caller: Annotated[Caller, Depends(_uploader)],
    upload_id: Annotated[str, Path(max_length=1_024, description="as the upload's beginning answered")],
    key: Annotated[str, Query(max_length=1_024, description="as the upload's beginning answered")],
) -> Upload:
    media_id = companion.media_id_of(key)
    trace.get_current_span().set_attribute(semconv.MEDIA_ID, media_id)
    return Upload(caller.user_id, media_id, upload_id, key)


WhoUploads: TypeAlias = Annotated[Caller, Depends(_uploader)]
ThisUpload: TypeAlias = Annotated[Upload, Depends(_upload)]


@router.get("/params", summary="Begin an upload of one form", responses=problems(404, 413, 422, 429))
async def get_parameters(
    caller: WhoUploads,
    here: ThisProcess,
    filename: Annotated[str, Query(description="for display", examples=["holiday.jpg"])] = "",
    content_type: Annotated[str, Query(alias="type", examples=["image/jpeg"])] = "",
) -> companion.UploadParameters:
    """Creates the media and answers with a form to POST its file with; it is completed without another call."""
    begun = await _begin(caller, here, filename, content_type, media_pb2.UPLOAD_KIND_FORM)
    return companion.UploadParameters(
        url=begun.form.url,
        fields=dict(begun.form.fields),
        expires=companion.seconds_until(begun.expires_at),
        media_id=begun.media_id,
    )


@router.post("/multipart", summary="Begin an upload in parts", responses=problems(404, 413, 422, 429))
async def create_multipart(body: companion.NewMultipart, caller: WhoUploads, here: ThisProcess) -> companion.Multipart:
    """Creates the media and an upload to which parts may be sent."""
    begun = await _begin(caller, here, body.filename, body.type, media_pb2.UPLOAD_KIND_MULTIPART)
    return companion.Multipart(key=begun.s3_key, upload_id=begun.upload_id)


@router.get("/multipart/{upload_id}", summary="List the parts that storage holds", responses=problems(404, 409, 422))
async def list_parts(upload: ThisUpload, here: ThisProcess) -> list[companion.HeldPart]:
    """All parts that have arrived; of one sent twice, the latest."""
    request = pb.ListPartsRequest(user_id=upload.user_id, media_id=upload.media_id, upload_id=upload.upload_id)
    return companion.held_parts((await call(here.clients.upload.ListParts, request)).parts)


@router.get("/multipart/{upload_id}/batch", summary="Sign several parts", responses=problems(404, 409, 422))
async def sign_parts(
    upload: ThisUpload, here: ThisProcess, part_numbers: Annotated[str, Query(alias="partNumbers", examples=["1,2,3"])]
) -> companion.SignedParts:
    """Answers with a URL for each part, for the first time or again."""
    signed = await _sign(upload, here, companion.part_numbers_of(part_numbers))
    return companion.SignedParts(presigned_urls={str(part.part_number): part.url for part in signed.parts})


@router.get("/multipart/{upload_id}/{part_number}", summary="Sign a part", responses=problems(404, 409, 422))
async def sign_part(
    upload: ThisUpload, here: ThisProcess, part_number: Annotated[int, Path(ge=1, le=10_000)]
) -> companion.SignedPart:
    """Answers with a URL to PUT the part to, for the first time or again."""
    signed = await _sign(upload, here, [part_number])
    return companion.SignedPart(url=signed.parts[0].url, expires=companion.seconds_until(signed.expires_at))


@router.post("/multipart/{upload_id}/complete", summary="Complete an upload", responses=problems(404, 409, 413, 422))
async def complete_multipart(body: companion.SentParts, upload: ThisUpload, here: ThisProcess) -> companion.Completed:
    """Joins the parts and queues the processing. Safe to repeat."""
    completed = await call(
        here.clients.upload.CompleteUpload,
        pb.CompleteUploadRequest(
            user_id=upload.user_id,
            media_id=upload.media_id,
            upload_id=upload.upload_id,
            parts=[pb.CompletedPart(part_number=part.part_number, etag=part.etag) for part in body.parts],
        ),
        timeout_s=COMPLETE_TIMEOUT_S,
    )
    page = here.addresses.links(upload.media_id, completed.media.trace_id).watch
    return companion.Completed(location=page, key=upload.key)


@router.delete("/multipart/{upload_id}", summary="Abort an upload", responses=problems(404, 409, 422))
async def abort_multipart(upload: ThisUpload, here: ThisProcess) -> companion.Aborted:
    """Gives an open upload up. Safe to repeat."""
    request = pb.AbortUploadRequest(user_id=upload.user_id, media_id=upload.media_id, upload_id=upload.upload_id)
    await call(here.clients.upload.AbortUpload, request)
    return companion.Aborted()


async def _begin(
    caller: Caller, here: Parts, filename: str, content_type: str, kind: media_pb2.UploadKind.ValueType
) -> pb.InitiateUploadResponse:
    wanted = pb.InitiateUploadRequest(
        user_id=caller.user_id,
        filename=filename,
        content_type=companion.content_type_of(content_type),
        kind=kind,
        request_id=uuid4().hex,  # for repeats behind the gateway
    )
    async with here.admission.entered():
        return await call(here.clients.upload.InitiateUpload, wanted)


async def _sign(upload: Upload, here: Parts, part_numbers: list[int]) -> pb.SignPartsResponse:
    return await call(
        here.clients.upload.SignParts,
        pb.SignPartsRequest(
            user_id=upload.user_id, media_id=upload.media_id, upload_id=upload.upload_id, part_numbers=part_numbers
        ),
    )
