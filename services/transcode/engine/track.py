"""Turns a track's coded frames into segments, and segments into a `TrackOutcome`."""

from collections.abc import Sequence
from fractions import Fraction

from services.transcode.engine import cmaf
from services.transcode.engine.channel import Reporter
from services.transcode.engine.cmaf import Sample
from services.transcode.engine.outcome import Segment, TrackOutcome

INIT_NAME = "init.mp4"


class TrackWriter:
    """Writes one track's artifacts: the initialisation segment first, then media segments in order."""

    def __init__(self, reporter: Reporter, content_type: str, timescale: int, init: bytes) -> None:
        self._reporter = reporter
        self._content_type = content_type
        self._timescale = timescale
        self._segments: list[Segment] = []
        self._decode_ticks = 0
        self._chunk_count = 0
        reporter.artifact(INIT_NAME, content_type, init)

    @property
    def frame_count(self) -> int:
        """Frames written so far."""
        return sum(segment.frame_count for segment in self._segments)

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments written so far."""
        return sum(segment.size_bytes for segment in self._segments)

    def write_segment(self, samples: Sequence[Sample], presented_ticks: int, *, keyframe_apart: bool) -> None:
        """Hands over the next segment.

        Args:
            samples: in decode order, at least one, the first a sync sample.
            presented_ticks: how long the segment is presented.
            keyframe_apart: write the first sample as a chunk of its own, so that its byte range is a
                playable I-frame.
        """
        groups = [samples[:1], samples[1:]] if keyframe_apart else [samples]
        chunks = [self._chunk(group) for group in groups if group]
        data = b"".join(chunks)
        segment = Segment(
            name=f"seg_{len(self._segments) + 1:05}.m4s",
            duration_ticks=presented_ticks,
            size_bytes=len(data),
            frame_count=len(samples),
            keyframe_size_bytes=len(chunks[0]) if keyframe_apart else 0,
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
        """The whole track, once its last segment is written. `target_s` is the planned segment length."""
        segments = tuple(self._segments)
        duration_s = Fraction(sum(s.duration_ticks for s in segments), self._timescale)
        return TrackOutcome(
            init_name=INIT_NAME,
            segments=segments,
            timescale=self._timescale,
            codecs=codecs,
            width_px=width_px,
            height_px=height_px,
            frame_rate=frame_rate,
            frame_count=self.frame_count,
            channels=channels,
            average_bps=round(8 * self.size_bytes / duration_s),
            peak_bps=peak_bps(segments, self._timescale, target_s),
        )

    def _chunk(self, samples: Sequence[Sample]) -> bytes:
        self._chunk_count += 1
        data = cmaf.chunk(self._chunk_count, self._decode_ticks, samples)
        self._decode_ticks += sum(sample.duration for sample in samples)
        return data


def peak_bps(segments: Sequence[Segment], timescale: int, target_s: Fraction) -> int:
    """The peak bit rate as RFC 8216 (4.3.4.2) defines it.

    That is the largest of any run of consecutive segments lasting between 0.5 and 1.5 target durations;
    where no run does (a very short track), the largest of a single segment.
    """
    peak = Fraction(0)
    for first in range(len(segments)):
        ticks = size_bytes = 0
        for segment in segments[first:]:
            ticks += segment.duration_ticks
            size_bytes += segment.size_bytes
            if Fraction(ticks, timescale) > target_s * 3 / 2:
                break
            if Fraction(ticks, timescale) >= target_s / 2:
                peak = max(peak, Fraction(8 * size_bytes * timescale, ticks))
    singles = (Fraction(8 * s.size_bytes * timescale, s.duration_ticks) for s in segments)
    return round(peak or max(singles))
