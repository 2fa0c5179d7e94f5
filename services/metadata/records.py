"""The service's nouns as values, the way its tables hold them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from uuid import UUID

from services.runtime.ids import MediaId, Shard, UserId

TaskId = NewType("TaskId", UUID)


class MediaType(StrEnum):
    """What an upload was claimed to be."""

    IMAGE = "image"
    VIDEO = "video"


class MediaStatus(StrEnum):
    """Where a media stands; see `state.MEDIA_MOVES`."""

    UPLOADING = "uploading"
    PROCESSING = "processing"
    PUBLISHED = "published"
    FAILED = "failed"


class UploadState(StrEnum):
    """Where an upload session stands; see `state.UPLOAD_MOVES`."""

    OPEN = "open"
    COMPLETING = "completing"
    COMPLETED = "completed"
    ABORTED = "aborted"


class UploadKind(StrEnum):
    """How the bytes of an original come to storage."""

    MULTIPART = "multipart"
    PUT = "put"
    FORM = "form"


class ChecksumAlgorithm(StrEnum):
    """A checksum that storage verifies as bytes arrive."""

    CRC32C = "CRC32C"
    SHA256 = "SHA256"


class TaskState(StrEnum):
    """Where a task stands; see `state.TASK_MOVES`."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: a stable code in lower snake case, and one sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Original:
    """An original pinned to its bytes by the entity tag that storage gave at completion (without quotes)."""

    s3_key: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Media:
    """One media.

    Attributes:
        type: as claimed until it is planned, by its bytes afterwards.
        size_bytes: claimed while it uploads (0 where it is not known), measured afterwards.
        original_etag: None until the original is pinned.
        delivery_prefix: key prefix, without trailing slash, of all that the generation writes; not to be guessed, and
            told to nobody before the media is published.
        source_json: what planning found the original to be; None until then.
        s3_manifest_key: of the multivariant playlist; None for an image, and until published.
        failure: set when, and only when, it failed.
        traceparent: W3C trace context of the call that created it; empty if that was not recorded.
        checksum_algorithm: of its parts' checksums and its own; None for none.
        checksum: of the whole original, in base64, as its owner gave it; None for none.
    """

    shard: Shard
    media_id: MediaId
    user_id: UserId
    type: MediaType
    status: MediaStatus
    generation: int
    s3_key: str
    size_bytes: int
    filename: str
    content_type: str
    original_etag: str | None
    delivery_prefix: str
    source_json: str | None
    s3_manifest_key: str | None
    failure: Failure | None
    traceparent: str
    created_at: datetime
    updated_at: datetime
    planned_at: datetime | None
    published_at: datetime | None
    checksum_algorithm: ChecksumAlgorithm | None
    checksum: str | None

    @property
    def original(self) -> Original:
        """The pinned original; there is one from processing on."""
        assert self.original_etag is not None
        return Original(self.s3_key, self.original_etag, self.size_bytes)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload session, with what it shares with its media.

    Attributes:
        upload_id: object storage's identifier; None until attached.
        size_bytes: claimed size of the whole; 0 where it is not known.
        part_size_bytes: of every part but the last; 0 where the size is not known.
        expired: true once `expires_at` has passed on the database's clock.
        checksum_algorithm, checksum: as in `Media`.
    """

    shard: Shard
    media_id: MediaId
    user_id: UserId
    s3_key: str
    content_type: str
    traceparent: str
    upload_id: str | None
    size_bytes: int
    part_size_bytes: int
    state: UploadState
    expires_at: datetime
    expired: bool
    kind: UploadKind
    type: MediaType
    checksum_algorithm: ChecksumAlgorithm | None
    checksum: str | None


@dataclass(frozen=True, slots=True)
class NewMedia:
    """What begins an upload.

    Attributes:
        request_id: the client's idempotency key; None for none.
        time_to_live: how long the upload may stay open.
        traceparent: W3C trace context of the call.
        upload_id: of an upload that has begun at storage; None where none has.
    """

    shard: Shard
    media_id: MediaId
    user_id: UserId
    type: MediaType
    filename: str
    content_type: str
    size_bytes: int
    part_size_bytes: int
    time_to_live: timedelta
    request_id: str | None
    s3_key: str
    delivery_prefix: str
    traceparent: str
    kind: UploadKind
    checksum_algorithm: ChecksumAlgorithm | None
    checksum: str | None
    upload_id: str | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """An upload whose objects at storage are to be looked after.

    Attributes:
        media_failed: whether nothing needs its original any more.
        count: how often it was claimed in the state that it is in; fences.
        in_state_for: since when it is in that state.
    """

    upload: Upload
    media_failed: bool
    count: int
    in_state_for: timedelta


@dataclass(frozen=True, slots=True)
class Amount:
    """What is taken from a quota, or given back to it."""

    bytes: int = 0
    media: int = 0
    open_uploads: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """What an owner uses, and their limits; a limit of None is none."""

    used: Amount
    limit_bytes: int | None
    media_limit: int | None
    open_upload_limit: int | None


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task as the planner describes it.

    Attributes:
        label: what it makes; unique within the plan.
        lane: of the work queue.
        spec_json: the engine's own.
        cost_share: its part of the whole cost, 0 to 1.
        memory_bytes: the most that it is expected to take; 0 where that is unknown.
    """

    label: str
    lane: str
    spec_json: str
    cost_share: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work.

    Attributes:
        ordinal: its place in the plan, from 0.
        memory_bytes: as in `PlannedTask`.
        attempt: number of the latest attempt, 0 before the first; fences.
        released: attempts that were given back unharmed and do not use up the allowance.
        claim_id: of the latest claim; made from the name that its caller gave it, if any.
        lease_left: what is left of a live lease on the database's clock; zero when there is none.
    """

    shard: Shard
    task_id: TaskId
    media_id: MediaId
    generation: int
    ordinal: int
    label: str
    lane: str
    spec_json: str
    cost_share: float
    memory_bytes: int
    state: TaskState
    attempt: int
    released: int
    claim_id: UUID | None
    lease_left: timedelta


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """How far one task of a media has come."""

    task_id: TaskId
    label: str
    done: bool
    cost_share: float


@dataclass(frozen=True, slots=True)
class Rendition:
    """One playable version of a video's picture or sound.

    Attributes:
        s3_manifest_key: of its media playlist; None until published.
        frame_rate: numerator and denominator; (0, 0) for sound.
    """

    rendition_id: UUID
    ordinal: int
    resolution: str
    s3_manifest_key: str | None
    duration_secs: float
    bitrate_kbps: int
    peak_bitrate_kbps: int
    width_px: int
    height_px: int
    frame_rate: tuple[int, int]
    codecs: str


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A still of at most `size_px` on its longer side.

    `thumbhash` stands in for its picture until it has come; empty for none.
    """

    size_px: int
    s3_key: str
    width_px: int
    height_px: int
    content_type: str
    size_bytes: int
    thumbhash: bytes = b""


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """What a finished track says of the rendition that it is; fields as in `Rendition`."""

    resolution: str
    duration_secs: float
    bitrate_kbps: int
    peak_bitrate_kbps: int
    width_px: int
    height_px: int
    frame_rate: tuple[int, int]
    codecs: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished task made.

    Attributes:
        body: the serialised `TaskResult`, kept as it came.
        track: facts of the track, if it made one.
        thumbnails: facts of the stills, if it made some.
        s3_keys: every key that the result refers to.
    """

    body: bytes
    track: TrackFacts | None
    thumbnails: tuple[Thumbnail, ...]
    s3_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be announced, once for its (media, generation, kind, task).

    Attributes:
        kind: what it says; for a task `task`, else its subject.
        subject: where it is published.
        body: the serialised event of `events.proto`.
        traceparent: W3C trace context of what caused it; empty if that was not recorded.
    """

    shard: Shard
    media_id: MediaId
    generation: int
    kind: str
    task_id: TaskId | None
    subject: str
    body: bytes
    traceparent: str
