"""From protos to values, for the servicer; and what is wrong with a request.

Every function raises `InvalidArgument` with the field's name in its details, unless it says otherwise.
"""

import json
import math
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final, NoReturn
from uuid import UUID, uuid4

from google.protobuf.duration_pb2 import Duration

from media.v1 import media_pb2, metadata_service_pb2
from services.metadata import to_pb
from services.metadata.records import (
    ChecksumAlgorithm,
    Failure,
    MediaStatus,
    MediaType,
    Original,
    PlannedTask,
    Result,
    TaskId,
    Thumbnail,
    TrackFacts,
    UploadKind,
    UploadState,
)
from services.runtime import topology
from services.runtime.errors import InvalidArgument, NotFound
from services.runtime.ids import UserId

MAX_TEXT: Final = 1_024
"""Characters of names, keys and messages; S3 keys are the longest of them, with 1,024 bytes."""
MAX_TASKS: Final = 10_000
MAX_BPS: Final = 10**12
"""A terabit a second: no media, but a number that the tables hold."""
MAX_THUMBHASH_BYTES: Final = 32
"""What the column holds. The format's own limit, 25, is the affair of who makes them."""
_COST_TOLERANCE: Final = 1e-3

_TYPES: Final = {pb: value for value, pb in to_pb.TYPES.items()}
_STATUSES: Final = {pb: value for value, pb in to_pb.STATUSES.items()}
_KINDS: Final = {pb: value for value, pb in to_pb.KINDS.items()}
_ALGORITHMS: Final = {pb: value for value, pb in to_pb.ALGORITHMS.items()}
_UPLOAD_STATES: Final = {pb: value for value, pb in to_pb.UPLOAD_STATES.items()}


def refuse(field: str, message: str) -> NoReturn:
    """Raises: this field of the request is wrong."""
    raise InvalidArgument(f"{field} {message}", details={"field": field})


def name(field: str, text: str, *, longest: int = MAX_TEXT) -> str:
    """A text of 1 to `longest` characters without control characters."""
    if not 1 <= len(text) <= longest:
        refuse(field, f"must have 1 to {longest} characters")
    if any(unicodedata.category(character) == "Cc" for character in text):
        refuse(field, "must not have control characters")
    return text


def user(user_id: str) -> UserId:
    """An owner: `sub` of a token, 1 to 128 characters."""
    return UserId(name("user_id", user_id, longest=128))


def task_id(text: str) -> TaskId:
    """A task's identifier; a malformed one names no task."""
    try:
        return TaskId(UUID(text))
    except ValueError as error:
        raise NotFound("no such task", reason="TASK_NOT_FOUND") from error


def positive(field: str, number: int) -> int:
    """A number above zero."""
    if number <= 0:
        refuse(field, "must be above zero")
    return number


def not_negative(field: str, number: int) -> int:
    """A number of at least zero."""
    if number < 0:
        refuse(field, "must not be negative")
    return number


def operation_id(text: str) -> UUID:
    """What `BeginRequest` named a request."""
    try:
        return UUID(text)
    except ValueError:
        refuse("operation_id", "is not one that was given out")


def claim_id(text: str) -> UUID:
    """Names a call that may be repeated; a fresh one where it has no name."""
    try:
        return UUID(text) if text else uuid4()
    except ValueError:
        refuse("claim_id", "must be a UUID")


def fingerprint(value: bytes) -> bytes:
    """A SHA-256."""
    if len(value) != 32:
        refuse("fingerprint", "must be a SHA-256")
    return value


def duration(field: str, value: Duration, *, longest: timedelta) -> timedelta:
    """A duration above zero, up to a bound."""
    span = value.ToTimedelta()
    if not timedelta(0) < span <= longest:
        refuse(field, f"must be above zero and at most {longest}")
    return span


def wait(field: str, value: Duration, *, longest: timedelta) -> timedelta:
    """A duration up to a bound; zero when it is unset."""
    span = value.ToTimedelta()
    if not timedelta(0) <= span <= longest:
        refuse(field, f"must not be negative, and at most {longest}")
    return span


def media_type(value: "media_pb2.MediaType.ValueType") -> MediaType:
    """Image or video."""
    if value not in _TYPES:
        refuse("type", "must be image or video")
    return _TYPES[value]


def upload_kind(value: "media_pb2.UploadKind.ValueType") -> UploadKind:
    """How bytes come; unspecified is in parts, as callers of before this field mean."""
    if value == media_pb2.UPLOAD_KIND_UNSPECIFIED:
        return UploadKind.MULTIPART
    if value not in _KINDS:
        refuse("kind", "is unknown")
    return _KINDS[value]


def upload_state(value: "metadata_service_pb2.UploadState.ValueType") -> UploadState:
    """Where an upload stands."""
    if value not in _UPLOAD_STATES:
        refuse("state", "is unknown")
    return _UPLOAD_STATES[value]


def checksum_algorithm(value: "media_pb2.ChecksumAlgorithm.ValueType") -> ChecksumAlgorithm | None:
    """An algorithm; None for none."""
    if value not in _ALGORITHMS:
        refuse("checksum_algorithm", "is unknown")
    return _ALGORITHMS[value]


def checksum(text: str) -> str | None:
    """A checksum in base64; None for none."""
    return name("checksum", text, longest=64) if text else None


def media_status(value: "media_pb2.MediaStatus.ValueType") -> MediaStatus | None:
    """A filter; None for all."""
    if value == media_pb2.MEDIA_STATUS_UNSPECIFIED:
        return None
    if value not in _STATUSES:
        refuse("status", "is unknown")
    return _STATUSES[value]


def failure(value: media_pb2.Failure) -> Failure:
    """Why something failed; a message that is too long is cut, for it often quotes others."""
    message = "".join(c if unicodedata.category(c) != "Cc" else " " for c in value.message)[:MAX_TEXT]
    return Failure(name("failure.reason", value.reason, longest=64), message)


def original(value: media_pb2.Original) -> Original:
    """A pinned original."""
    return Original(
        s3_key=name("original.s3_key", value.s3_key),
        etag=name("original.etag", value.etag),
        size_bytes=positive("original.size_bytes", value.size_bytes),
    )


def json_object(field: str, text: str) -> str:
    """A JSON object that the database can hold: no NaN, no NUL."""
    try:
        value = json.loads(text, parse_constant=lambda name: refuse(field, f"holds {name}"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{field} is no JSON", details={"field": field}) from error
    if not isinstance(value, dict):
        refuse(field, "must be a JSON object")
    return text


def plan(tasks: Sequence[metadata_service_pb2.PlannedTask]) -> tuple[PlannedTask, ...]:
    """A plan: at least one task, labels that are unique, lanes that exist, cost shares that add up to 1."""
    if not 1 <= len(tasks) <= MAX_TASKS:
        refuse("tasks", f"must be 1 to {MAX_TASKS}")
    planned = tuple(_planned(task) for task in tasks)
    if len({task.label for task in planned}) != len(planned):
        refuse("tasks.label", "must be unique")
    if abs(math.fsum(task.cost_share for task in planned) - 1) > _COST_TOLERANCE:
        refuse("tasks.cost_share", "must add up to 1")
    return planned


def _planned(task: metadata_service_pb2.PlannedTask) -> PlannedTask:
    if task.lane not in topology.LANES:
        refuse("tasks.lane", f"must be one of {', '.join(topology.LANES)}")
    if not 0 <= task.cost_share <= 1:
        refuse("tasks.cost_share", "must be 0 to 1")
    if task.memory_bytes < 0:
        refuse("tasks.memory_bytes", "must not be negative")
    return PlannedTask(
        label=name("tasks.label", task.label, longest=64),
        lane=task.lane,
        spec_json=json_object("tasks.spec_json", task.spec_json),
        cost_share=task.cost_share,
        memory_bytes=task.memory_bytes,
    )


def result(value: media_pb2.TaskResult) -> Result:
    """A task's result; its body is kept as it is, and the facts that owners see are taken from it."""
    body = value.SerializeToString()
    match value.WhichOneof("output"):
        case "track":
            return Result(body, track_facts(value.track), (), tuple(_track_keys(value.track)))
        case "pieces":
            pieces = value.pieces.items
            if len({track_facts(piece).resolution for piece in pieces}) != len(pieces) or not pieces:
                refuse("result.pieces.items", "must be at least one, each of another track")
            return Result(body, None, (), tuple(key for piece in pieces for key in _track_keys(piece)))
        case "stills":
            thumbnails = tuple(_thumbnail(still.thumbnail) for still in value.stills.items)
            if not thumbnails or len({(still.size_px, still.content_type) for still in thumbnails}) != len(thumbnails):
                refuse("result.stills.items", "must be at least one, each of another size or type")
            return Result(body, None, thumbnails, tuple(still.s3_key for still in thumbnails))
        case _:
            refuse("result", "must have an output")


def _track_keys(track: media_pb2.Track) -> Iterator[str]:
    if track.init_s3_key:
        yield track.init_s3_key
    yield from (segment.s3_key for segment in track.segments)


def track_facts(track: media_pb2.Track) -> TrackFacts:
    """What a track says of the rendition that it is."""
    if not track.segments:
        refuse("result.track.segments", "must be at least one")
    timescale = positive("result.track.timescale", track.timescale)
    ticks = sum(segment.duration_ticks for segment in track.segments)
    return TrackFacts(
        resolution=name("result.track.label", track.label, longest=64),
        duration_secs=_not_negative("result.track.segments.duration_ticks", ticks) / timescale,
        bitrate_kbps=_kbps("result.track.average_bps", track.average_bps),
        peak_bitrate_kbps=_kbps("result.track.peak_bps", track.peak_bps),
        width_px=_not_negative("result.track.width_px", track.width_px),
        height_px=_not_negative("result.track.height_px", track.height_px),
        frame_rate=(track.frame_rate.numerator, track.frame_rate.denominator),
        codecs=name("result.track.codecs", track.codecs),
    )


def _kbps(field: str, bps: int) -> int:
    if not 0 <= bps <= MAX_BPS:
        refuse(field, f"must be 0 to {MAX_BPS}")
    return round(bps / 1_000)


def _not_negative(field: str, number: int) -> int:
    if number < 0:
        refuse(field, "must not be negative")
    return number


def _thumbnail(thumbnail: media_pb2.Thumbnail) -> Thumbnail:
    field = "result.stills.items.thumbnail"
    return Thumbnail(
        size_px=positive(f"{field}.size_px", thumbnail.size_px),
        s3_key=name(f"{field}.s3_key", thumbnail.s3_key),
        width_px=positive(f"{field}.width_px", thumbnail.width_px),
        height_px=positive(f"{field}.height_px", thumbnail.height_px),
        content_type=name(f"{field}.content_type", thumbnail.content_type),
        size_bytes=positive(f"{field}.size_bytes", thumbnail.size_bytes),
        thumbhash=_thumbhash(f"{field}.thumbhash", thumbnail.thumbhash),
    )


def _thumbhash(field: str, value: bytes) -> bytes:
    if len(value) > MAX_THUMBHASH_BYTES:
        refuse(field, f"must be at most {MAX_THUMBHASH_BYTES} bytes")
    return value
