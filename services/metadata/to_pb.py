"""From values to protos, for the servicer."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from media.v1 import media_pb2, metadata_service_pb2
from services.metadata import joining
from services.metadata.records import (
    ChecksumAlgorithm,
    Media,
    MediaStatus,
    MediaType,
    Quota,
    Rendition,
    Sweep,
    Task,
    Thumbnail,
    Upload,
    UploadKind,
    UploadState,
)
from services.metadata.views import MediaView

TYPES: Final = {MediaType.IMAGE: media_pb2.MEDIA_TYPE_IMAGE, MediaType.VIDEO: media_pb2.MEDIA_TYPE_VIDEO}
STATUSES: Final = {
    MediaStatus.UPLOADING: media_pb2.MEDIA_STATUS_UPLOADING,
    MediaStatus.PROCESSING: media_pb2.MEDIA_STATUS_PROCESSING,
    MediaStatus.PUBLISHED: media_pb2.MEDIA_STATUS_PUBLISHED,
    MediaStatus.FAILED: media_pb2.MEDIA_STATUS_FAILED,
}
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
UPLOAD_STATES: Final = {
    UploadState.OPEN: metadata_service_pb2.UPLOAD_STATE_OPEN,
    UploadState.COMPLETING: metadata_service_pb2.UPLOAD_STATE_COMPLETING,
    UploadState.COMPLETED: metadata_service_pb2.UPLOAD_STATE_COMPLETED,
    UploadState.ABORTED: metadata_service_pb2.UPLOAD_STATE_ABORTED,
}


def timestamp(moment: datetime) -> Timestamp:
    """A moment, to the microsecond."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def duration(span: timedelta) -> Duration:
    """A duration, to the microsecond."""
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def media_status(value: MediaStatus) -> "media_pb2.MediaStatus.ValueType":
    """Where a media stands."""
    return STATUSES[value]


def media_type(value: MediaType) -> "media_pb2.MediaType.ValueType":
    """Image or video."""
    return TYPES[value]


def media(view: MediaView) -> media_pb2.Media:
    """A media as its owner sees it; nothing of its delivery before it is published."""
    record = view.media
    message = media_pb2.Media(
        media_id=str(record.media_id),
        user_id=record.user_id,
        type=TYPES[record.type],
        status=STATUSES[record.status],
        generation=record.generation,
        s3_key=record.s3_key,
        size_bytes=record.size_bytes,
        filename=record.filename,
        content_type=record.content_type,
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        s3_manifest_key=record.s3_manifest_key or "",
        renditions=[_rendition(rendition) for rendition in view.renditions],
        thumbnails=[_thumbnail(thumbnail) for thumbnail in view.thumbnails],
        tasks=[
            media_pb2.TaskSummary(
                task_id=str(task.task_id), label=task.label, done=task.done, cost_share=task.cost_share
            )
            for task in view.tasks
        ],
        trace_id=_trace_id(record),
    )
    if _is_verified(record):
        message.checksum_algorithm = ALGORITHMS[record.checksum_algorithm]
        message.checksum = record.checksum or ""
    if record.published_at is not None:
        message.published_at.CopyFrom(timestamp(record.published_at))
    if record.failure is not None:
        message.failure.CopyFrom(media_pb2.Failure(reason=record.failure.reason, message=record.failure.message))
    return message


def _is_verified(media: Media) -> bool:
    """Whether the bytes were found to have the checksum: by storage as it joined them, at the latest by the planner."""
    is_known_to_storage = media.checksum_algorithm is ChecksumAlgorithm.CRC32C and media.original_etag is not None
    return media.checksum is not None and (is_known_to_storage or media.planned_at is not None)


def _trace_id(media: Media) -> str:
    """The second field of a W3C `traceparent`: version-trace_id-parent_id-flags."""
    return media.traceparent.split("-")[1] if media.traceparent else ""


def _rendition(rendition: Rendition) -> media_pb2.Rendition:
    numerator, denominator = rendition.frame_rate
    return media_pb2.Rendition(
        rendition_id=str(rendition.rendition_id),
        resolution=rendition.resolution,
        s3_manifest_key=rendition.s3_manifest_key or "",
        duration_secs=rendition.duration_secs,
        bitrate_kbps=rendition.bitrate_kbps,
        peak_bitrate_kbps=rendition.peak_bitrate_kbps,
        width_px=rendition.width_px,
        height_px=rendition.height_px,
        frame_rate=media_pb2.Rational(numerator=numerator, denominator=denominator) if denominator else None,
        codecs=rendition.codecs,
    )


def _thumbnail(thumbnail: Thumbnail) -> media_pb2.Thumbnail:
    return media_pb2.Thumbnail(
        size_px=thumbnail.size_px,
        s3_key=thumbnail.s3_key,
        width_px=thumbnail.width_px,
        height_px=thumbnail.height_px,
        content_type=thumbnail.content_type,
        size_bytes=thumbnail.size_bytes,
        thumbhash=thumbnail.thumbhash,
    )


def upload(session: Upload) -> metadata_service_pb2.Upload:
    """An upload session."""
    return metadata_service_pb2.Upload(
        media_id=str(session.media_id),
        user_id=session.user_id,
        s3_key=session.s3_key,
        upload_id=session.upload_id or "",
        size_bytes=session.size_bytes,
        part_size_bytes=session.part_size_bytes,
        state=UPLOAD_STATES[session.state],
        expires_at=timestamp(session.expires_at),
        content_type=session.content_type,
        traceparent=session.traceparent,
        kind=KINDS[session.kind],
        checksum_algorithm=ALGORITHMS[session.checksum_algorithm],
        checksum=session.checksum or "",
        type=TYPES[session.type],
    )


def sweep(claimed: Sweep) -> metadata_service_pb2.Sweep:
    """An upload that is to be looked after."""
    return metadata_service_pb2.Sweep(
        upload=upload(claimed.upload),
        media_failed=claimed.media_failed,
        sweep_count=claimed.count,
        in_state_for=duration(claimed.in_state_for),
    )


def quota(value: Quota) -> metadata_service_pb2.GetQuotaResponse:
    """What an owner uses; no limit is 0."""
    return metadata_service_pb2.GetQuotaResponse(
        used_bytes=value.used.bytes,
        limit_bytes=value.limit_bytes or 0,
        media_count=value.used.media,
        media_limit=value.media_limit or 0,
        open_upload_count=value.used.open_uploads,
        open_upload_limit=value.open_upload_limit or 0,
    )


def task(leased: Task, of: Media) -> media_pb2.Task:
    """A task with what its worker needs of its media."""
    original = of.original
    return media_pb2.Task(
        task_id=str(leased.task_id),
        media_id=str(leased.media_id),
        generation=leased.generation,
        lane=leased.lane,
        label=leased.label,
        spec_json=leased.spec_json,
        cost_share=leased.cost_share,
        original=media_pb2.Original(s3_key=original.s3_key, etag=original.etag, size_bytes=original.size_bytes),
        delivery_prefix=of.delivery_prefix,
    )


def outputs(results: Sequence[bytes]) -> tuple[list[media_pb2.Track], list[media_pb2.Still]]:
    """The tracks, those that were made in pieces first, each kind in plan order; and the stills, largest first."""
    parsed = [media_pb2.TaskResult.FromString(body) for body in results]
    tracks = joining.joined(parsed)
    tracks += [result.track for result in parsed if result.HasField("track")]
    stills = [still for result in parsed for still in result.stills.items]
    return tracks, sorted(stills, key=lambda still: -still.thumbnail.size_px)
