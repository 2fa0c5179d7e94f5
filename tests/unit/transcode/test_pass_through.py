"""Whether packets of an original may be published: decided by values alone."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcode.ladder import LADDER
from services.transcode.pass_through import grid_of, key_frame_grid, peak_bps
from services.transcode.plan import Fleet, plan
from services.transcode.source import ColourInfo, H264Info, SourceInfo, VideoStreamInfo
from services.transcode.specs import ChunkSpec, PassThroughSpec
from tests.unit.transcode.test_plan import SOURCE, VIDEO

CODED = H264Info(profile=100, level=40, gop_frames=60, average_bps=3_000_000, peak_bps=6_000_000)
FIT = replace(VIDEO, h264=CODED, colour=ColourInfo(1, 1, 1, full_range=False))


def passed(video: VideoStreamInfo, source: SourceInfo = SOURCE) -> bool:
    return any(isinstance(spec, PassThroughSpec) for spec in plan(replace(source, video=video)))


def test_what_is_as_its_step_shall_be_passes_and_leaves_the_other_steps_to_encode() -> None:
    specs = plan(replace(SOURCE, video=FIT), fleet=Fleet(2))
    first = specs[0]
    assert isinstance(first, PassThroughSpec)
    assert first.rendition.label == LADDER[0].label
    encoded = [spec for spec in specs if hasattr(spec, "renditions")]
    assert {one.label for spec in encoded for one in spec.renditions} == {step.label for step in LADDER[1:]}


@pytest.mark.parametrize(
    "video",
    [
        replace(FIT, h264=None),
        replace(FIT, h264=replace(CODED, profile=110)),
        replace(FIT, h264=replace(CODED, level=51)),
        replace(FIT, h264=replace(CODED, peak_bps=7_000_000)),
        replace(FIT, h264=replace(CODED, gop_frames=300)),
        replace(FIT, pix_fmt="yuv422p"),
        replace(FIT, interlaced=True),
        replace(FIT, random_access=False),
        replace(FIT, sample_aspect_ratio=Fraction(4, 3)),
        replace(FIT, coded_width_px=2560, coded_height_px=1440, display_width_px=2560, display_height_px=1440),
        replace(FIT, colour=ColourInfo(9, 16, 9, full_range=False)),
        replace(FIT, colour=ColourInfo(1, 1, 1, full_range=True)),
        replace(FIT, frame_rate=Fraction(120)),
        replace(FIT, frame_count=None),
        replace(FIT, h264=replace(CODED, peak_bps=6_875_001)),
    ],
)
def test_what_differs_in_one_thing_does_not(video: VideoStreamInfo) -> None:
    assert not passed(video)


def test_up_to_the_peak_of_an_encode_of_ours_it_passes() -> None:
    assert passed(replace(FIT, h264=replace(CODED, peak_bps=6_875_000)))


def lasting(minutes: int) -> SourceInfo:
    return replace(SOURCE, duration_s=Fraction(60 * minutes), video=replace(FIT, frame_count=1_800 * minutes))


@pytest.mark.parametrize(
    ("minutes", "video_slots", "passes"), [(10, 2, True), (10, 8, True), (10, 64, False), (60, 2, True), (61, 2, False)]
)
def test_one_core_never_keeps_a_large_fleet_waiting(minutes: int, video_slots: int, passes: bool) -> None:
    specs = plan(lasting(minutes), fleet=Fleet(video_slots))
    assert any(isinstance(spec, PassThroughSpec) for spec in specs) == passes


@pytest.mark.parametrize(("average_bps", "most_bps"), [(1_000_000, 1_000_000), (20_000, 800_000)])
def test_smaller_renditions_get_no_more_bits_than_the_original_has_but_enough(average_bps: int, most_bps: int) -> None:
    """Than it has in all: players that order by average would take them for better."""
    video = replace(FIT, h264=replace(CODED, average_bps=average_bps))
    chunks = [spec for spec in plan(replace(SOURCE, video=video)) if isinstance(spec, ChunkSpec)]
    caps = {one.label: one.maxrate_bps for chunk in chunks for one in chunk.renditions}
    assert caps == {"720p": most_bps, "480p": most_bps, "360p": 800_000}


@given(st.lists(st.integers(0, 1 << 20), min_size=1, max_size=300), st.integers(1, 200))
def test_a_peak_is_that_of_the_busiest_four_seconds(sizes: list[int], gop_frames: int) -> None:
    rate = Fraction(25)
    window = min(gop_frames * max(1, round(4 * rate / gop_frames)), len(sizes))
    busiest = max(sum(sizes[first : first + window]) for first in range(0, len(sizes), gop_frames))
    assert peak_bps(sizes, gop_frames, rate) == round(busiest * 8 * rate / window)


@given(gop_frames=st.integers(1, 700), rate=st.sampled_from([Fraction(24), Fraction(30_000, 1001), Fraction(60)]))
def test_segments_are_whole_groups_of_two_to_six_seconds(gop_frames: int, rate: Fraction) -> None:
    grid = grid_of(replace(CODED, gop_frames=gop_frames), rate)
    if grid is None:
        assert gop_frames / rate > 4
        return
    assert grid.segment_frames % gop_frames == 0
    assert grid.segment_frames % grid.gop_frames == 0
    assert 2 <= grid.segment_frames / rate <= 6
    assert grid.gop_frames / rate <= 6


@given(gops=st.integers(1, 20), gop_frames=st.integers(1, 50), tail=st.integers(1, 50), data=st.data())
def test_a_grid_is_found_whatever_key_frames_stand_between(
    gops: int, gop_frames: int, tail: int, data: st.DataObject
) -> None:
    count = (gops - 1) * gop_frames + min(tail, gop_frames)
    keys = set(range(0, count, gop_frames)) | data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    found = key_frame_grid(sorted(keys), count)
    assert found is not None
    assert found <= gop_frames
    assert set(range(0, count, found)) <= keys


@pytest.mark.parametrize("keys", [[], [1, 11], [0, 10, 25], [0, 7, 17], [0, 900, 1_700]])
def test_other_key_frames_are_no_grid(keys: list[int]) -> None:
    assert key_frame_grid(keys, 2_000) is None
