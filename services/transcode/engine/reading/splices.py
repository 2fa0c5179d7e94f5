"""One clock for the tracks of a transport stream that was cut together of recordings, each of which had its own.

Where one ends and the next begins is the picture's to say: if every track went on at its own end, sound and picture
would part ways by what the one is shorter than the other, at every splice anew.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from av.packet import Packet

_TICKS_A_SECOND = 90_000  # of all tracks of a transport stream (ISO/IEC 13818-1, 2.4.3.6)

_LEAP = 10 * _TICKS_A_SECOND
"""So far ahead, a decode time is that of another clock: ffmpeg's `dts_delta_threshold`, for transport streams too."""

_STEP_BACK = _TICKS_A_SECOND // 2
"""So far back, a time is of another recording; less is a coarse clock, or a muxer that has no decode times."""

_NEAR = 5 * _TICKS_A_SECOND
"""So far beside the picture, sound is still of the same recording: multiplexers let one run ahead a little."""

_MAX_HELD_BYTES = 16 << 20
"""Of sound that waits for the picture to come to its recording: minutes of it as a rule."""
_HELD_PACKET_BYTES = 600
"""What a packet takes beside its data, as measured."""

AnyPacket: TypeAlias = "Packet[Any]"


@dataclass(slots=True)
class Splices:
    """How many there were."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Tracks:
    """Which tracks there are, by their indices.

    Attributes:
        video: the picture's.
        wanted: that, or a track of sound.
        witness: the sound that tells a pause of the picture from a splice; the same for every `wanted`, and None where
            there is no sound.
    """

    video: int
    wanted: int
    witness: int | None


def spliced(found: Iterator[AnyPacket], tracks: Tracks, splices: Splices) -> Iterator[AnyPacket]:
    """The packets that are wanted, on the first recording's clock, which goes on with the next picture at each splice.

    A splice is where the picture's decode time steps back, or leaps ahead while the sound does not go on.

    Args:
        found: of all `tracks`, as they lie in the file.
        tracks: which they are.
        splices: counts them.
    """
    recordings = _Recordings(splices)
    held: deque[AnyPacket] = deque()
    held_bytes = 0
    for packet in found:
        if packet.stream_index == tracks.witness:
            recordings.witness(packet)
        if packet.stream_index == tracks.video:
            recordings.show(packet)
            if tracks.wanted == tracks.video:
                yield packet
        elif packet.stream_index == tracks.wanted:
            held.append(packet)
            held_bytes += packet.size + _HELD_PACKET_BYTES
        # One that belongs nowhere, where the next one belongs to what is there, is astray.
        while held and (any(map(recordings.has, islice(held, 2))) or held_bytes > _MAX_HELD_BYTES):
            held_bytes -= held[0].size + _HELD_PACKET_BYTES
            yield recordings.heard(held.popleft())
    while held:
        yield recordings.heard(held.popleft())


@dataclass(slots=True)
class _Recording:
    """What is added to its clock, and the decode time at which its picture is."""

    offset: int = 0
    reached: int | None = None

    def is_near(self, at: int) -> bool:
        return self.reached is None or abs(at - self.reached) <= _NEAR


class _Recordings:
    """The recording in which the picture is, and that in which the sound is: late, or early, when it has to wait."""

    def __init__(self, splices: Splices) -> None:
        self._splices = splices
        self._shown = self._heard = _Recording()
        self._decoded = 0
        self._interval = 0
        self._shown_until: int | None = None
        self._heard_at: int | None = None
        self._witness_since: int | None = None
        self._witness_at = 0

    def witness(self, packet: AnyPacket) -> None:
        """Notes how far sound goes on without a leap."""
        at = _time(packet)
        if at is None:
            return
        if self._witness_since is None or not -_STEP_BACK <= at - self._witness_at <= _LEAP:
            self._witness_since = at
        self._witness_at = at

    def show(self, packet: AnyPacket) -> None:
        """Puts a packet of the picture on the clock."""
        at = packet.dts
        if at is not None:
            reached = self._shown.reached
            if reached is not None and self._is_another(reached, at):
                self._begin_recording(at if packet.pts is None else packet.pts)
                reached = None
            elif reached is not None and at > reached:
                self._interval = at - reached
            self._shown.reached = at if reached is None else max(reached, at)
        _shift(packet, self._shown.offset)
        if packet.dts is not None:
            # A recording may need more time to reorder its pictures than the one before.
            packet.dts = self._decoded = max(packet.dts, self._decoded) if self._splices.count else packet.dts
        if packet.pts is not None:
            until = packet.pts + (packet.duration or self._interval)
            self._shown_until = until if self._shown_until is None else max(self._shown_until, until)

    def _is_another(self, reached: int, at: int) -> bool:
        """Whether a decode time is of another recording than the one before."""
        if at - reached <= _LEAP:
            return at < reached - _STEP_BACK
        since = self._witness_since
        went_on = since is not None and since <= reached + _NEAR and self._witness_at >= at - _NEAR
        return not went_on

    def _begin_recording(self, shown: int) -> None:
        self._splices.count += 1
        until = shown if self._shown_until is None else self._shown_until
        self._shown = _Recording(until - shown)

    def has(self, packet: AnyPacket) -> bool:
        """Whether the picture has come to the recording to which a packet of sound belongs."""
        return self._recording_of(packet) is not None

    def heard(self, packet: AnyPacket) -> AnyPacket:
        """Puts a packet of sound on the clock; one whose time belongs to no picture follows the one before."""
        recording = self._recording_of(packet)
        if recording is None:
            packet.pts = packet.dts = None
            return packet
        self._heard = recording
        at = _time(packet)
        self._heard_at = self._heard_at if at is None else at
        _shift(packet, self._heard.offset)
        return packet

    def _recording_of(self, packet: AnyPacket) -> _Recording | None:
        at = _time(packet)
        if at is None:
            return self._heard
        ahead = 0 if self._heard_at is None else at - self._heard_at
        is_near = self._shown.is_near(at)
        # Sound may pause for long: what leaps ahead to where the picture is leaps to no other recording.
        if ahead < -_STEP_BACK or (ahead > _LEAP and not is_near):
            return None if self._shown is self._heard else self._shown
        return self._shown if is_near else self._heard


def _time(packet: AnyPacket) -> int | None:
    return packet.pts if packet.dts is None else packet.dts


def _shift(packet: AnyPacket, offset: int) -> None:
    if offset:
        packet.pts = None if packet.pts is None else packet.pts + offset
        packet.dts = None if packet.dts is None else packet.dts + offset
