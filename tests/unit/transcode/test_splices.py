"""Transport streams that were cut together: sound stays with its picture, and the film goes on, at every splice."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import numpy as np
import pytest

from services.transcode.engine.reading.splices import AnyPacket, Splices, Tracks, spliced
from services.transcode.engine.run import probe
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource
from tests.unit.transcode.test_engine_matrix import LADDER, Made, is_flash, made_file

SECOND = 90_000
VIDEO, SOUND = 0, 1


@dataclass
class Timed:
    """What is looked at of a packet."""

    stream_index: int
    pts: int | None
    dts: int | None
    name: str = ""
    duration: int = 0
    size: int = 10_000


def picture(at_s: float) -> Timed:
    return Timed(VIDEO, round(at_s * SECOND), round(at_s * SECOND))


def sound(at_s: float, name: str = "") -> Timed:
    return Timed(SOUND, round(at_s * SECOND), round(at_s * SECOND), name)


def on_one_clock(packets: Iterable[Timed], wanted: int = SOUND) -> list[Timed]:
    """What is wanted; all of it is looked at."""
    found = cast(Iterator[AnyPacket], iter([replace(packet) for packet in packets]))
    return cast(list[Timed], list(spliced(found, Tracks(VIDEO, wanted, SOUND), Splices())))


def seconds_of(packets: Iterable[Timed]) -> list[float]:
    return [round((packet.pts or 0) / SECOND, 3) for packet in packets]


def recording(begins_s: float, count: int = 10) -> list[Timed]:
    """A picture and the sound that goes with it, every second."""
    return [one for number in range(count) for one in (picture(begins_s + number), sound(begins_s + number))]


@pytest.mark.parametrize("begins_s", [0, 5, 8, 3_600, 50_000])
@pytest.mark.parametrize("wanted", [VIDEO, SOUND])
def test_a_recording_goes_on_where_the_picture_of_the_one_before_ended(begins_s: int, wanted: int) -> None:
    packets = recording(0) + recording(begins_s) + recording(begins_s + 7_000)
    assert seconds_of(on_one_clock(packets, wanted)) == list(range(30))


def test_sound_that_comes_before_the_picture_of_its_recording_waits_for_it() -> None:
    sounds = on_one_clock([*recording(100), sound(0), sound(1), *recording(0)[0::2], sound(2)])
    assert seconds_of(sounds)[10:] == [110, 111, 112]


def test_sound_that_comes_after_the_picture_of_its_recording_stays_in_it() -> None:
    sounds = on_one_clock([*recording(100)[:-2], picture(109), picture(0), picture(1), sound(109), sound(0), sound(1)])
    assert seconds_of(sounds)[9:] == [109, 110, 111]


def test_a_time_that_is_wrong_by_itself_leaves_the_sound_where_it_is() -> None:
    packets = [*recording(100), picture(90_000), *recording(110)]
    assert seconds_of(on_one_clock(packets, VIDEO)) == [*range(100, 121)]
    assert seconds_of(on_one_clock(packets))[:10] == [*range(100, 110)]


def test_sound_that_jumps_alone_waits_for_no_picture_for_ever_and_follows_on() -> None:
    alone = [sound(50_000 + number / 50, "alone") for number in range(5_000)]
    sounds = on_one_clock([*recording(0), *alone, *recording(10)])
    assert [packet.name for packet in sounds[10:5_010]] == ["alone"] * 5_000
    assert {packet.pts for packet in sounds if packet.name} == {None}


def test_one_time_of_sound_that_is_wrong_stops_nothing() -> None:
    sounds = on_one_clock([*recording(0), sound(50_000, "astray"), *recording(10)])
    assert [packet.name for packet in sounds].index("astray") == 10
    assert sounds[10].pts is None
    assert seconds_of(packet for packet in sounds if not packet.name) == list(range(20))


def test_steady_sound_may_be_far_from_its_picture() -> None:
    packets = [*map(picture, range(20)), *map(sound, range(40)), *map(picture, range(20, 40))]
    assert seconds_of(on_one_clock(packets)) == seconds_of(on_one_clock(packets, VIDEO)) == list(range(40))


def test_sound_may_pause() -> None:
    packets = [
        one for one in recording(0, 100) if one.stream_index == VIDEO or not 10 * SECOND < (one.pts or 0) < 80 * SECOND
    ]
    assert seconds_of(on_one_clock(packets)) == [*range(11), *range(80, 100)]


def test_the_picture_may_pause_while_sound_goes_on() -> None:
    """A camera that is off for a while, slides, or a radio's cover."""
    for pause_s in (15, 600):
        packets = [
            one for one in recording(0, 700) if one.stream_index == SOUND or not 5 < (one.pts or 0) / SECOND < pause_s
        ]
        assert seconds_of(on_one_clock(packets)) == list(range(700))
        assert seconds_of(on_one_clock(packets, VIDEO)) == [*range(6), *range(pause_s, 700)]


def test_another_track_of_sound_than_the_witness_is_put_on_the_same_clock() -> None:
    other = 2
    packets = [
        each
        for one in [*recording(0), *recording(3_600)]
        for each in ((one, replace(one, stream_index=other)) if one.stream_index == SOUND else (one,))
    ]
    assert seconds_of(on_one_clock(packets, other)) == list(range(20))


def test_decode_times_that_are_only_a_little_out_of_order_are_no_splice() -> None:
    """As libav makes them up for a stream that has none."""
    order = [0, 4, 2, 1, 3, 8, 6, 5, 7, 12, 10, 9, 11]
    packets = [picture(number / 25) for number in order]
    assert seconds_of(on_one_clock(packets, VIDEO)) == [round(number / 25, 3) for number in order]


def test_steady_packets_are_left_alone() -> None:
    packets = [Timed(SOUND, None, None), *recording(20), picture(39), picture(40)]
    splices = Splices()
    for wanted in (VIDEO, SOUND):
        found = cast(Iterator[AnyPacket], iter([replace(packet) for packet in packets]))
        passed = cast(list[Timed], list(spliced(found, Tracks(VIDEO, wanted, SOUND), splices)))
        assert passed == [packet for packet in packets if packet.stream_index == wanted]
    assert splices.count == 0


@pytest.mark.parametrize("starts_s", [(0, 0, 0), (100, 50, 100), (0, 3_600, 7_200), (7_200, 0, 3_600)], ids=str)
@pytest.mark.parametrize("frames", [60, 44])
async def test_beep_and_flash_stay_together_over_splices(starts_s: tuple[int, ...], frames: int) -> None:
    """The sound of each recording, two seconds of it, is much shorter or longer than the picture."""
    recordings = [
        Made(
            "recording", container="mpegts", frames=frames, video_starts_s=Fraction(at_s), sound_starts_s=Fraction(at_s)
        )
        for at_s in starts_s
    ]
    data = b"".join(map(made_file, recordings))
    source = await probe(BytesSource(data), LIMITS)
    assert float(source.duration_s) == pytest.approx(3 * frames / 25, abs=0.1)
    _, results = await sources.run_plan(data, LADDER)
    shown = sources.decoded(results["108p"].file)
    assert len(shown) == pytest.approx(3 * frames, abs=2)
    flashes = [is_flash(frame) for frame in shown]
    flashes_s = [number / 25 for number in range(1, len(shown)) if flashes[number] and not flashes[number - 1]]
    heard, start_s = sources.samples(results["audio"].file)
    loud = np.flatnonzero(np.abs(heard).max(axis=0) > 0.1) / 48_000 + float(start_s)
    beeps_s = [float(loud[0]), *(float(at) for at, before in zip(loud[1:], loud, strict=False) if at - before > 0.5)]
    assert flashes_s == pytest.approx([1, 1 + frames / 25, 1 + 2 * frames / 25], abs=0.1)
    assert beeps_s == pytest.approx(flashes_s, abs=0.045)
