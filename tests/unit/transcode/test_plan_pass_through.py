"""Plans for originals of any size and rate, those among them that have packets to publish: what holds for all plans."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from services.transcode.formats import Codec
from services.transcode.ladder import LADDER, Step, ladder_of
from services.transcode.plan import Fleet, Output, plan
from services.transcode.source import ColourInfo, H264Info, SourceInfo
from services.transcode.specs import AudioSpec, ChunkSpec, PassThroughSpec, RenditionSpec, TaskSpec
from tests.unit.transcode.test_plan import SOURCE, VIDEO

RATES = [Fraction(24_000, 1001), Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(60_000, 1001)]
SIZES_PX = [(1920, 1080), (1080, 1920), (1440, 1080), (1280, 720), (854, 480), (640, 360), (320, 180), (90, 160)]
HIGH = H264Info(profile=100, level=40, gop_frames=60, average_bps=300_000, peak_bps=600_000)
BT709 = ColourInfo(1, 1, 1, full_range=False)


@st.composite
def passing(draw: st.DrawFn) -> tuple[SourceInfo, H264Info]:
    """What may well be published as it is: of a step's size, in groups of any length."""
    rate = draw(st.sampled_from(RATES))
    count = draw(st.integers(1, 40_000))
    width_px, height_px = draw(st.sampled_from(SIZES_PX))
    coded = replace(HIGH, gop_frames=draw(st.integers(1, int(5 * rate))), peak_bps=draw(st.integers(1_000, 1_500_000)))
    video = replace(
        VIDEO,
        coded_width_px=width_px,
        coded_height_px=height_px,
        display_width_px=width_px,
        display_height_px=height_px,
        frame_rate=rate,
        frame_count=count,
        key_frame_interval_s=coded.gop_frames / rate,
        colour=BT709,
        h264=coded,
    )
    return replace(SOURCE, duration_s=count / rate, video=video), coded


def renditions_of(specs: tuple[TaskSpec, ...]) -> list[RenditionSpec]:
    """Each once, in the order of the plan."""
    found: dict[str, RenditionSpec] = {}
    for spec in specs:
        if isinstance(spec, PassThroughSpec):
            found[spec.rendition.label] = spec.rendition
        elif isinstance(spec, ChunkSpec):
            found |= {one.label: one for one in spec.renditions}
    return list(found.values())


@given(passing(), st.integers(1, 12), st.sampled_from([LADDER, ladder_of(list(Codec))]))
def test_what_is_published_as_it_is_has_the_borders_of_what_is_encoded(
    original: tuple[SourceInfo, H264Info], video_slots: int, ladder: tuple[Step, ...]
) -> None:
    source, coded = original
    specs = plan(source, output=Output(ladder), fleet=Fleet(video_slots))
    assume(isinstance(specs[0], PassThroughSpec))
    passed, *others = specs
    assert isinstance(passed, PassThroughSpec)
    assert source.video is not None
    assert not any(isinstance(spec, PassThroughSpec) for spec in others)
    timeline = passed.timeline
    assert {spec.timeline for spec in others if isinstance(spec, ChunkSpec | AudioSpec)} <= {timeline}
    assert timeline.frame_count == source.video.frame_count
    assert timeline.segment_frames % coded.gop_frames == 0, "a segment begins where the original has no key frame"
    assert timeline.segment_frames % timeline.gop_frames == 0
    assert 2 <= timeline.segment_frames / timeline.frame_rate <= 6
    chunks = [spec for spec in others if isinstance(spec, ChunkSpec)]
    encoded = {one.label for chunk in chunks for one in chunk.renditions}
    assert passed.rendition.label not in encoded
    for label in encoded:
        mine = [chunk for chunk in chunks if label in [one.label for one in chunk.renditions]]
        assert mine[0].first_frame == 0
        assert mine[-1].end_frame == timeline.frame_count
        assert all(earlier.end_frame == later.first_frame for earlier, later in pairwise(mine))
        assert all(chunk.first_frame < chunk.end_frame for chunk in mine)
        assert all(chunk.first_frame % timeline.segment_frames == 0 for chunk in mine)
    assert len({spec.label for spec in specs}) == len(specs)
    without = plan(source, output=Output(ladder, pass_through=False))
    assert {one.label for one in renditions_of(specs)} == {one.label for one in renditions_of(without)}


@given(passing(), st.integers(2, 5_000), st.integers(2, 5_000), st.booleans(), st.integers(1, 12))
def test_no_plan_makes_a_picture_larger_or_leaves_the_order(
    original: tuple[SourceInfo, H264Info], width_px: int, height_px: int, is_coded_so: bool, video_slots: int
) -> None:
    source, _ = original
    assert source.video is not None
    if not is_coded_so:
        video = replace(source.video, display_width_px=width_px, display_height_px=height_px, h264=None)
        source = replace(source, video=video)
    shown = source.video
    assert shown is not None
    renditions = renditions_of(plan(source, fleet=Fleet(video_slots)))
    assert renditions
    assert all(one.width_px <= shown.display_width_px for one in renditions)
    assert all(one.height_px <= shown.display_height_px for one in renditions)
    assert all(one.width_px % 2 == 0 == one.height_px % 2 for one in renditions)
    sides = [min(one.width_px, one.height_px) for one in renditions]
    assert sides == sorted(set(sides), reverse=True)
    caps = [one.maxrate_bps for one in renditions]
    assert caps == sorted(caps, reverse=True)
