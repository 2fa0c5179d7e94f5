"""What planning needs to know about an original, and why an original may be refused for good.

Owns `SourceInfo` (the answer of a probe) and `RejectedSource` (the permanent kind of failure: trying
again cannot help, its owner can). Also owns the one JSON form that such values take when they cross a
pipe or a database.
"""

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from fractions import Fraction
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class MediaKind(StrEnum):
    """The two pipelines, as the `media.type` column spells them."""

    IMAGE = "image"
    VIDEO = "video"


class ContainerFormat(StrEnum):
    """Formats that are opened at all. Anything else is refused before a library sees it."""

    MP4 = "mp4"
    MATROSKA = "matroska"
    MPEG_TS = "mpegts"
    AVI = "avi"
    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    AVIF = "avif"
    HEIC = "heic"

    @property
    def kind(self) -> MediaKind:
        """Which pipeline the format belongs to."""
        return MediaKind.IMAGE if self in _IMAGE_FORMATS else MediaKind.VIDEO


_IMAGE_FORMATS = frozenset(
    {
        ContainerFormat.JPEG,
        ContainerFormat.PNG,
        ContainerFormat.WEBP,
        ContainerFormat.GIF,
        ContainerFormat.AVIF,
        ContainerFormat.HEIC,
    }
)


class RejectionReason(StrEnum):
    """Why an original can never be processed. The value is the stable code that APIs show."""

    EMPTY = "empty"
    NOT_MEDIA = "not_media"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNSUPPORTED_CODEC = "unsupported_codec"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    NO_VIDEO_TRACK = "no_video_track"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    FILE_TOO_LARGE = "file_too_large"
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"
    TOO_MANY_STREAMS = "too_many_streams"

    @property
    def advice(self) -> str:
        """What the owner of the media can do about it: one sentence, shown beside the message."""
        return _ADVICE[self]


_ADVICE: Mapping[RejectionReason, str] = {
    RejectionReason.EMPTY: "Upload the file again; nothing arrived.",
    RejectionReason.NOT_MEDIA: "Upload a video or an image; this file is neither.",
    RejectionReason.UNSUPPORTED_FORMAT: (
        "Export it as MP4, MOV, MKV, WebM, TS or AVI for video, or as JPEG, PNG, WebP, AVIF, HEIC or GIF for images."
    ),
    RejectionReason.UNSUPPORTED_CODEC: "Export the video again as H.264 in MP4.",
    RejectionReason.CHECKSUM_MISMATCH: "Make sure that nothing changes the file meanwhile, and upload it again.",
    RejectionReason.NO_VIDEO_TRACK: "Upload a file that has a picture; sound alone is not published.",
    RejectionReason.TRUNCATED: "The end of the file is missing: upload it again from the complete original.",
    RejectionReason.CORRUPT: "The file does not play through: export it again and upload that.",
    RejectionReason.FILE_TOO_LARGE: "Export it smaller and upload that.",
    RejectionReason.TOO_LARGE: "Scale the picture down and upload it again.",
    RejectionReason.TOO_LONG: "Cut the video into shorter parts and upload those.",
    RejectionReason.TOO_MANY_STREAMS: "Export the video with fewer tracks.",
}


class RejectedSource(Exception):
    """The original can never be processed. Permanent: do not retry.

    Attributes:
        reason: the stable code, with `.advice` for the owner.
        message: what was found, in words that the owner may read; no internals.
    """

    def __init__(self, reason: RejectionReason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    @property
    def reason_code(self) -> str:
        """The code as a plain string."""
        return self.reason.value

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.message}"


WIDEST_SAMPLES: Final = 4
"""By how much pixels may be wider than high, or higher than wide. Anamorphic pictures are stretched up to twice, those
of low-resolution discs a little more; headers may claim 65,535 times.
"""

UNTAGGED_BT709_HEIGHT_PX: Final = 720
"""Players take untagged video for BT.709 from this height on, and for BT.601 below; so do we."""


@dataclass(frozen=True, slots=True)
class ColourInfo:
    """Colour signalling by ISO/IEC 23091-2 code points; 2 is "unspecified".

    `full_range` is None where the source says nothing.
    """

    primaries: int
    transfer: int
    matrix: int
    full_range: bool | None


@dataclass(frozen=True, slots=True)
class H264Info:
    """How an H.264 track is coded, as its container tells: enough to see whether it could be published as it is.

    `profile` and `level` are profile_idc and level_idc of ISO/IEC 14496-10. Counted in decode order, every
    `gop_frames`-th frame is a key frame. `average_bps` is that of the whole track, `peak_bps` the largest of any 4 s
    that begin with one of those.
    """

    profile: int
    level: int
    gop_frames: int
    average_bps: int
    peak_bps: int


@dataclass(frozen=True, slots=True)
class VideoStreamInfo:
    """The video track that is shown.

    `coded_*_px` are the stored samples, before rotation. `display_*_px` are what a viewer sees: square
    pixels, after rotation (clockwise, in degrees: 0, 90, 180 or 270). `frame_rate` is frames per second
    of the source's own timeline. `frame_count` is None where only reading the whole file would tell.
    `start_s` is when the first picture is shown, on the container's clock: the origin of every
    rendition's timeline. `random_access`: every picture has a time and they never run backwards, so that
    each can be found by its time; in a stream that was cut together they do. `key_frame_interval_s` is the
    longest stretch without a key frame. `h264` is set where the track is H.264 whose key frames form a grid, stored
    as ISO samples, and shown neither turned nor mirrored. `still_s`: so long the last picture stays while sound goes
    on.
    """

    stream_index: int
    codec: str
    pix_fmt: str
    coded_width_px: int
    coded_height_px: int
    display_width_px: int
    display_height_px: int
    rotation_degrees: int
    sample_aspect_ratio: Fraction
    frame_rate: Fraction
    frame_count: int | None
    start_s: Fraction
    interlaced: bool
    colour: ColourInfo
    random_access: bool
    key_frame_interval_s: Fraction
    h264: H264Info | None
    still_s: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class AudioStreamInfo:
    """One audio track. `language` is what the file says (ISO 639-2 as a rule), or None."""

    stream_index: int
    codec: str
    channels: int
    sample_rate_hz: int
    language: str | None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """A still picture. `width_px` and `height_px` are as displayed, EXIF orientation (1-8) applied.

    `is_animated`: there are more pictures than the first, which alone is shown.
    """

    width_px: int
    height_px: int
    orientation: int
    has_alpha: bool
    is_animated: bool


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a probe found: exactly one of `video` and `image` is set, as `kind` says.

    `duration_s` is the video track's length (0 for images), `still_s` included; the container's, where the track has
    none.
    """

    kind: MediaKind
    container: ContainerFormat
    size_bytes: int
    duration_s: Fraction
    video: VideoStreamInfo | None
    audio: tuple[AudioStreamInfo, ...]
    image: ImageInfo | None


def to_jsonable(value: object) -> Any:
    """Turns a frozen dataclass (nested, with Fractions, enums and tuples) into JSON-able values.

    Fractions become `"30000/1001"`, enums their values, tuples lists. `from_jsonable` is the exact inverse.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [to_jsonable(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    msg = f"no JSON form for {type(value).__name__}"
    raise TypeError(msg)


def from_jsonable(as_type: type[T], data: object) -> T:
    """Rebuilds a value of `as_type` from `to_jsonable`'s form.

    A field that is missing takes its default, if it has one: values that an older version wrote can be read.

    Raises:
        ValueError: the data does not have the form of `as_type`.
    """
    try:
        return _build(as_type, data)  # type: ignore[no-any-return]
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        msg = f"not the JSON form of {as_type.__name__}: {error!r}"
        raise ValueError(msg) from error


def _build(hint: Any, data: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        # The only unions in these values are optional ones.
        inner = [arg for arg in get_args(hint) if arg is not type(None)]
        return None if data is None else _build(inner[0], data)
    if origin is tuple:
        item_hint = get_args(hint)[0]
        return tuple(_build(item_hint, item) for item in data)
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        values = {
            f.name: _build(hints[f.name], data[f.name])
            for f in dataclasses.fields(hint)
            # What has a default is younger than the rest: older data, still queued after an upgrade, lacks it.
            if f.name in data or f.default is dataclasses.MISSING
        }
        return hint(**values)  # type: ignore[operator]
    if hint is Fraction:
        # Not `Fraction(data)`: data may come from a child, and Python writes the zeros of "1e999999999" one by one.
        numerator, denominator = data.split("/")
        return Fraction(int(numerator), int(denominator))
    if issubclass(hint, Enum):
        return hint(data)
    if not isinstance(data, (int, float) if hint is float else hint):
        msg = f"expected {hint.__name__}, got {type(data).__name__}"
        raise TypeError(msg)
    return hint(data)
