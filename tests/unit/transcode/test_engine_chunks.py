"""Chunks that know nothing of each other, joined: no seam can be told from the frames or their times."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from services.transcode.engine.run import probe
from services.transcode.ladder import Step
from services.transcode.plan import ChunkSpec, Fleet, plan
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource

LADDER = (Step("96p", 96, 21, 800_000, 1_200_000),)
BITS = 12


def numbered(number: int, picture: NDArray[np.uint8]) -> None:
    """Writes a frame's number as light and dark blocks that survive any encoder."""
    picture[:] = 40
    width = picture.shape[1] // BITS
    for bit in range(BITS):
        if number >> bit & 1:
            picture[:, bit * width : (bit + 1) * width] = 220


def number_of(picture: NDArray[np.uint8]) -> int:
    width = picture.shape[1] // BITS
    return sum(1 << bit for bit in range(BITS) if picture[20:76, bit * width + 4 : (bit + 1) * width - 4].mean() > 128)


def numbered_clip(
    times: list[Fraction],
    rate: Fraction,
    container: str = "mp4",
    *,
    gop_frames: int = 30,
    options: dict[str, str] | None = None,
) -> bytes:
    codec = "mpeg4" if container == "avi" else "libx264"
    return sources.clip(
        times,
        rate=rate,
        size_px=(192, 96),
        container=container,
        codec=codec,
        paint=numbered,
        gop_frames=gop_frames,
        options=options,
    )


async def chunks_of(data: bytes) -> list[ChunkSpec]:
    source = await probe(BytesSource(data), LIMITS)
    return [spec for spec in plan(source, ladder=LADDER, fleet=Fleet(2)) if isinstance(spec, ChunkSpec)]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("gop_frames", [7, 60, 1_000])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30_000, 1001)], ids=str)
async def test_every_frame_is_shown_once_in_order_across_borders(
    container: str, gop_frames: int, rate: Fraction
) -> None:
    count = 501
    data = numbered_clip(sources.constant_times(count, rate), rate, container, gop_frames=gop_frames)
    assert len(await chunks_of(data)) >= 2
    _, results = await sources.run_plan(data, LADDER, Fleet(2))
    track = results["96p"]
    frames = sources.decoded(track.file)
    assert [number_of(sources.luma(frame)) for frame in frames] == list(range(count))
    assert sources.frame_times(frames) == sources.constant_times(count, rate)
    assert track.track.frame_count == count


async def test_a_chunk_is_as_one_worker_alone_would_have_made_it_but_for_its_first_frames() -> None:
    data = numbered_clip(sources.constant_times(450, Fraction(25)), Fraction(25))
    _, whole = await sources.run_plan(data, LADDER, Fleet(1))
    _, cut = await sources.run_plan(data, LADDER, Fleet(4))
    alone, joined = (sources.decoded(results["96p"].file) for results in (whole, cut))
    assert sources.frame_times(alone) == sources.frame_times(joined)
    differences = [
        float(np.abs(sources.luma(one).astype(int) - sources.luma(other)).mean())
        for one, other in zip(alone, joined, strict=True)
    ]
    assert max(differences) < 3


async def test_a_variable_rate_has_one_timeline_in_all_chunks() -> None:
    # A picture that stays for eleven seconds, over a border; before and after it 30 a second.
    times = [Fraction(n, 30) for n in range(200)] + [Fraction(200 + 330 + n, 30) for n in range(200)]
    data = numbered_clip(times, Fraction(30))
    source, cut = await sources.run_plan(data, LADDER, Fleet(4))
    _, whole = await sources.run_plan(data, LADDER, Fleet(1))
    assert len(await chunks_of(data)) > 1
    numbers = [
        [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)] for results in (cut, whole)
    ]
    assert numbers[0] == numbers[1]
    assert numbers[0] == sorted(numbers[0])
    assert numbers[0].count(199) > 100
    assert source.duration_s == pytest.approx(730 / 30, abs=0.1)


async def test_a_container_without_times_is_one_chunk() -> None:
    data = numbered_clip(sources.constant_times(501, Fraction(25)), Fraction(25), "avi")
    chunks = await chunks_of(data)
    if not chunks[0].random_access:
        assert {(chunk.first_frame, chunk.end_frame) for chunk in chunks} == {(0, 501)}
    _, results = await sources.run_plan(data, LADDER, Fleet(2))
    assert [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)] == list(range(501))


async def test_a_fragmented_file_is_cut_too() -> None:
    times = sources.constant_times(501, Fraction(25))
    data = numbered_clip(times, Fraction(25), options={"movflags": "frag_keyframe+empty_moov"})
    _, results = await sources.run_plan(data, LADDER, Fleet(2))
    assert [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)] == list(range(501))
