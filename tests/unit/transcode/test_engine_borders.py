"""Sources as people have them, long enough for chunks: pictures and sound are the same with borders and without.

Every frame shows its number, and there is a beep at the start and one near the end.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from services.transcode.engine.run import probe
from services.transcode.ladder import Step
from services.transcode.plan import Fleet, Output, plan
from services.transcode.specs import ChunkSpec
from tests.unit.transcode import sources
from tests.unit.transcode.numbered import number_of, numbered
from tests.unit.transcode.sources import LIMITS, BytesSource, Result

LADDER = (Step("96p", 96, 21, 800_000, 1_200_000),)
NTSC = Fraction(30_000, 1001)
DURATION_S = Fraction(19, 2)
BEEPS_S = (1.0, 8.8)
BEEP_S = 0.1


@dataclass(frozen=True)
class Long:
    """A source of nine and a half seconds.

    Attributes:
        every: so many of its frames share a slot.
        jitter_s: every other frame comes so much late, and every seventh not at all.
        reading: how many quarter turns make the numbers readable again.
    """

    name: str
    rate: Fraction = Fraction(25)
    container: str = "mp4"
    rotation: int = 0
    interlaced: bool = False
    every: int = 1
    jitter_s: Fraction = Fraction(0)
    gop_frames: int = 50
    x264: str = ""
    reading: int = 0

    def __str__(self) -> str:
        return self.name

    @property
    def times(self) -> list[Fraction]:
        numbers = range(int(DURATION_S * self.rate))
        if not self.jitter_s:
            return [number / self.rate for number in numbers]
        return [number / self.rate + number % 2 * self.jitter_s for number in numbers if number % 7 != 3]


LONG = [
    Long("a quarter turn", rotation=-90, reading=1),
    Long("interlaced, in TS", interlaced=True, container="mpegts"),
    Long("59.94 a second", rate=2 * NTSC),
    Long("120 a second, halved", rate=Fraction(120), every=2),
    Long("120 a second, halved, by a clock of milliseconds", rate=Fraction(120), every=2, container="matroska"),
    Long("a variable rate", rate=Fraction(30), jitter_s=Fraction(11, 1_000)),
    Long("B-frames and open groups", x264="open-gop=1:keyint=37:min-keyint=37:bframes=4:b-adapt=0:scenecut=0"),
]


def made_file(made: Long) -> bytes:
    """The source, with its sound."""
    silent = sources.clip(
        made.times,
        rate=made.rate,
        size_px=(192, 96),
        container=made.container,
        rotation=made.rotation,
        interlaced=made.interlaced,
        paint=numbered,
        gop_frames=made.gop_frames,
        x264=made.x264,
    )
    buffer = io.BytesIO()
    with av.open(io.BytesIO(silent), "r") as pictures, av.open(buffer, "w", format=made.container) as output:
        track = pictures.streams.video[0]
        copy = output.add_stream_from_template(track)
        if made.rotation:
            copy.set_display_rotation(made.rotation)
        sound = output.add_stream("aac", rate=48_000, layout="mono")
        begins_s = Fraction(track.start_time or 0) * (track.time_base or 1)
        for packet in pictures.demux(track):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
        heard = AudioFrame.from_ndarray(wave()[np.newaxis], "fltp", "mono")
        heard.sample_rate, heard.time_base = 48_000, Fraction(1, 48_000)
        heard.pts = round(begins_s * 48_000)
        for frame in av.AudioResampler("fltp", "mono", 48_000, frame_size=1_024).resample(heard):
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return buffer.getvalue()


def wave() -> NDArray[np.float32]:
    at_s = np.arange(int(DURATION_S * 48_000)) / 48_000
    is_on = np.zeros(len(at_s), bool)
    for beep_s in BEEPS_S:
        is_on |= (at_s >= beep_s) & (at_s < beep_s + BEEP_S)
    return (0.5 * np.sin(2 * np.pi * 1_000 * at_s) * is_on).astype(np.float32)


def numbers_of(made: Long, frames: Sequence[VideoFrame]) -> list[int]:
    return [number_of(np.rot90(sources.luma(frame), made.reading)) for frame in frames]


def wanted(made: Long, rate: Fraction, count: int) -> list[int]:
    """The number of the picture in each slot: the last one that has begun by about half of it."""
    times, number, found = made.times, 0, list[int]()
    for slot in range(count):
        while number + 1 < len(times) and times[number + 1] * rate <= slot + Fraction(1, 2) + Fraction(1, 16):
            number += 1
        found.append(number)
    return found


def beeps_of(result: Result) -> list[float]:
    """When each begins, in seconds."""
    heard, start_s = sources.samples(result.file)
    loud = np.flatnonzero(np.abs(heard).max(axis=0) > 0.1)
    onsets = [loud[0], *(loud[1:][np.diff(loud) > 24_000])]
    return [int(onset) / 48_000 + float(start_s) for onset in onsets]


@pytest.mark.parametrize("made", LONG, ids=str)
async def test_pictures_and_sound_are_the_same_with_borders_and_without(made: Long) -> None:
    data = made_file(made)
    source = await probe(BytesSource(data), LIMITS)
    specs = plan(source, output=Output(LADDER), fleet=Fleet(3))
    chunks = [spec for spec in specs if isinstance(spec, ChunkSpec)]
    assert len({chunk.first_frame for chunk in chunks}) >= 2
    assert sum(isinstance(spec, ChunkSpec) for spec in plan(source, output=Output(LADDER), fleet=Fleet(1))) == 1
    _, cut = await sources.run_plan(data, LADDER, Fleet(3))
    _, whole = await sources.run_plan(data, LADDER, Fleet(1))
    joined, alone = (sources.decoded(results["96p"].file) for results in (cut, whole))

    times = sources.frame_times(joined)
    rate = chunks[0].timeline.frame_rate
    assert times == sources.frame_times(alone) == sources.constant_times(len(joined), rate)
    assert len(joined) == cut["96p"].track.frame_count == whole["96p"].track.frame_count
    if made.jitter_s:
        assert len(joined) == pytest.approx(DURATION_S * rate, abs=1.5)
    else:
        assert len(joined) == len(made.times) // made.every
    numbers = numbers_of(made, joined)
    assert numbers == numbers_of(made, alone) == wanted(made, rate, len(joined))
    differences = [
        float(np.abs(sources.luma(one).astype(int) - sources.luma(other)).mean())
        for one, other in zip(joined, alone, strict=True)
    ]
    assert max(differences) < 3

    for beep_s, meant_s in zip(beeps_of(cut["audio"]), BEEPS_S, strict=True):
        seen_s, number = next(
            (at_s, number) for at_s, number in zip(times, numbers, strict=True) if made.times[number] >= meant_s
        )
        assert beep_s - meant_s == pytest.approx(float(seen_s - made.times[number]), abs=0.040)
