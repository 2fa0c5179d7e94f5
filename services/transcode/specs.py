"""Tasks as values: a spec says everything its task needs, in numbers that do not depend on who runs it.

All renditions of one video share one timeline: constant frame rate, frame 0 at the source's first picture, segment
borders at the same frames. Borders are counted in frames, not seconds, so that 29.97 and 23.976 have exact ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from services.transcode.formats import SOFTWARE, Codec, ImageFormat, Packaging
from services.transcode.source import from_jsonable, to_jsonable


@dataclass(frozen=True, slots=True)
class Timeline:
    """The one clock of all renditions of a video.

    Attributes:
        frame_rate: frames per second, constant, at most 60.
        frame_count: how many frames the probe expects; the encode says how many there were.
        gop_frames: an IDR frame every so many frames.
        segment_frames: a segment's length; a multiple of `gop_frames`. Only the last segment is shorter.
        origin_s: the moment on the source's clock that frame 0 shows.
        still_frames: so many at the end show the last picture once more, while sound goes on.
    """

    frame_rate: Fraction
    frame_count: int
    gop_frames: int
    segment_frames: int
    origin_s: Fraction
    still_frames: int = 0

    @property
    def duration_s(self) -> Fraction:
        """Length of the whole timeline."""
        return self.frame_count / self.frame_rate

    @property
    def picture_count(self) -> int:
        """Frames that the source has pictures for."""
        return self.frame_count - self.still_frames

    @property
    def segment_count(self) -> int:
        """Number of segments, the short last one included."""
        return max(1, ceil(self.frame_count / self.segment_frames))


@dataclass(frozen=True, slots=True)
class LoudnessTarget:
    """How loud sound is to be, by EBU R 128.

    Attributes:
        integrated_lufs: of a whole track, as it is heard.
        true_peak_ceiling_dbtp: no peak is lifted above it, also where the target is then missed.
    """

    integrated_lufs: float
    true_peak_ceiling_dbtp: float


@dataclass(frozen=True, slots=True)
class RenditionSpec:
    """One video rendition: square pixels, both sides even. Caps are those of its step.

    `encoder` is libav's name for the encoder: pieces of one rendition fit each other only if all are of the same one.
    """

    label: str
    width_px: int
    height_px: int
    crf: int
    maxrate_bps: int
    bufsize_bits: int
    codec: Codec = Codec.H264
    encoder: str = SOFTWARE[Codec.H264]


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """Encode frames [first_frame, end_frame) of the timeline in every rendition, all of one codec, as segments.

    Chunks begin at borders of segments, and end there or with the timeline. `random_access` says that the source's
    pictures can be found by their time; where it is false, there is one chunk, the whole video.
    """

    label: str
    stream_index: int
    renditions: tuple[RenditionSpec, ...]
    random_access: bool
    timeline: Timeline
    first_frame: int
    end_frame: int
    cost: int
    packaging: Packaging = Packaging.CMAF


@dataclass(frozen=True, slots=True)
class PassThroughSpec:
    """Publish the original's own packets as `rendition`, which they already are by what the probe found.

    Where they turn out to be something else, the rendition is encoded after all.
    """

    label: str
    stream_index: int
    rendition: RenditionSpec
    timeline: Timeline
    cost: int


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """Encode one audio track: AAC-LC, exactly as long as the video's timeline, cut at its borders.

    Gaps and a missing end are filled with silence; what lies outside the timeline is dropped. With `loudness`
    None, sound is as loud as it came.
    """

    label: str
    stream_index: int
    bitrate_bps: int
    sample_rate_hz: int
    channels: int
    language: str | None
    timeline: Timeline
    cost: int
    packaging: Packaging = Packaging.CMAF
    loudness: LoudnessTarget | None = None


@dataclass(frozen=True, slots=True)
class PosterSpec:
    """Take one picture of a video, `at_s` after its first, and scale it so that the longer side is each
    of the sizes, in each of the formats.

    Never scaled up: a source smaller than a size keeps its own size under that size's name.
    """

    label: str
    stream_index: int
    at_s: Fraction
    origin_s: Fraction
    sizes_px: tuple[int, ...]
    cost: int
    formats: tuple[ImageFormat, ...] = (ImageFormat.JPEG,)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Scale an image so that its longer side is each of the sizes, in each format. Never up, as in `PosterSpec`."""

    label: str
    sizes_px: tuple[int, ...]
    cost: int
    formats: tuple[ImageFormat, ...] = (ImageFormat.JPEG,)


TaskSpec = ChunkSpec | PassThroughSpec | AudioSpec | PosterSpec | ImageSpec
"""One task. `label` names it within its media and in object keys; `cost` weighs it in the media's
progress."""


_SPEC_TYPES: Mapping[str, type[TaskSpec]] = {
    "chunk": ChunkSpec,
    "pass_through": PassThroughSpec,
    "audio": AudioSpec,
    "poster": PosterSpec,
    "image": ImageSpec,
}


def spec_to_json(spec: TaskSpec) -> dict[str, Any]:
    """The JSON-able form of a spec, as the database and the child's pipe carry it, tagged by `kind`."""
    kind = next(name for name, spec_type in _SPEC_TYPES.items() if type(spec) is spec_type)
    return {"kind": kind, **to_jsonable(spec)}


def spec_from_json(data: Mapping[str, Any]) -> TaskSpec:
    """The inverse of `spec_to_json`.

    Raises:
        ValueError: the data is not a spec.
    """
    spec_type = _SPEC_TYPES.get(data.get("kind", ""))
    if spec_type is None:
        msg = f"unknown kind of task: {data.get('kind')!r}"
        raise ValueError(msg)
    return from_jsonable(spec_type, data)
