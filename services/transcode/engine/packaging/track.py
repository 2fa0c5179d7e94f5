"""Turns a track's coded frames into segments, and segments into a `TrackOutcome`."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from services.runtime import bitrate
from services.transcode.engine.channel import Reporter
from services.transcode.engine.outcome import Segment, TrackOutcome
from services.transcode.engine.packaging.cmaf import CmafSegments, Sample

INIT_NAME = "init.mp4"


_MIN_TIMESCALE = 10_000


def frame_clock(frame_rate: Fraction) -> tuple[int, int]:
    """Ticks a second and ticks a frame, both whole numbers; a fine clock costs nothing."""
    factor = -(-_MIN_TIMESCALE // frame_rate.numerator)
    return frame_rate.numerator * factor, frame_rate.denominator * factor


@dataclass(frozen=True, slots=True)
class Position:
    """Where in its track a writer begins: number of the first segment, from 0, and its decode time."""

    segment: int
    decode_ticks: int


_START = Position(0, 0)


class Segments(Protocol):
    """Makes segments of coded frames: the seam between CMAF and MPEG-TS. Knows nothing of the segments before."""

    @property
    def suffix(self) -> str:
        """Of segments' names."""
        ...

    def segment(
        self, number: int, decode_ticks: int, samples: Sequence[Sample], *, keyframe_apart: bool
    ) -> tuple[bytes, int]:
        """One segment, and the length of its leading part that holds the key frame alone, or 0."""
        ...


_CMAF = CmafSegments()


class TrackWriter:
    """Writes the artifacts of one track, or of a piece of it: the initialisation segment, then segments in order."""

    def __init__(
        self,
        reporter: Reporter,
        content_type: str,
        timescale: int,
        init: bytes,
        *,
        folder: str = "",
        position: Position = _START,
        packaging: Segments = _CMAF,
    ) -> None:
        """Writes the initialisation segment.

        Args:
            reporter: takes the artifacts.
            content_type: of all of them.
            timescale: ticks a second.
            init: the initialisation segment; empty where the packaging has none.
            folder: before all names; empty, or with a slash at its end.
            position: where the piece begins.
            packaging: makes the segments.
        """
        self._reporter = reporter
        self._content_type = content_type
        self._timescale = timescale
        self._folder = folder
        self._first_segment = position.segment
        self._segments: list[Segment] = []
        self._decode_ticks = position.decode_ticks
        self._packaging = packaging
        self._init_name = f"{folder}{INIT_NAME}" if init else ""
        if init:
            reporter.artifact(self._init_name, content_type, init)

    @property
    def frame_count(self) -> int:
        """Frames written so far."""
        return sum(segment.frame_count for segment in self._segments)

    def write_segment(self, samples: Sequence[Sample], presented_ticks: int, *, keyframe_apart: bool) -> None:
        """Hands over the next segment.

        Args:
            samples: in decode order, at least one, the first a sync sample.
            presented_ticks: how long the segment is presented.
            keyframe_apart: write the first sample as a part of its own, so that its byte range is a
                playable I-frame.
        """
        number = self._first_segment + len(self._segments)
        data, keyframe_size_bytes = self._packaging.segment(
            number, self._decode_ticks, samples, keyframe_apart=keyframe_apart
        )
        self._decode_ticks += sum(sample.duration for sample in samples)
        segment = Segment(
            name=f"{self._folder}seg_{number + 1:05}{self._packaging.suffix}",
            duration_ticks=presented_ticks,
            size_bytes=len(data),
            frame_count=len(samples),
            keyframe_size_bytes=keyframe_size_bytes,
        )
        self._reporter.artifact(segment.name, self._content_type, data)
        self._segments.append(segment)

    def outcome(
        self,
        codecs: str,
        target_s: Fraction,
        *,
        width_px: int = 0,
        height_px: int = 0,
        frame_rate: Fraction = Fraction(0),
        channels: int = 0,
    ) -> TrackOutcome:
        """What was written, once the last segment is. `target_s` is the planned segment length."""
        segments = tuple(self._segments)
        rated = [(segment.duration_ticks, segment.size_bytes) for segment in segments]
        return TrackOutcome(
            init_name=self._init_name,
            segments=segments,
            timescale=self._timescale,
            codecs=codecs,
            width_px=width_px,
            height_px=height_px,
            frame_rate=frame_rate,
            frame_count=self.frame_count,
            channels=channels,
            average_bps=bitrate.average_bps(rated, self._timescale),
            peak_bps=bitrate.peak_bps(rated, self._timescale, target_s),
        )
