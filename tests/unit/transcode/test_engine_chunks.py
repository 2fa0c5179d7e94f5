"""Chunks that know nothing of each other, joined: no seam can be told from the frames or their times."""

from fractions import Fraction

import numpy as np
import pytest

from services.transcode.engine.run import probe
from services.transcode.ladder import Step
from services.transcode.plan import Fleet, Output, plan
from services.transcode.specs import ChunkSpec
from tests.unit.transcode import sources, vfw
from tests.unit.transcode.numbered import number_of, numbered, numbered_clip
from tests.unit.transcode.sources import LIMITS, BytesSource

LADDER = (Step("96p", 96, 21, 800_000, 1_200_000),)


async def chunks_of(data: bytes) -> list[ChunkSpec]:
    source = await probe(BytesSource(data), LIMITS)
    return [spec for spec in plan(source, output=Output(LADDER), fleet=Fleet(2)) if isinstance(spec, ChunkSpec)]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("gop_frames", [7, 60, 300])
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


@pytest.mark.parametrize(("codec", "fourcc"), [("libx264", b"H264"), ("mpeg4", b"XVID")])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("container", ["avi", "matroska"])
async def test_pictures_that_avi_gives_no_times_are_shown_in_order(
    container: str, workers: int, codec: str, fourcc: bytes
) -> None:
    """With B-frames, it knows only when each is decoded, and so does Matroska that was made of it."""
    rate, count = Fraction(25), 501
    data = numbered_clip(sources.constant_times(count, rate), rate, "avi", codec=codec, gop_frames=50)
    data = vfw.as_matroska(data, rate, fourcc) if container == "matroska" else data
    assert len(await chunks_of(data)) >= 2
    _, results = await sources.run_plan(data, LADDER, Fleet(workers))
    frames = sources.decoded(results["96p"].file)
    assert [number_of(sources.luma(frame)) for frame in frames] == list(range(count))
    assert sources.frame_times(frames) == sources.constant_times(count, rate)


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


async def test_streams_that_were_joined_are_one_chunk_in_which_both_are_shown() -> None:
    """The second one's clock begins anew."""
    part = numbered_clip(sources.constant_times(250, Fraction(25)), Fraction(25), "mpegts")
    chunks = await chunks_of(part * 2)
    assert {chunk.first_frame for chunk in chunks} == {0}
    assert not chunks[0].random_access
    _, results = await sources.run_plan(part * 2, LADDER, Fleet(1))
    numbers = [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)]
    assert 496 <= len(numbers) <= 504
    assert set(range(248)) <= set(numbers[:252])
    assert set(range(2, 248)) <= set(numbers[252:])


async def test_pictures_that_are_refreshed_little_by_little_are_found() -> None:
    """Periodic intra refresh: what is marked as a key frame can be shown only once the refresh has come round."""
    rate = Fraction(25)
    data = sources.clip(
        sources.constant_times(501, rate),
        rate=rate,
        size_px=(1_920, 96),
        paint=numbered,
        x264="intra-refresh=1:keyint=180:bframes=0",
    )
    _, results = await sources.run_plan(data, LADDER, Fleet(2))
    numbers = [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)]
    assert numbers == list(range(501))


async def test_a_stream_that_begins_in_the_middle_of_a_group_ends_with_its_last_picture() -> None:
    data = numbered_clip(sources.constant_times(400, Fraction(25)), Fraction(25), "mpegts", gop_frames=50)
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    starts = [number for number, packet in enumerate(packets) if packet[1] & 0x40 and packet[1] & 0x1F == 1]
    cut = b"".join([*packets[: starts[0]], *packets[starts[5] :]])
    _, results = await sources.run_plan(cut, LADDER, Fleet(2))
    numbers = [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)]
    assert numbers == list(range(50, 400))


async def test_damage_in_one_chunk_of_many_is_survived() -> None:
    data = bytearray(numbered_clip(sources.constant_times(1_500, Fraction(25)), Fraction(25), gop_frames=25))
    media_data = data.index(b"mdat") + 4
    size = data.index(b"moov") - 4 - media_data
    hurt = slice(media_data + size // 2, media_data + size // 2 + size // 50)
    data[hurt] = bytes(hurt.stop - hurt.start)
    _, results = await sources.run_plan(bytes(data), LADDER, Fleet(4))
    assert results["96p"].track.frame_count == 1_500


@pytest.mark.parametrize("seconds", [5, 60])
async def test_what_a_header_claims_of_the_length_is_not_believed(seconds: int) -> None:
    data = bytearray(numbered_clip(sources.constant_times(400, Fraction(25)), Fraction(25)))
    at = data.index(b"mdhd") + 4 + 12  # version 0: version and flags, two times, the scale
    scale = int.from_bytes(data[at : at + 4], "big")
    data[at + 4 : at + 8] = (seconds * scale).to_bytes(4, "big")
    _, results = await sources.run_plan(bytes(data), LADDER, Fleet(2))
    numbers = [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)]
    assert numbers[:400] == list(range(400))
    assert len(numbers) <= 400 + 10 * 25


async def test_a_fragmented_file_with_samples_in_its_index_is_shown_in_full() -> None:
    data = numbered_clip(sources.constant_times(501, Fraction(25)), Fraction(25), options={"movflags": "frag_keyframe"})
    _, results = await sources.run_plan(data, LADDER, Fleet(2))
    assert [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)] == list(range(501))


async def test_a_fragmented_file_is_cut_too() -> None:
    times = sources.constant_times(501, Fraction(25))
    data = numbered_clip(times, Fraction(25), options={"movflags": "frag_keyframe+empty_moov"})
    _, results = await sources.run_plan(data, LADDER, Fleet(2))
    assert [number_of(sources.luma(frame)) for frame in sources.decoded(results["96p"].file)] == list(range(501))
