"""What a finished task hands back: artifacts while it runs, an outcome at the end, stages for the trace."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from services.transcode.source import from_jsonable, to_jsonable

THUMBHASH_MAX_BYTES = 25
"""A square picture's, with transparency: 6 bytes of averages and scales, 38 coefficients of half a byte each."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One finished file. `name` is unique within its task; `sha256` is the hex digest of `data`."""

    name: str
    content_type: str
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment, in order of time.

    Attributes:
        name: the artifact that holds it.
        duration_ticks: how long it is presented, in the track's timescale; the sum over all segments is
            the track's duration exactly (audio priming is not counted).
        size_bytes: of the artifact.
        frame_count: video frames, or AAC frames of 1,024 samples.
        keyframe_size_bytes: the segment begins with a part that can be decoded and holds the IDR frame alone, in CMAF
            a chunk; it is the byte range [0, keyframe_size_bytes). 0 for audio.
    """

    name: str
    duration_ticks: int
    size_bytes: int
    frame_count: int
    keyframe_size_bytes: int


@dataclass(frozen=True, slots=True)
class TrackOutcome:
    """A finished video or audio rendition.

    Attributes:
        init_name: the artifact with the initialisation segment (EXT-X-MAP); empty for MPEG-TS, which has none.
        segments: all of them, none empty.
        timescale: ticks a second.
        codecs: RFC 6381, for CODECS of the multivariant playlist.
        width_px: 0 for audio, as are the other video-only values.
        height_px: see `width_px`.
        frame_rate: frames per second; 0 for audio.
        frame_count: frames in all segments together.
        channels: 0 for video.
        average_bps: all bytes (initialisation aside) over the whole duration.
        peak_bps: the largest of any run of segments that lasts 0.5 to 1.5 target durations
            (RFC 8216 4.3.4.2).
    """

    init_name: str
    segments: tuple[Segment, ...]
    timescale: int
    codecs: str
    width_px: int
    height_px: int
    frame_rate: Fraction
    frame_count: int
    channels: int
    average_bps: int
    peak_bps: int

    @property
    def duration_s(self) -> Fraction:
        """The presented length, exact."""
        return Fraction(sum(segment.duration_ticks for segment in self.segments), self.timescale)


@dataclass(frozen=True, slots=True)
class TrackPiece:
    """What a chunk adds to the rendition with this label; `track` counts the chunk alone."""

    label: str
    track: TrackOutcome


@dataclass(frozen=True, slots=True)
class ChunkOutcome:
    """A finished chunk: a piece of each of its renditions."""

    pieces: tuple[TrackPiece, ...]


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """One image rendition. `size_px` is the size asked for (longer side); width and height are the
    result's.
    """

    name: str
    size_px: int
    width_px: int
    height_px: int
    size_bytes: int
    content_type: str


@dataclass(frozen=True, slots=True)
class ImagesOutcome:
    """The renditions of an image or a poster, largest first, of one size in the order of `ImageFormat`.

    `thumbhash` is what to show until they have come, in base64; see `services.transcode.engine.images.thumbhash`.
    """

    images: tuple[ImageOutcome, ...]
    thumbhash: str = ""

    def __post_init__(self) -> None:
        """Refuses what is no ThumbHash: the value may come from a child."""
        if len(base64.b64decode(self.thumbhash, validate=True)) > THUMBHASH_MAX_BYTES:
            msg = "a ThumbHash is longer than any may be"
            raise ValueError(msg)


Outcome = ChunkOutcome | TrackOutcome | ImagesOutcome

_KINDS: Mapping[str, type[Outcome]] = {"chunk": ChunkOutcome, "track": TrackOutcome, "images": ImagesOutcome}


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of work, for the trace: wall-clock nanoseconds since 1970, and what was counted meanwhile."""

    name: str
    start_unix_ns: int
    end_unix_ns: int
    attributes: Mapping[str, str | int | float]


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """The JSON-able form of an outcome, tagged by `kind`."""
    kind = next(name for name, outcome_type in _KINDS.items() if type(outcome) is outcome_type)
    return {"kind": kind, **to_jsonable(outcome)}


def outcome_from_json(data: Mapping[str, Any]) -> Outcome:
    """The inverse of `outcome_to_json`.

    Raises:
        ValueError: the data is not an outcome.
    """
    outcome_type = _KINDS.get(data.get("kind", ""))
    if outcome_type is None:
        msg = f"unknown kind of outcome: {data.get('kind')!r}"
        raise ValueError(msg)
    return from_jsonable(outcome_type, data)
