"""Puts frames that come when they come onto a timeline with a constant frame rate.

Every slot of the timeline shows the frame that a viewer would see at that moment, to about half a frame:
late frames repeat the one before, frames that share a slot yield to the last. A source that has a constant
rate already passes through frame by frame. Pure, and frames are whatever the caller makes of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Generic, TypeVar

F = TypeVar("F")

_REACH = Fraction(1, 2) + Fraction(1, 16)
"""A slot shows what begins within so much of its length after its own time. Matroska rounds to milliseconds: a frame
that is halfway between two slots, as every other one is at half the source's rate, would else go to either of them. Its
time and that of the first are off by up to half a millisecond each, which is less than a sixteenth of a slot."""

_JUMP_S = 1
"""So far back, a time is that of another clock; no encoder reorders frames by as much."""


@dataclass(frozen=True, slots=True)
class Timed(Generic[F]):
    """A frame, when it is shown (seconds on the source's clock; None if unknown) and for how long (or 0)."""

    frame: F
    at_s: Fraction | None
    duration_s: Fraction


def paced(frames: Iterable[Timed[F]], frame_rate: Fraction, origin_s: Fraction) -> Iterator[tuple[F, range]]:
    """Assigns frames to slots.

    A clock that jumps back, where a stream was cut together, continues the timeline with the next slot. A frame that
    comes a little late, out of order, is left out.

    Args:
        frames: in order of presentation.
        frame_rate: slots a second.
        origin_s: the time of slot 0. Of what is shown before, the last is kept; the first frame also fills
            the slots before its own.

    Yields:
        Each frame that is shown at all with the slots that it fills. Ranges are adjacent, in order, not
        empty, and begin with slot 0.
    """
    shown: Timed[F] | None = None
    slot = 0
    shift = 0
    for timed in frames:
        if shown is None:
            shown = timed
            continue
        next_slot = slot + 1 if timed.at_s is None else _slot(timed.at_s, frame_rate, origin_s) + shift
        if timed.at_s is not None and shown.at_s is not None and timed.at_s < shown.at_s:
            if shown.at_s - timed.at_s < _JUMP_S:
                continue
            shift += slot + 1 - next_slot
            next_slot = slot + 1
        if next_slot > slot:
            yield shown.frame, range(slot, next_slot)
            slot = next_slot
        shown = timed
    if shown is not None:
        # The last frame lasts as long as it says; most containers say one frame or nothing.
        yield shown.frame, range(slot, slot + max(1, round(shown.duration_s * frame_rate)))


def _slot(at_s: Fraction, frame_rate: Fraction, origin_s: Fraction) -> int:
    # The earlier of two that are about as near: at half the source's rate, every slot then gets exactly two frames.
    return ceil((at_s - origin_s) * frame_rate - _REACH)
