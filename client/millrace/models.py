"""What the gateway says, as values. Members that this version does not know are passed over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from millrace.errors import UnexpectedAnswer

Json = Mapping[str, Any]


class Status(StrEnum):
    """Where a media stands; it only moves downwards in this list."""

    UPLOADING = "uploading"
    PROCESSING = "processing"
    PUBLISHED = "published"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in {Status.PUBLISHED, Status.FAILED}


@dataclass(frozen=True, slots=True)
class PresignedPart:
    """One part and where to PUT it; the signature binds its exact length and every header, which must be sent as is."""

    part_number: int
    url: str
    size_bytes: int
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads one member of `parts`."""
        headers = {str(name): str(value) for name, value in (body.get("headers") or {}).items()}
        return cls(int(body["part_number"]), str(body["url"]), int(body["size_bytes"]), headers)


@dataclass(frozen=True, slots=True)
class SignedParts:
    """Part URLs and when they stop working."""

    parts: tuple[PresignedPart, ...]
    expires_at: datetime

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads the answer of `sign-parts`, and the same members of `initiate-upload`."""
        return cls(tuple(map(PresignedPart.from_json, body["parts"])), _time(body["expires_at"]))


@dataclass(frozen=True, slots=True)
class UploadSession:
    """A new upload: its media, how the file is to be cut, and the first window of part URLs.

    The window may be empty: parts that carry checksums are signed once these are known.
    """

    media_id: str
    upload_id: str
    part_size_bytes: int
    part_count: int
    first_window: SignedParts

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads the answer of `initiate-upload`."""
        return cls(
            str(body["media_id"]),
            str(body["upload_id"]),
            int(body["part_size_bytes"]),
            int(body["part_count"]),
            SignedParts.from_json(body),
        )


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part that storage confirmed.

    Attributes:
        etag: without quotes.
        checksum: in base64, by the algorithm of the upload; empty where it has none, or where nobody computed it here.
    """

    part_number: int
    etag: str
    size_bytes: int
    checksum: str = ""

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads one member of `parts`."""
        return cls(int(body["part_number"]), str(body["etag"]).strip('"'), int(body["size_bytes"]))


@dataclass(frozen=True, slots=True)
class StoredParts:
    """What storage holds of an open upload, by ascending number, and how the file is cut."""

    parts: tuple[UploadedPart, ...]
    upload_id: str
    part_size_bytes: int
    part_count: int

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads the answer of `GET /v1/uploads/{media_id}/parts`."""
        return cls(
            tuple(map(UploadedPart.from_json, body["parts"])),
            str(body["upload_id"]),
            int(body["part_size_bytes"]),
            int(body["part_count"]),
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a media failed: a stable code, and a sentence for its owner."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Rendition:
    """One playable version of a video; width and height are 0 for its sound."""

    resolution: str
    width_px: int
    height_px: int
    bitrate_kbps: int
    duration_s: float
    codecs: str

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads one member of `playback.renditions`."""
        return cls(
            str(body["resolution"]),
            int(body.get("width_px") or 0),
            int(body.get("height_px") or 0),
            int(body.get("bitrate_kbps") or 0),
            float(body.get("duration_secs") or 0.0),
            str(body.get("codecs") or ""),
        )


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A still version; `size_px` bounds its longer side, `width_px` and `height_px` are what it has."""

    size_px: int
    url: str
    width_px: int
    height_px: int
    content_type: str
    size_bytes: int

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads one member of `playback.thumbnails`."""
        return cls(
            int(body["size_px"]),
            str(body["url"]),
            int(body.get("width_px") or 0),
            int(body.get("height_px") or 0),
            str(body.get("content_type") or ""),
            int(body.get("size_bytes") or 0),
        )


@dataclass(frozen=True, slots=True)
class Playback:
    """What viewers may fetch from the edge; `manifest_url` is empty for an image.

    Thumbnails come largest first, of one size JPEG first. `thumbhash` is what to show until a picture has come, as
    ThumbHash in base64; empty for none.
    """

    manifest_url: str
    renditions: tuple[Rendition, ...]
    thumbnails: tuple[Thumbnail, ...]
    thumbhash: str = ""

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads `playback`."""
        return cls(
            str(body.get("manifest_url") or ""),
            tuple(map(Rendition.from_json, body.get("renditions") or ())),
            tuple(map(Thumbnail.from_json, body.get("thumbnails") or ())),
            str(body.get("thumbhash") or ""),
        )


@dataclass(frozen=True, slots=True)
class Media:
    """A media as its owner sees it.

    Attributes:
        fraction: how much of the processing is done, 0 to 1.
        failure: set when, and only when, `status` is failed.
        playback: set when, and only when, `status` is published.
        checksum: of the whole file in base64, once it was verified; empty where its owner gave none.
        watch_url: page that shows its progress, then plays it.
        trace_url: page of its trace; empty where the gateway names none.
        document: the gateway's whole JSON object, for scripts.
    """

    media_id: str
    type: str
    status: Status
    filename: str
    content_type: str
    size_bytes: int
    created_at: datetime
    published_at: datetime | None
    fraction: float
    failure: Failure | None
    playback: Playback | None
    checksum: str
    watch_url: str
    trace_url: str
    trace_id: str
    document: Json

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads a media."""
        failure, playback, links = body.get("failure"), body.get("playback"), body.get("links") or {}
        return cls(
            media_id=str(body["media_id"]),
            type=str(body["type"]),
            status=Status(body["status"]),
            filename=str(body["filename"]),
            content_type=str(body["content_type"]),
            size_bytes=int(body["size_bytes"]),
            created_at=_time(body["created_at"]),
            published_at=_time(body["published_at"]) if body.get("published_at") else None,
            fraction=float(body.get("progress") or 0.0),
            failure=Failure(str(failure["reason"]), str(failure["message"])) if failure else None,
            playback=Playback.from_json(playback) if playback else None,
            checksum=str((body.get("checksum") or {}).get("value") or ""),
            watch_url=str(links.get("watch") or ""),
            trace_url=str(links.get("trace") or ""),
            trace_id=str(body.get("trace_id") or ""),
            document=body,
        )


@dataclass(frozen=True, slots=True)
class MediaPage:
    """One page of a list; an empty token means that it was the last."""

    media: tuple[Media, ...]
    next_page_token: str

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads the answer of `GET /v1/media`."""
        return cls(tuple(map(Media.from_json, body["media"])), str(body.get("next_page_token") or ""))


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far the tasks of one kind are, 0 to 1; `label` is for instance `video`."""

    label: str
    fraction: float

    @classmethod
    def from_json(cls, body: Json) -> Self:
        """Reads one member of a progress event's `tasks`."""
        return cls(str(body["label"]), float(body["fraction"]))


@dataclass(frozen=True, slots=True)
class Update:
    """Where a watched media stands: its last known state and how far its processing is.

    Attributes:
        fraction: 0 to 1; never falls from one update to the next.
        tasks: one for each rendition in the making; empty until they are planned.
    """

    media: Media
    fraction: float
    tasks: tuple[TaskProgress, ...] = ()

    @classmethod
    def of(cls, media: Media) -> "Update":
        """A first update."""
        return cls(media, 0.0).with_state(media)

    def with_state(self, media: Media) -> "Update":
        """This update with a newer state."""
        fraction = 1.0 if media.status is Status.PUBLISHED else max(self.fraction, media.fraction)
        return replace(self, media=media, fraction=fraction)

    def with_progress(self, fraction: float, tasks: Sequence[TaskProgress]) -> "Update":
        """This update with newer progress."""
        return replace(self, fraction=max(self.fraction, fraction), tasks=tuple(tasks) or self.tasks)


def _time(text: Any) -> datetime:
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise UnexpectedAnswer(f"a time without a zone: {text}")
    return moment
