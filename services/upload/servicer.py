"""The gRPC face of the upload service: messages to values and back, nothing else."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry import trace

from media.v1 import media_pb2, upload_service_pb2, upload_service_pb2_grpc
from services.runtime import semconv
from services.runtime.errors import InvalidArgument
from services.upload.checksums import ChecksumAlgorithm
from services.upload.completion import Completion
from services.upload.kinds import UploadKind
from services.upload.metadata_client import ALGORITHMS, KINDS, MetadataRecords
from services.upload.parts import ClaimedPart, normalised_etag
from services.upload.sessions import Sessions, SignedPart

_KINDS: Final = {pb: kind for kind, pb in KINDS.items()}
_ALGORITHMS: Final = {pb: algorithm for algorithm, pb in ALGORITHMS.items()}

_Context = grpc.aio.ServicerContext[Any, Any]


class UploadServicer(upload_service_pb2_grpc.UploadServiceServicer):
    """Implements `media.v1.UploadService`; errors are those of the use cases it calls."""

    def __init__(self, sessions: Sessions, completion: Completion, records: MetadataRecords) -> None:
        self._sessions = sessions
        self._completion = completion
        self._records = records

    async def InitiateUpload(
        self, request: upload_service_pb2.InitiateUploadRequest, context: _Context
    ) -> upload_service_pb2.InitiateUploadResponse:
        """Begins an upload."""
        window = await self._sessions.initiate(
            request.user_id,
            filename=request.filename,
            content_type=request.content_type,
            size_bytes=request.size_bytes,
            request_id=request.request_id,
            kind=_kind(request.kind),
            checksum_algorithm=_algorithm(request.checksum_algorithm),
            checksum=request.checksum,
        )
        session, layout, form = window.session, window.session.layout, window.form
        _describe(session.media_id, part_count=layout.part_count)
        return upload_service_pb2.InitiateUploadResponse(
            media_id=session.media_id,
            upload_id=session.upload_id,
            part_size_bytes=layout.part_size_bytes,
            part_count=layout.part_count,
            parts=_parts_to_pb(window.parts),
            expires_at=_time_to_pb(window.expires_at),
            kind=KINDS[session.kind],
            form=upload_service_pb2.PresignedForm(url=form.url, fields=form.fields) if form else None,
            s3_key=session.s3_key,
        )

    async def SignParts(
        self, request: upload_service_pb2.SignPartsRequest, context: _Context
    ) -> upload_service_pb2.SignPartsResponse:
        """Signs parts."""
        _describe(request.media_id, part_count=len(request.part_numbers))
        window = await self._sessions.sign(
            request.user_id,
            request.media_id,
            [*request.part_numbers],
            [*request.checksums],
            upload_id=request.upload_id,
        )
        return upload_service_pb2.SignPartsResponse(
            parts=_parts_to_pb(window.parts), expires_at=_time_to_pb(window.expires_at)
        )

    async def ListParts(
        self, request: upload_service_pb2.ListPartsRequest, context: _Context
    ) -> upload_service_pb2.ListPartsResponse:
        """Lists what storage holds."""
        _describe(request.media_id)
        session, held = await self._sessions.held(request.user_id, request.media_id, upload_id=request.upload_id)
        return upload_service_pb2.ListPartsResponse(
            parts=[
                upload_service_pb2.UploadedPart(part_number=part.number, etag=part.etag, size_bytes=part.size_bytes)
                for part in held
            ],
            upload_id=session.upload_id,
            part_size_bytes=session.layout.part_size_bytes,
            part_count=session.layout.part_count,
            kind=KINDS[session.kind],
        )

    async def CompleteUpload(
        self, request: upload_service_pb2.CompleteUploadRequest, context: _Context
    ) -> upload_service_pb2.CompleteUploadResponse:
        """Completes an upload."""
        _describe(request.media_id, part_count=len(request.parts))
        claimed = [ClaimedPart(part.part_number, normalised_etag(part.etag), part.checksum) for part in request.parts]
        await self._completion.complete(
            request.user_id, request.media_id, claimed, checksum=request.checksum, upload_id=request.upload_id
        )
        return upload_service_pb2.CompleteUploadResponse(
            media=await self._records.media(request.user_id, request.media_id)
        )

    async def AbortUpload(
        self, request: upload_service_pb2.AbortUploadRequest, context: _Context
    ) -> upload_service_pb2.AbortUploadResponse:
        """Aborts an upload."""
        _describe(request.media_id)
        await self._sessions.abort(request.user_id, request.media_id, upload_id=request.upload_id)
        return upload_service_pb2.AbortUploadResponse(
            media=await self._records.media(request.user_id, request.media_id)
        )


def _kind(value: "media_pb2.UploadKind.ValueType") -> UploadKind | None:
    if value == media_pb2.UPLOAD_KIND_UNSPECIFIED:
        return None
    if value not in _KINDS:
        raise InvalidArgument("no such kind of upload", details={"field": "kind"})
    return _KINDS[value]


def _algorithm(value: "media_pb2.ChecksumAlgorithm.ValueType") -> ChecksumAlgorithm | None:
    if value not in _ALGORITHMS:
        raise InvalidArgument("no such algorithm", details={"field": "checksum_algorithm"})
    return _ALGORITHMS[value]


def _describe(media_id: str, *, part_count: int | None = None) -> None:
    span = trace.get_current_span()
    span.set_attribute(semconv.MEDIA_ID, media_id)
    if part_count is not None:
        span.set_attribute(semconv.PART_COUNT, part_count)


def _parts_to_pb(signed: Iterable[SignedPart]) -> list[upload_service_pb2.PresignedPart]:
    return [
        upload_service_pb2.PresignedPart(
            part_number=part.number, url=part.url, size_bytes=part.size_bytes, headers=part.headers
        )
        for part in signed
    ]


def _time_to_pb(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
