"""The metadata service as the `Records` port."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from media.v1 import media_pb2, metadata_service_pb2, metadata_service_pb2_grpc
from services.runtime.grpc_client import call
from services.upload.checksums import ChecksumAlgorithm
from services.upload.claims import MediaType
from services.upload.kinds import UploadKind
from services.upload.parts import Layout
from services.upload.ports import Intent, Sweep
from services.upload.session import Failure, Session, SessionState, StoredOriginal

KINDS: Final = {
    UploadKind.MULTIPART: media_pb2.UPLOAD_KIND_MULTIPART,
    UploadKind.PUT: media_pb2.UPLOAD_KIND_PUT,
    UploadKind.FORM: media_pb2.UPLOAD_KIND_FORM,
}
ALGORITHMS: Final = {
    None: media_pb2.CHECKSUM_ALGORITHM_UNSPECIFIED,
    ChecksumAlgorithm.CRC32C: media_pb2.CHECKSUM_ALGORITHM_CRC32C,
    ChecksumAlgorithm.SHA256: media_pb2.CHECKSUM_ALGORITHM_SHA256,
}
_TYPES: Final = {
    MediaType.IMAGE: media_pb2.MEDIA_TYPE_IMAGE,
    MediaType.VIDEO: media_pb2.MEDIA_TYPE_VIDEO,
}
_KINDS_FROM: Final = {pb: kind for kind, pb in KINDS.items()}
_ALGORITHMS_FROM: Final = {pb: algorithm for algorithm, pb in ALGORITHMS.items()}
_TYPES_FROM: Final = {pb: media_type for media_type, pb in _TYPES.items()}
_STATES: Final = {
    metadata_service_pb2.UPLOAD_STATE_OPEN: SessionState.OPEN,
    metadata_service_pb2.UPLOAD_STATE_COMPLETING: SessionState.COMPLETING,
    metadata_service_pb2.UPLOAD_STATE_COMPLETED: SessionState.COMPLETED,
    metadata_service_pb2.UPLOAD_STATE_ABORTED: SessionState.ABORTED,
}

_STATES_TO: Final = {state: pb for pb, state in _STATES.items()}


class MetadataRecords:
    """Sessions at the metadata service; see `ports.Records` for what each method owes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = metadata_service_pb2_grpc.MetadataServiceStub(channel)

    async def create(self, user_id: str, intent: Intent) -> Session:
        """Records the intent."""
        request = metadata_service_pb2.CreateMediaRequest(
            user_id=user_id,
            type=_TYPES[intent.claim.media_type],
            filename=intent.claim.filename,
            content_type=intent.claim.content_type,
            size_bytes=intent.claim.size_bytes,
            part_size_bytes=intent.part_size_bytes,
            time_to_live=_duration(intent.time_to_live),
            request_id=intent.request_id,
            kind=KINDS[intent.kind],
            checksum_algorithm=ALGORITHMS[intent.checksum_algorithm],
            checksum=intent.checksum,
            media_id=intent.media_id,
            upload_id=intent.upload_id,
        )
        return _session((await call(self._stub.CreateMedia, request)).upload)

    async def get(self, user_id: str, media_id: str) -> Session:
        """Reads a session."""
        request = metadata_service_pb2.GetUploadRequest(user_id=user_id, media_id=media_id)
        return _session((await call(self._stub.GetUpload, request)).upload)

    async def begin_complete(self, user_id: str, media_id: str, *, size_bytes: int, checksum: str) -> Session:
        """Moves an open session to completing."""
        request = metadata_service_pb2.BeginCompleteRequest(
            user_id=user_id, media_id=media_id, size_bytes=size_bytes, checksum=checksum
        )
        return _session((await call(self._stub.BeginComplete, request)).upload)

    async def reopen(self, media_id: str) -> None:
        """Gives a completing session back."""
        await call(self._stub.ReopenUpload, metadata_service_pb2.ReopenUploadRequest(media_id=media_id))

    async def begin_processing(self, media_id: str, original: StoredOriginal) -> None:
        """Pins the original."""
        pinned = media_pb2.Original(s3_key=original.s3_key, etag=original.etag, size_bytes=original.size_bytes)
        request = metadata_service_pb2.BeginProcessingRequest(media_id=media_id, original=pinned)
        await call(self._stub.BeginProcessing, request)

    async def abort(self, user_id: str, media_id: str, failure: Failure) -> Session:
        """Ends an open session."""
        request = metadata_service_pb2.AbortMediaRequest(
            user_id=user_id,
            media_id=media_id,
            failure=media_pb2.Failure(reason=failure.reason, message=failure.message),
        )
        return _session((await call(self._stub.AbortMedia, request)).upload)

    async def claim_sweeps(self, limit: int, lease: timedelta) -> Sequence[Sweep]:
        """Takes sessions that are to be looked after."""
        request = metadata_service_pb2.ClaimSweepsRequest(max_sweeps=limit, lease=_duration(lease))
        return [
            Sweep(_session(sweep.upload), sweep.media_failed, sweep.sweep_count, sweep.in_state_for.ToTimedelta())
            for sweep in (await call(self._stub.ClaimSweeps, request)).sweeps
        ]

    async def finish_sweep(self, sweep: Sweep, again_in: timedelta | None) -> None:
        """Says when a session is to be looked after again."""
        request = metadata_service_pb2.FinishSweepRequest(
            media_id=sweep.session.media_id,
            sweep_count=sweep.count,
            state=_STATES_TO[sweep.session.state],
            again_in=None if again_in is None else _duration(again_in),
        )
        await call(self._stub.FinishSweep, request)

    async def orphans(self, stored: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Says which multipart uploads belong to nothing."""
        request = metadata_service_pb2.FindOrphansRequest(
            uploads=[
                metadata_service_pb2.StoredUpload(media_id=media_id, upload_id=upload_id)
                for media_id, upload_id in stored
            ]
        )
        return [(one.media_id, one.upload_id) for one in (await call(self._stub.FindOrphans, request)).orphans]

    async def media(self, user_id: str, media_id: str) -> media_pb2.Media:
        """The media as it stands now, for answers that are passed on as they are."""
        request = metadata_service_pb2.GetMediaRequest(user_id=user_id, media_id=media_id)
        return (await call(self._stub.GetMedia, request)).media


def _duration(span: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def _session(upload: metadata_service_pb2.Upload) -> Session:
    return Session(
        media_id=upload.media_id,
        user_id=upload.user_id,
        s3_key=upload.s3_key,
        upload_id=upload.upload_id,
        layout=Layout(upload.size_bytes, upload.part_size_bytes),
        state=_STATES[upload.state],
        content_type=upload.content_type,
        media_type=_TYPES_FROM[upload.type],
        traceparent=upload.traceparent,
        kind=_KINDS_FROM[upload.kind],
        checksum_algorithm=_ALGORITHMS_FROM[upload.checksum_algorithm],
        checksum=upload.checksum,
    )
