"""One clock for the tracks of a transport stream that was cut together of parts, each of which had its own.

Where a part ends and the next begins is the picture's to say: if every track went on at its own end, sound and picture
would part ways by what the one is shorter than the other, at every splice anew.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from av.packet import Packet

_TICKS_A_SECOND = 90_000  # of all tracks of a transport stream (ISO/IEC 13818-1, 2.4.3.6)

_LEAP = 10 * _TICKS_A_SECOND
"""So far ahead, a decode time is that of another clock: ffmpeg's `dts_delta_threshold`, for transport streams too."""

_STEP_BACK = _TICKS_A_SECOND // 2
"""So far back, sound is of another part; less is a coarse clock, and costs nothing."""

_NEAR = 5 * _TICKS_A_SECOND
"""So far beside the picture, sound is still of the same part: multiplexers let one run ahead by a second or two."""

_MOST_HELD = 4096
"""Packets of sound that wait for the picture to come to their part: over a minute, a few megabytes at most."""

AnyPacket: TypeAlias = "Packet[Any]"


@dataclass(slots=True)
class Splices:
    """How many there were."""

    count: int = 0


def spliced(found: Iterator[AnyPacket], video_index: int, splices: Splices) -> Iterator[AnyPacket]:
    """Packets with times on the first part's clock, which goes on with the next picture at each splice.

    A splice is where the picture's decode time steps back, or leaps ahead.

    Args:
        found: of the picture, and of one other track or none, as they lie in the file.
        video_index: of the picture's track.
        splices: counts them.
    """
    parts = _Parts(splices)
    held: deque[AnyPacket] = deque()
    for packet in found:
        if packet.stream_index == video_index:
            parts.show(packet)
            yield packet
        else:
            held.append(packet)
        while held and (parts.has_part_of(held[0]) or len(held) > _MOST_HELD):
            yield parts.heard(held.popleft())
    while held:
        yield parts.heard(held.popleft())


@dataclass(slots=True)
class _Part:
    """What is added to its clock, and the decode time at which its picture is."""

    offset: int = 0
    reached: int | None = None

    def is_near(self, at: int) -> bool:
        return self.reached is None or abs(at - self.reached) <= _NEAR


class _Parts:
    """The part in which the picture is, and that in which the sound is; this may be late, or early and has to wait."""

    def __init__(self, splices: Splices) -> None:
        self._splices = splices
        self._shown = self._heard = _Part()
        self._decoded = 0
        self._interval = 0
        self._shown_until: int | None = None
        self._heard_at: int | None = None

    def show(self, packet: AnyPacket) -> None:
        """Puts a packet of the picture on the clock."""
        at = packet.dts
        if at is not None:
            reached = self._shown.reached
            if reached is not None and not 0 <= at - reached <= _LEAP:
                self._begin_part(at if packet.pts is None else packet.pts)
            elif reached is not None and at > reached:
                self._interval = at - reached
            self._shown.reached = at
        _shift(packet, self._shown.offset)
        if packet.dts is not None:
            # A part may need more time to reorder its pictures than the one before.
            packet.dts = self._decoded = max(packet.dts, self._decoded) if self._splices.count else packet.dts
        if packet.pts is not None:
            until = packet.pts + (packet.duration or self._interval)
            self._shown_until = until if self._shown_until is None else max(self._shown_until, until)

    def _begin_part(self, shown: int) -> None:
        self._splices.count += 1
        until = shown if self._shown_until is None else self._shown_until
        self._shown = _Part(until - shown)

    def has_part_of(self, packet: AnyPacket) -> bool:
        """Whether the picture has come to the part to which a packet of sound belongs."""
        return self._part_of(packet) is not None

    def heard(self, packet: AnyPacket) -> AnyPacket:
        """Puts a packet of sound on the clock."""
        self._heard = self._part_of(packet) or self._shown
        at = _time(packet)
        self._heard_at = self._heard_at if at is None else at
        _shift(packet, self._heard.offset)
        return packet

    def _part_of(self, packet: AnyPacket) -> _Part | None:
        at = _time(packet)
        if at is None:
            return self._heard
        goes_on = self._heard_at is None or -_STEP_BACK <= at - self._heard_at <= _LEAP
        if not goes_on:
            return self._shown if self._shown is not self._heard else None
        if self._shown.is_near(at):
            return self._shown
        return self._heard if self._heard is not self._shown and self._heard.is_near(at) else None


def _time(packet: AnyPacket) -> int | None:
    return packet.pts if packet.dts is None else packet.dts


def _shift(packet: AnyPacket, offset: int) -> None:
    if offset:
        packet.pts = None if packet.pts is None else packet.pts + offset
        packet.dts = None if packet.dts is None else packet.dts + offset
