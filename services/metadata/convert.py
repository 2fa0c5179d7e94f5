"""Between protos and values, for the servicer.

`from_pb` functions also say what is wrong with a request; they raise `InvalidArgument` with the field's name.
"""

import json
import math
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NoReturn
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from media.v1 import media_pb2, metadata_service_pb2
from services.metadata.records import (
    Failure,
    Media,
    MediaStatus,
    MediaType,
    Original,
    PlannedTask,
    Rendition,
    Result,
    Task,
    TaskId,
    Thumbnail,
    TrackFacts,
    Upload,
    UploadState,
)
from services.metadata.views import MediaView
from services.runtime import topology
from services.runtime.errors import InvalidArgument, NotFound
from services.runtime.ids import UserId

MAX_TEXT: Final = 1_024
"""Characters of names and messages; what is longer is not for people."""
MAX_TASKS: Final = 10_000
_COST_TOLERANCE: Final = 1e-3

_TYPES: Final = {MediaType.IMAGE: media_pb2.MEDIA_TYPE_IMAGE, MediaType.VIDEO: media_pb2.MEDIA_TYPE_VIDEO}
_STATUSES: Final = {
    MediaStatus.UPLOADING: media_pb2.MEDIA_STATUS_UPLOADING,
    MediaStatus.PROCESSING: media_pb2.MEDIA_STATUS_PROCESSING,
    MediaStatus.PUBLISHED: media_pb2.MEDIA_STATUS_PUBLISHED,
    MediaStatus.FAILED: media_pb2.MEDIA_STATUS_FAILED,
}
_UPLOAD_STATES: Final = {
    UploadState.OPEN: metadata_service_pb2.UPLOAD_STATE_OPEN,
    UploadState.COMPLETING: metadata_service_pb2.UPLOAD_STATE_COMPLETING,
    UploadState.COMPLETED: metadata_service_pb2.UPLOAD_STATE_COMPLETED,
    UploadState.ABORTED: metadata_service_pb2.UPLOAD_STATE_ABORTED,
}
_TYPES_FROM_PB: Final = {pb: value for value, pb in _TYPES.items()}
_STATUSES_FROM_PB: Final = {pb: value for value, pb in _STATUSES.items()}


def refuse(field: str, message: str) -> NoReturn:
    """Raises: this field of the request is wrong."""
    raise InvalidArgument(f"{field} {message}", details={"field": field})


def text_from_pb(field: str, text: str, *, longest: int = MAX_TEXT) -> str:
    """A text of 1 to `longest` characters without control characters."""
    if not 1 <= len(text) <= longest:
        refuse(field, f"must have 1 to {longest} characters")
    if any(unicodedata.category(character) == "Cc" for character in text):
        refuse(field, "must not have control characters")
    return text


def user_from_pb(user_id: str) -> UserId:
    """An owner: `sub` of a token, 1 to 128 characters."""
    return UserId(text_from_pb("user_id", user_id, longest=128))


def task_id_from_pb(text: str) -> TaskId:
    """A task's identifier; a malformed one names no task."""
    try:
        return TaskId(UUID(text))
    except ValueError as error:
        raise NotFound("no such task", reason="TASK_NOT_FOUND") from error


def positive_from_pb(field: str, number: int) -> int:
    """A number above zero."""
    if number <= 0:
        refuse(field, "must be above zero")
    return number


def duration_from_pb(field: str, duration: Duration, *, longest: timedelta) -> timedelta:
    """A duration above zero, up to a bound."""
    span = duration.ToTimedelta()
    if not timedelta(0) < span <= longest:
        refuse(field, f"must be above zero and at most {longest}")
    return span


def type_from_pb(media_type: "media_pb2.MediaType.ValueType") -> MediaType:
    """Image or video."""
    if media_type not in _TYPES_FROM_PB:
        refuse("type", "must be image or video")
    return _TYPES_FROM_PB[media_type]


def status_from_pb(status: "media_pb2.MediaStatus.ValueType") -> MediaStatus | None:
    """A filter; None for all."""
    if status == media_pb2.MEDIA_STATUS_UNSPECIFIED:
        return None
    if status not in _STATUSES_FROM_PB:
        refuse("status", "is unknown")
    return _STATUSES_FROM_PB[status]


def failure_from_pb(failure: media_pb2.Failure) -> Failure:
    """Why something failed; a message that is too long is cut, for it often quotes others."""
    message = "".join(c if unicodedata.category(c) != "Cc" else " " for c in failure.message)[:MAX_TEXT]
    return Failure(text_from_pb("failure.reason", failure.reason, longest=64), message)


def original_from_pb(original: media_pb2.Original) -> Original:
    """A pinned original."""
    return Original(
        s3_key=text_from_pb("original.s3_key", original.s3_key),
        etag=text_from_pb("original.etag", original.etag),
        size_bytes=positive_from_pb("original.size_bytes", original.size_bytes),
    )


def json_from_pb(field: str, text: str) -> str:
    """A JSON object that the database can hold: no NaN, no NUL."""
    try:
        value = json.loads(text, parse_constant=lambda name: refuse(field, f"holds {name}"))
    except ValueError as error:
        raise InvalidArgument(f"{field} is no JSON", details={"field": field}) from error
    if not isinstance(value, dict):
        refuse(field, "must be a JSON object")
    return text


def plan_from_pb(tasks: Sequence[metadata_service_pb2.PlannedTask]) -> tuple[PlannedTask, ...]:
    """A plan: at least one task, labels that are unique, lanes that exist, cost shares that add up to 1."""
    if not 1 <= len(tasks) <= MAX_TASKS:
        refuse("tasks", f"must be 1 to {MAX_TASKS}")
    planned = tuple(_planned_from_pb(task) for task in tasks)
    if len({task.label for task in planned}) != len(planned):
        refuse("tasks.label", "must be unique")
    if abs(math.fsum(task.cost_share for task in planned) - 1) > _COST_TOLERANCE:
        refuse("tasks.cost_share", "must add up to 1")
    return planned


def _planned_from_pb(task: metadata_service_pb2.PlannedTask) -> PlannedTask:
    if task.lane not in topology.LANES:
        refuse("tasks.lane", f"must be one of {', '.join(topology.LANES)}")
    if not 0 <= task.cost_share <= 1:
        refuse("tasks.cost_share", "must be 0 to 1")
    return PlannedTask(
        label=text_from_pb("tasks.label", task.label, longest=64),
        lane=task.lane,
        spec_json=json_from_pb("tasks.spec_json", task.spec_json),
        cost_share=task.cost_share,
    )


def result_from_pb(result: media_pb2.TaskResult) -> Result:
    """A task's result; its body is kept as it is, and the facts that owners see are taken from it."""
    body = result.SerializeToString()
    match result.WhichOneof("output"):
        case "track":
            track = result.track
            keys = (track.init_s3_key, *(segment.s3_key for segment in track.segments))
            return Result(body, _track_facts(track), (), keys)
        case "stills":
            thumbnails = tuple(_thumbnail_from_pb(still.thumbnail) for still in result.stills.items)
            if not thumbnails or len({still.size_px for still in thumbnails}) != len(thumbnails):
                refuse("result.stills.items", "must be at least one, each of another size")
            return Result(body, None, thumbnails, tuple(still.s3_key for still in thumbnails))
        case _:
            refuse("result", "must have an output")


def _track_facts(track: media_pb2.Track) -> TrackFacts:
    if not track.segments:
        refuse("result.track.segments", "must be at least one")
    timescale = positive_from_pb("result.track.timescale", track.timescale)
    return TrackFacts(
        resolution=text_from_pb("result.track.label", track.label, longest=64),
        duration_secs=sum(segment.duration_ticks for segment in track.segments) / timescale,
        bitrate_kbps=round(track.average_bps / 1_000),
        peak_bitrate_kbps=round(track.peak_bps / 1_000),
        width_px=track.width_px,
        height_px=track.height_px,
        frame_rate=(track.frame_rate.numerator, track.frame_rate.denominator),
        codecs=text_from_pb("result.track.codecs", track.codecs),
    )


def _thumbnail_from_pb(thumbnail: media_pb2.Thumbnail) -> Thumbnail:
    field = "result.stills.items.thumbnail"
    return Thumbnail(
        size_px=positive_from_pb(f"{field}.size_px", thumbnail.size_px),
        s3_key=text_from_pb(f"{field}.s3_key", thumbnail.s3_key),
        width_px=positive_from_pb(f"{field}.width_px", thumbnail.width_px),
        height_px=positive_from_pb(f"{field}.height_px", thumbnail.height_px),
        content_type=text_from_pb(f"{field}.content_type", thumbnail.content_type),
        size_bytes=positive_from_pb(f"{field}.size_bytes", thumbnail.size_bytes),
    )


def timestamp_to_pb(moment: datetime) -> Timestamp:
    """A moment, to the microsecond."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def duration_to_pb(span: timedelta) -> Duration:
    """A duration, to the microsecond."""
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def status_to_pb(status: MediaStatus) -> "media_pb2.MediaStatus.ValueType":
    """Where a media stands."""
    return _STATUSES[status]


def type_to_pb(media_type: MediaType) -> "media_pb2.MediaType.ValueType":
    """Image or video."""
    return _TYPES[media_type]


def media_to_pb(view: MediaView) -> media_pb2.Media:
    """A media as its owner sees it; nothing of its delivery before it is published."""
    media = view.media
    message = media_pb2.Media(
        media_id=str(media.media_id),
        user_id=media.user_id,
        type=_TYPES[media.type],
        status=_STATUSES[media.status],
        generation=media.generation,
        s3_key=media.s3_key,
        size_bytes=media.size_bytes,
        filename=media.filename,
        content_type=media.content_type,
        created_at=timestamp_to_pb(media.created_at),
        updated_at=timestamp_to_pb(media.updated_at),
        s3_manifest_key=media.s3_manifest_key or "",
        renditions=[_rendition_to_pb(rendition) for rendition in view.renditions],
        thumbnails=[_thumbnail_to_pb(thumbnail) for thumbnail in view.thumbnails],
        tasks=[
            media_pb2.TaskSummary(
                task_id=str(task.task_id), label=task.label, done=task.done, cost_share=task.cost_share
            )
            for task in view.tasks
        ],
        trace_id=_trace_id(media),
    )
    if media.published_at is not None:
        message.published_at.CopyFrom(timestamp_to_pb(media.published_at))
    if media.failure is not None:
        message.failure.CopyFrom(media_pb2.Failure(reason=media.failure.reason, message=media.failure.message))
    return message


def _trace_id(media: Media) -> str:
    """The second field of a W3C `traceparent`: version-trace_id-parent_id-flags."""
    return media.traceparent.split("-")[1] if media.traceparent else ""


def _rendition_to_pb(rendition: Rendition) -> media_pb2.Rendition:
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


def _thumbnail_to_pb(thumbnail: Thumbnail) -> media_pb2.Thumbnail:
    return media_pb2.Thumbnail(
        size_px=thumbnail.size_px,
        s3_key=thumbnail.s3_key,
        width_px=thumbnail.width_px,
        height_px=thumbnail.height_px,
        content_type=thumbnail.content_type,
        size_bytes=thumbnail.size_bytes,
    )


def upload_to_pb(upload: Upload) -> metadata_service_pb2.Upload:
    """An upload session."""
    return metadata_service_pb2.Upload(
        media_id=str(upload.media_id),
        user_id=upload.user_id,
        s3_key=upload.s3_key,
        upload_id=upload.upload_id or "",
        size_bytes=upload.size_bytes,
        part_size_bytes=upload.part_size_bytes,
        state=_UPLOAD_STATES[upload.state],
        expires_at=timestamp_to_pb(upload.expires_at),
        content_type=upload.content_type,
        traceparent=upload.traceparent,
    )


def task_to_pb(task: Task, media: Media) -> media_pb2.Task:
    """A task with what its worker needs of its media."""
    original = media.original
    return media_pb2.Task(
        task_id=str(task.task_id),
        media_id=str(task.media_id),
        generation=task.generation,
        lane=task.lane,
        label=task.label,
        spec_json=task.spec_json,
        cost_share=task.cost_share,
        original=media_pb2.Original(s3_key=original.s3_key, etag=original.etag, size_bytes=original.size_bytes),
        delivery_prefix=media.delivery_prefix,
    )


def outputs_to_pb(results: Sequence[bytes]) -> tuple[list[media_pb2.Track], list[media_pb2.Still]]:
    """The tracks in plan order, and the stills, largest first."""
    tracks: list[media_pb2.Track] = []
    stills: list[media_pb2.Still] = []
    for body in results:
        result = media_pb2.TaskResult.FromString(body)
        if result.HasField("track"):
            tracks.append(result.track)
        else:
            stills.extend(result.stills.items)
    return tracks, sorted(stills, key=lambda still: still.thumbnail.size_px, reverse=True)
