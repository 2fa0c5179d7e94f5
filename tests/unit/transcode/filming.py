"""Films of which nothing is real but the times: packets in decode order, a container that seeks, a decoder.

For what is decided by times alone: which frame a chunk shows where.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

from av.container import InputContainer
from av.format import ContainerFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

SIDE_PX = 16


@dataclass(frozen=True)
class Film:
    """Frames by number, in order of presentation.

    Attributes:
        ticks: when each is shown; ascending.
        time_base: what a tick is, in seconds.
        keys: which are key frames; the first is.
        b_frames: up to so many between two frames that others refer to.
        is_open: whether frames before a key frame may refer to it.
        lands_off: by so many packets seeking misses; None where it cannot be done.
    """

    ticks: Sequence[int]
    time_base: Fraction
    keys: frozenset[int]
    b_frames: int = 0
    is_open: bool = False
    lands_off: int | None = 0

    @property
    def times(self) -> list[Fraction]:
        return [ticks * self.time_base for ticks in self.ticks]

    @property
    def packets(self) -> list["FilmPacket"]:
        order: list[int] = []
        waiting: list[int] = []
        since = 0
        for number in range(len(self.ticks)):
            since = 0 if number in self.keys else since + 1
            closes = not self.is_open and number + 1 in self.keys
            if since % (self.b_frames + 1) == 0 or closes or number == len(self.ticks) - 1:
                order += [number, *waiting]
                waiting, since = [], 0
            else:
                waiting.append(number)
        # Decoded one frame after the other, and no frame later than it is shown.
        decoded = [2 * self.ticks[0] - self.ticks[1] if len(self.ticks) > 1 else self.ticks[0], *self.ticks]
        return [FilmPacket(self, number, decoded[place]) for place, number in enumerate(order)]


@dataclass(frozen=True)
class FilmPacket:
    """A packet that decodes to frames once its decoder knows their order; without a number, the last of all."""

    film: Film
    number: int | None
    dts: int | None
    decoder: "Decoder | None" = None
    size: int = 1

    @property
    def pts(self) -> int | None:
        return None if self.number is None else self.film.ticks[self.number]

    @property
    def is_keyframe(self) -> bool:
        return self.number in self.film.keys

    def decode(self) -> list[VideoFrame]:
        assert self.decoder
        return [self._frame(number) for number in self.decoder.shown(self.number)]

    def _frame(self, number: int) -> VideoFrame:
        frame = VideoFrame(SIDE_PX, SIDE_PX, "yuv420p")
        frame.pts, frame.time_base = self.film.ticks[number], self.film.time_base
        return frame


@dataclass
class Decoder:
    """Shows frames in order, from the first key frame on; not those that refer to what came before it."""

    film: Film
    held: int | None = None
    begun_at: int | None = None

    def shown(self, number: int | None) -> list[int]:
        if number is not None and self.begun_at is None:
            if number not in self.film.keys:
                return []
            self.begun_at = number
        if number is not None and number < cast(int, self.begun_at):
            return []
        if number is not None and self.held is not None and number < self.held:
            return [number]
        before, self.held = self.held, number
        return [] if before is None else [before]


@dataclass
class FilmContainer:
    """Stands for a container and for its only stream."""

    film: Film
    time_base: Fraction = field(init=False)
    place: int = 0

    def __post_init__(self) -> None:
        self.time_base = self.film.time_base

    @property
    def format(self) -> ContainerFormat:
        return ContainerFormat("matroska", "r")

    @property
    def streams(self) -> list["FilmContainer"]:
        return [self]

    def seek(self, ticks: int, *, stream: object) -> None:
        """Goes to a key frame by its decode time, and misses it."""
        assert stream is self
        if self.film.lands_off is None:
            raise OSError("no index")
        found = self.film.packets
        keys = [at for at, packet in enumerate(found) if packet.is_keyframe and cast(int, packet.dts) <= ticks]
        self.place = min(max(0, (keys or [0])[-1] + self.film.lands_off), len(found) - 1)

    def demux(self, stream: object) -> Iterator[FilmPacket]:
        assert stream is self
        decoder = Decoder(self.film)
        for packet in self.film.packets[self.place :]:
            yield FilmPacket(self.film, packet.number, packet.dts, decoder)
        yield FilmPacket(self.film, None, None, decoder, size=0)

    @property
    def as_container(self) -> InputContainer:
        return cast(InputContainer, self)

    @property
    def as_stream(self) -> VideoStream:
        return cast(VideoStream, self)
