"""Whatever the times, the key frames and the borders: chunks show the frames of the whole, each in its slot.

Real are finding a place to begin, pacing and what a chunk drops and holds; the film, its container and the encoder are
not, so that hundreds of them can be tried.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import cast

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st

from services.transcode.cutting import chunk_borders
from services.transcode.engine.limits import Limits
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.video import chunk as chunks
from services.transcode.engine.video.encoder import VideoEncoder
from services.transcode.plan import output_frame_rate
from services.transcode.specs import ChunkSpec, RenditionSpec, Timeline
from tests.unit.transcode.filming import SIDE_PX, Film, FilmContainer

NTSC, FILM_RATE = Fraction(30_000, 1001), Fraction(24_000, 1001)
RATES = [Fraction(10), FILM_RATE, Fraction(25), NTSC, Fraction(50), 2 * NTSC]
CLOCKS = [Fraction(1, 90_000), Fraction(1, 1_000), Fraction(1, 12_800)]
RENDITION = RenditionSpec("16p", SIDE_PX, SIDE_PX, 21, 800_000, 1_200_000)


@dataclass
class Silent:
    """A reporter that nobody listens to."""

    def artifact(self, name: str, content_type: str, data: bytes) -> None:
        """Takes a file."""

    def progress(self, fraction: float) -> None:
        """Takes a fraction."""
        assert 0 <= fraction <= 1

    def stage(self, name: str, start_unix_ns: int, attributes: Mapping[str, str | int | float]) -> None:
        """Takes a stage."""


@dataclass
class Witness:
    """An encoder that notes when the picture of each slot is shown by the source."""

    shown: list[tuple[int, int]] = field(default_factory=list)

    def encode(self, picture: VideoFrame, slot: int) -> tuple[()]:
        self.shown.append((slot, cast(int, picture.pts)))
        return ()


class _Source(chunks._Source):
    """A chunk's source that opens a film."""

    film: Film

    def open(self) -> tuple[InputContainer, VideoStream]:
        container = FilmContainer(self.film)
        self._container = container.as_container
        return container.as_container, container.as_stream


def shown_by(film: Film, timeline: Timeline, first_frame: int, end_frame: int) -> list[int]:
    """The number of the film's frame in each slot of a chunk."""
    spec = ChunkSpec("video", 0, (RENDITION,), True, timeline, first_frame, end_frame, 1)
    source = _Source(spec, cast(RemoteFile, None), Limits(), Silent())
    source.film = film
    source.open()
    witness = Witness()
    chunks._Encoding(spec, 1, Silent(), {RENDITION.label: cast(VideoEncoder, witness)}).run(source)
    assert [slot for slot, _ in witness.shown] == list(range(first_frame, end_frame))
    numbers = {ticks: number for number, ticks in enumerate(film.ticks)}
    return [numbers[ticks] for _, ticks in witness.shown]


def seen(film: Film, timeline: Timeline) -> Iterator[int]:
    """What a viewer sees in each slot: the last frame that has begun by about half of it, or the first of all."""
    times, number = film.times, 0
    for slot in range(timeline.frame_count):
        until_s = timeline.origin_s + (slot + Fraction(9, 16)) / timeline.frame_rate
        while number + 1 < len(times) and times[number + 1] <= until_s:
            number += 1
        yield number


def timeline_of(film: Film, rate: Fraction, frame_count: int, gop_frames: int, gops: int) -> Timeline:
    return Timeline(rate, frame_count, gop_frames, gop_frames * gops, film.times[0])


@st.composite
def coded(draw: st.DrawFn, ticks: Sequence[int], time_base: Fraction) -> Film:
    """A film with these times, in any groups of pictures, in a container that seeks well, badly or not."""
    gop_frames = draw(st.integers(1, 120))
    other_keys = draw(st.sets(st.integers(0, len(ticks) - 1), max_size=5))
    return Film(
        ticks,
        time_base,
        keys=frozenset({*range(0, len(ticks), gop_frames), *other_keys}),
        b_frames=draw(st.integers(0, 4)),
        is_open=draw(st.booleans()),
        lands_off=draw(st.one_of(st.just(0), st.integers(-60, 60), st.none())),
    )


@st.composite
def constant(draw: st.DrawFn) -> tuple[Film, Timeline]:
    """A film at one of the usual rates, at which it is shown, or at twice that, on a clock that rounds."""
    shown_rate = draw(st.sampled_from(RATES))
    rate = shown_rate * draw(st.sampled_from([1, 2] if shown_rate >= 50 else [1]))
    assert output_frame_rate(rate) == shown_rate
    time_base = draw(st.sampled_from([*CLOCKS, 1 / rate]))
    begins = draw(st.integers(-(10**6), 10**9))
    count = draw(st.integers(1, 300))
    film = draw(coded([begins + round(number / rate / time_base) for number in range(count)], time_base))
    frame_count = max(1, round(count * shown_rate / rate))
    return film, timeline_of(film, shown_rate, frame_count, draw(st.integers(1, 30)), draw(st.integers(1, 3)))


@st.composite
def variable(draw: st.DrawFn) -> tuple[Film, Timeline]:
    """A film whose frames come when they come, some on time, some late, some after a long while."""
    rate = draw(st.sampled_from(RATES))
    time_base = draw(st.sampled_from(CLOCKS))
    usual_ms = st.integers(1, 80)
    gap_ms = st.one_of(usual_ms, usual_ms, usual_ms, st.integers(1, 400))
    gaps_ms = draw(st.lists(gap_ms, min_size=draw(st.integers(0, 60)), max_size=100))
    ticks = [draw(st.integers(-(10**6), 10**9))]
    for each_ms in gaps_ms:
        ticks.append(ticks[-1] + max(1, round(Fraction(each_ms, 1_000) / time_base)))
    film = draw(coded(ticks, time_base))
    lasting_s = film.times[-1] - film.times[0]
    frame_count = max(1, ceil(lasting_s * rate) + draw(st.integers(-2, 5)))
    return film, timeline_of(film, rate, frame_count, draw(st.integers(1, 60)), draw(st.integers(1, 3)))


def chunked(film: Film, timeline: Timeline, chunk_count: int) -> list[int]:
    borders = chunk_borders(timeline, min(chunk_count, timeline.segment_count))
    assert all(border % timeline.segment_frames == 0 for border in borders[:-1])
    assert borders[-1] == timeline.frame_count
    return [number for first, end in pairwise(borders) for number in shown_by(film, timeline, first, end)]


@settings(deadline=None)
@given(constant(), st.integers(1, 12))
def test_frames_of_a_constant_rate_are_shown_once_each_in_order_over_all_borders(
    filmed: tuple[Film, Timeline], chunk_count: int
) -> None:
    film, timeline = filmed
    numbers = chunked(film, timeline, chunk_count)
    count = len(film.ticks)
    if timeline.frame_count == count:
        assert numbers == list(range(count))
    else:
        assert numbers == [min(2 * slot + 1, count - 1) for slot in range(timeline.frame_count)]


@settings(deadline=None)
@given(variable(), st.integers(1, 12))
def test_a_chunk_shows_in_each_slot_what_the_whole_shows_there(filmed: tuple[Film, Timeline], chunk_count: int) -> None:
    film, timeline = filmed
    whole = shown_by(film, timeline, 0, timeline.frame_count)
    assert whole == list(seen(film, timeline))
    assert chunked(film, timeline, chunk_count) == whole


def test_the_film_is_decoded_as_a_real_one_is() -> None:
    """Of an open group that decoding begins with, what refers to the group before cannot be shown."""
    film = Film(range(12), Fraction(1, 10), frozenset({0, 6}), b_frames=2, is_open=True)
    assert [packet.number for packet in film.packets] == [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 11, 10]
    container = FilmContainer(film)
    assert [f.pts for packet in container.demux(container) for f in packet.decode()] == list(range(12))
    container.seek(5, stream=container)
    assert [f.pts for packet in container.demux(container) for f in packet.decode()] == list(range(6, 12))
