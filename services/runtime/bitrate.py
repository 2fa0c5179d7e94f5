"""Bit rates of segmented tracks, as HLS playlists state them. Pure."""

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

Piece: TypeAlias = tuple[int, int]
"""Of a segment: how long it is presented, in ticks, and its size in bytes."""


def average_bps(segments: Sequence[Piece], timescale: int) -> int:
    """All bits over the whole duration.

    Args:
        segments: at least one.
        timescale: ticks a second.
    """
    ticks, size_bytes = (sum(numbers) for numbers in zip(*segments, strict=True))
    return round(Fraction(8 * size_bytes * timescale, ticks))


def peak_bps(segments: Sequence[Piece], timescale: int, target_s: Fraction) -> int:
    """The peak bit rate as RFC 8216 (4.3.4.2) defines it.

    That is the largest of any run of consecutive segments lasting between 0.5 and 1.5 target durations;
    where no run does (a very short track), the largest of a single segment.

    Args:
        segments: at least one, in play order.
        timescale: ticks a second.
        target_s: the target duration in seconds.
    """
    peak = Fraction(0)
    for first in range(len(segments)):
        ticks = size_bytes = 0
        for duration_ticks, bytes_ in segments[first:]:
            ticks += duration_ticks
            size_bytes += bytes_
            if Fraction(ticks, timescale) > target_s * 3 / 2:
                break
            if Fraction(ticks, timescale) >= target_s / 2:
                peak = max(peak, Fraction(8 * size_bytes * timescale, ticks))
    singles = (Fraction(8 * bytes_ * timescale, ticks) for ticks, bytes_ in segments)
    return round(peak or max(singles))
