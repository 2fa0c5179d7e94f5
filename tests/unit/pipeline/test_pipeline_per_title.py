"""Steps that a video does not need are left out, where that is wished and can be found out."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import Unavailable
from services.transcode import memory
from services.transcode.admission import Admission
from services.transcode.engine.errors import EngineCrashed
from services.transcode.engine.outcome import ChunkOutcome, Outcome, TrackPiece
from services.transcode.formats import Codec
from services.transcode.ladder import LADDER, ladder_of
from services.transcode.per_title import samples, worthwhile
from services.transcode.plan import Fleet, Output, plan
from services.transcode.planner import Uploaded
from services.transcode.source import H264Info, SourceInfo
from services.transcode.specs import ChunkSpec
from tests.unit.pipeline import fakes
from tests.unit.pipeline.fakes import FakeEngine, FakePlans, Job, planner

UPLOADED = Uploaded(fakes.USER_ID, fakes.MEDIA_ID, 1, fakes.ORIGINAL)


def lasting(duration_s: int) -> SourceInfo:
    video = fakes.VIDEO_SOURCE.video
    assert video is not None
    return replace(
        fakes.VIDEO_SOURCE,
        duration_s=Fraction(duration_s),
        video=replace(video, frame_count=None),
    )


def samples_of(source: SourceInfo) -> tuple[ChunkSpec, ...]:
    return samples(plan(source, output=Output(pass_through=False), fleet=Fleet(1)))


def kept(needs_bps: Mapping[str, int], codecs: tuple[Codec, ...] = (Codec.H264,)) -> list[str]:
    ladder = ladder_of(codecs)
    return [step.label for step in worthwhile(ladder, samples_of(lasting(300))[0].renditions, needs_bps)]


@pytest.mark.parametrize(
    ("needs_bps", "labels"),
    [
        # Every network that was thought of for 720p and 480p carries 1080p of slides.
        ({"1080p": 300_000, "720p": 180_000, "480p": 90_000}, ["1080p", "360p"]),
        ({"1080p": 2_200_000, "720p": 1_500_000, "480p": 700_000}, ["1080p", "480p", "360p"]),
        ({"1080p": 5_000_000, "720p": 1_000_000, "480p": 600_000}, ["1080p", "720p", "360p"]),
        ({"1080p": 5_000_000, "720p": 2_800_000, "480p": 1_400_000}, ["1080p", "720p", "480p", "360p"]),
    ],
)
def test_a_step_goes_where_a_larger_one_fits_the_network_it_is_for(
    needs_bps: dict[str, int], labels: list[str]
) -> None:
    assert kept(needs_bps) == labels


def test_other_codecs_get_the_steps_that_h264_gets() -> None:
    labels = kept({"1080p": 300_000, "720p": 180_000, "480p": 90_000}, (Codec.H264, Codec.AV1))
    assert labels == ["1080p", "360p", "1080p-av1", "360p-av1"]


@given(st.lists(st.integers(1, 10_000_000), min_size=3, max_size=3))
def test_the_largest_and_the_smallest_always_stay_in_order(bits: list[int]) -> None:
    labels = kept(dict(zip(("1080p", "720p", "480p"), bits, strict=True)))
    assert labels[0] == "1080p"
    assert labels[-1] == "360p"
    assert labels == [step.label for step in LADDER if step.label in labels]


@given(st.integers(1, 4 * 3600))
def test_samples_are_a_twentieth_at_most_and_lie_within(duration_s: int) -> None:
    found = samples_of(lasting(duration_s))
    assert bool(found) == (duration_s >= 120)
    for one in found:
        assert 0 <= one.first_frame < one.end_frame <= one.timeline.frame_count
        assert one.first_frame % one.timeline.gop_frames == 0
    if found:
        assert sum(one.end_frame - one.first_frame for one in found) * 20 <= found[0].timeline.frame_count
        assert len({one.first_frame for one in found}) == len(found)


def needing(bits_bps: Mapping[str, int]) -> fakes.Behaviour:
    async def encode(job: Job) -> Outcome:
        assert isinstance(job.spec, ChunkSpec)
        await job.sink(fakes.INIT)
        pieces = [
            TrackPiece(one.label, replace(fakes.TRACK, average_bps=bits_bps[one.label])) for one in job.spec.renditions
        ]
        return ChunkOutcome(tuple(pieces))

    return encode


async def test_a_video_of_slides_is_planned_with_fewer_steps() -> None:
    plans, engine = FakePlans(), FakeEngine(found=lasting(300))
    engine.behaviour = needing({"1080p": 300_000, "720p": 180_000, "480p": 90_000})
    await planner(engine, plans, per_title=True).plan_media(UPLOADED)
    [(*_, tasks)] = plans.recorded
    assert engine.began == 3
    assert not any("720p" in task.spec_json or "480p" in task.spec_json for task in tasks)
    assert any("1080p" in task.spec_json for task in tasks)


async def test_where_packets_pass_their_own_rate_counts() -> None:
    source = lasting(300)
    assert source.video is not None
    coded = H264Info(profile=100, level=40, gop_frames=60, average_bps=3_000_000, peak_bps=4_000_000)
    source = replace(source, video=replace(source.video, h264=coded, frame_count=300 * 30))
    plans, engine = FakePlans(), FakeEngine(found=source)
    engine.behaviour = needing({"1080p": 300_000, "720p": 180_000, "480p": 90_000})
    await planner(engine, plans, per_title=True).plan_media(UPLOADED)
    [(*_, tasks)] = plans.recorded
    assert tasks[0].label == "video-pass-through"
    # What 720p takes fits the cap of 480p; the original's 4 Mb/s fits nobody's but its own.
    labels = {label for label in ("1080p", "720p", "480p", "360p") if any(label in task.spec_json for task in tasks)}
    assert labels == {"1080p", "720p", "360p"}


@pytest.mark.parametrize("wished", [True, False])
async def test_without_samples_all_steps_are_planned(wished: bool) -> None:
    plans, engine = FakePlans(), FakeEngine(found=lasting(300), behaviour=fakes.raising(EngineCrashed("killed")))
    await planner(engine, plans, per_title=wished).plan_media(UPLOADED)
    [(*_, tasks)] = plans.recorded
    assert engine.began == wished
    assert all(any(step.label in task.spec_json for task in tasks) for step in LADDER)


async def test_samples_take_their_part_of_the_memory_or_are_done_without() -> None:
    admission, held = Admission(memory.ORDINARY_BYTES), list[int]()
    plans, engine = FakePlans(), FakeEngine(found=lasting(300))

    async def looks(job: Job) -> Outcome:
        held.append(admission.held_bytes)
        return await needing({"1080p": 300_000, "720p": 180_000, "480p": 90_000})(job)

    engine.behaviour = looks
    await planner(engine, plans, per_title=True, admission=admission).plan_media(UPLOADED)
    assert held == [memory.need_of(samples_of(lasting(300))[0], lasting(300))] * 3
    assert admission.held_bytes == 0
    admission.close()
    plans = FakePlans()
    await planner(engine, plans, per_title=True, admission=admission).plan_media(UPLOADED)
    assert len(held) == 3
    assert any("720p" in task.spec_json for task in plans.recorded[0][-1])


async def test_an_outage_of_storage_while_sampling_is_waited_for() -> None:
    plans, engine = FakePlans(), FakeEngine(found=lasting(300), behaviour=fakes.raising(Unavailable("away")))
    with pytest.raises(Unavailable):
        await planner(engine, plans, per_title=True).plan_media(UPLOADED)
    assert not plans.recorded
    assert not plans.failed
