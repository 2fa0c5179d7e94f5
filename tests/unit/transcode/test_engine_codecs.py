"""HEVC and AV1 made by real children in chunks, joined and read by libav's demuxer and decoders."""

from fractions import Fraction

import pytest

from services.transcode.formats import SOFTWARE, Codec
from services.transcode.ladder import Step
from services.transcode.plan import Fleet
from tests.unit.transcode import sources
from tests.unit.transcode.numbered import number_of, numbered_clip

pytestmark = pytest.mark.parametrize("codec", [Codec.HEVC, Codec.AV1])

COUNT = 501
DECODERS = {Codec.HEVC: "hevc", Codec.AV1: "libdav1d"}


def ladder(codec: Codec, *sides_px: int) -> tuple[Step, ...]:
    return tuple(Step(f"{side}p-{codec}", side, 26, 800_000, 1_200_000, codec, SOFTWARE[codec]) for side in sides_px)


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30_000, 1001)], ids=str)
async def test_every_frame_is_shown_once_in_order_across_borders(codec: Codec, rate: Fraction) -> None:
    data = numbered_clip(sources.constant_times(COUNT, rate), rate, gop_frames=60)
    _, results = await sources.run_plan(data, ladder(codec, 96), Fleet(2))
    track = results[f"96p-{codec}"]
    frames = sources.decoded(track.file)
    assert [number_of(sources.luma(frame)) for frame in frames] == list(range(COUNT))
    assert sources.frame_times(frames) == sources.constant_times(COUNT, rate)
    assert track.track.frame_count == COUNT
    assert track.track.codecs.startswith({Codec.HEVC: "hvc1.1.6.L", Codec.AV1: "av01.0."}[codec])


async def test_each_segment_plays_alone_and_its_key_frame_too(codec: Codec) -> None:
    data = numbered_clip(sources.constant_times(250, Fraction(25)), Fraction(25))
    _, results = await sources.run_plan(data, ladder(codec, 96, 64), Fleet(1))
    for side in (96, 64):
        result = results[f"{side}p-{codec}"]
        init = result.shelf.artifacts[result.track.init_name].data
        start = 0
        for segment in result.track.segments:
            data = result.shelf.artifacts[segment.name].data
            frames = sources.decoded(init + data)
            assert sources.frame_times(frames) == [Fraction(start + n, 25) for n in range(segment.frame_count)]
            assert len(sources.decoded(init + data[: segment.keyframe_size_bytes])) == 1
            start += segment.frame_count
        assert start == 250
