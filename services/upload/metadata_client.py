"""The metadata service as the `Records` port."""

from datetime import timedelta
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from media.v1 import media_pb2, metadata_service_pb2, metadata_service_pb2_grpc
from services.runtime.grpc_client import call
from services.upload.claims import Claim, MediaType
from services.upload.parts import Layout
from services.upload.sessions import Failure, Session, SessionState, StoredOriginal

_TYPES: Final = {
    MediaType.IMAGE: media_pb2.MEDIA_TYPE_IMAGE,
    MediaType.VIDEO: media_pb2.MEDIA_TYPE_VIDEO,
}
_STATES: Final = {
    metadata_service_pb2.UPLOAD_STATE_OPEN: SessionState.OPEN,
    metadata_service_pb2.UPLOAD_STATE_COMPLETING: SessionState.COMPLETING,
    metadata_service_pb2.UPLOAD_STATE_COMPLETED: SessionState.COMPLETED,
    metadata_service_pb2.UPLOAD_STATE_ABORTED: SessionState.ABORTED,
}


class MetadataRecords:
    """Sessions at the metadata service; see `sessions.Records` for what each method owes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = metadata_service_pb2_grpc.MetadataServiceStub(channel)

    async def create(
        self, user_id: str, claim: Claim, part_size_bytes: int, time_to_live: timedelta, request_id: str
    ) -> Session:
        """Records the intent."""
        duration = Duration()
        duration.FromTimedelta(time_to_live)
        request = metadata_service_pb2.CreateMediaRequest(
            user_id=user_id,
            type=_TYPES[claim.media_type],
            filename=claim.filename,
            content_type=claim.content_type,
            size_bytes=claim.size_bytes,
            part_size_bytes=part_size_bytes,
            time_to_live=duration,
            request_id=request_id,
        )
        return _session((await call(self._stub.CreateMedia, request)).upload)

    async def attach(self, media_id: str, upload_id: str) -> Session:
        """Attaches a multipart upload."""
        request = metadata_service_pb2.AttachUploadRequest(media_id=media_id, upload_id=upload_id)
        return _session((await call(self._stub.AttachUpload, request)).upload)

    async def get(self, user_id: str, media_id: str) -> Session:
        """Reads a session."""
        request = metadata_service_pb2.GetUploadRequest(user_id=user_id, media_id=media_id)
        return _session((await call(self._stub.GetUpload, request)).upload)

    async def begin_complete(self, user_id: str, media_id: str) -> Session:
        """Moves an open session to completing."""
        request = metadata_service_pb2.BeginCompleteRequest(user_id=user_id, media_id=media_id)
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

    async def media(self, user_id: str, media_id: str) -> media_pb2.Media:
        """The media as it stands now, for answers that are passed on as they are."""
        request = metadata_service_pb2.GetMediaRequest(user_id=user_id, media_id=media_id)
        return (await call(self._stub.GetMedia, request)).media


def _session(upload: metadata_service_pb2.Upload) -> Session:
    return Session(
        media_id=upload.media_id,
        user_id=upload.user_id,
        s3_key=upload.s3_key,
        upload_id=upload.upload_id,
        layout=Layout(upload.size_bytes, upload.part_size_bytes),
        state=_STATES[upload.state],
        content_type=upload.content_type,
        traceparent=upload.traceparent,
    )
