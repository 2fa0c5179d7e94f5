import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import DeadlineExceeded, Internal, InvalidArgument, NotFound, Stale, Unavailable
from services.transcode import checksums
from services.transcode.engine.errors import EngineCrashed, EngineUnready
from services.transcode.engine.limits import Limits
from services.transcode.originals import OriginalMissing, longest_reading
from services.transcode.plan import Fleet, Output, plan
from services.transcode.planner import TRIES, PlannedTask, Uploaded, cost_shares
from services.transcode.preview import Shape, preview
from services.transcode.source import MediaKind, RejectedSource, RejectionReason, SourceInfo, from_jsonable
from services.transcode.specs import AudioSpec, ImageSpec, LoudnessTarget, spec_from_json
from tests.unit.pipeline import fakes
from tests.unit.pipeline.fakes import FakeEngine, FakePlans, FakeStorage, planner

UPLOADED = Uploaded(fakes.USER_ID, fakes.MEDIA_ID, 1, fakes.ORIGINAL)


async def test_a_video_becomes_chunks_and_sound_and_a_poster() -> None:
    plans = FakePlans()
    await planner(FakeEngine(found=fakes.VIDEO_SOURCE), plans).plan_media(UPLOADED)
    [(media_id, generation, kind, source_json, tasks)] = plans.recorded
    assert (media_id, generation, kind) == (fakes.MEDIA_ID, 1, MediaKind.VIDEO)
    assert [(task.label, task.lane) for task in tasks] == [
        ("video-001", "video"),
        ("video-002", "video"),
        ("video-003", "video"),
        ("audio", "audio"),
        ("poster", "video"),
    ]
    assert from_jsonable(SourceInfo, json.loads(source_json)) == fakes.VIDEO_SOURCE
    specs = tuple(spec_from_json(json.loads(task.spec_json)) for task in tasks)
    assert specs == plan(fakes.VIDEO_SOURCE, fleet=fakes.FLEET)
    assert sum(task.cost_share for task in tasks) == 1.0


async def test_the_loudness_that_is_set_goes_into_the_plan() -> None:
    plans, target = FakePlans(), LoudnessTarget(-23.0, -1.0)
    await planner(FakeEngine(found=fakes.VIDEO_SOURCE), plans, output=Output(loudness=target)).plan_media(UPLOADED)
    [(*_, tasks)] = plans.recorded
    specs = tuple(spec_from_json(json.loads(task.spec_json)) for task in tasks)
    assert specs == plan(fakes.VIDEO_SOURCE, output=Output(loudness=target), fleet=fakes.FLEET)
    assert [spec.loudness for spec in specs if isinstance(spec, AudioSpec)] == [target]


async def test_an_image_becomes_one_task() -> None:
    plans = FakePlans()
    await planner(FakeEngine(), plans).plan_media(UPLOADED)
    [(_, _, kind, _, tasks)] = plans.recorded
    assert kind is MediaKind.IMAGE
    assert [(task.label, task.lane, task.cost_share) for task in tasks] == [("image", "image", 1.0)]


async def test_a_refused_original_fails_with_a_reason() -> None:
    plans = FakePlans()
    refused = RejectedSource(RejectionReason.NOT_MEDIA, "the file is a web page")
    await planner(FakeEngine(found=refused), plans).plan_media(UPLOADED)
    [failure] = plans.failed
    assert failure.reason == "not_media"
    assert failure.message.startswith("The file is a web page. ")


async def test_a_probe_has_the_time_that_reading_the_whole_original_takes() -> None:
    engine = FakeEngine()
    for size_bytes in (0, 50_000_000_000):
        uploaded = replace(UPLOADED, original=replace(fakes.ORIGINAL, size_bytes=size_bytes))
        await planner(engine, FakePlans()).plan_media(uploaded)
    small, large = engine.limits
    assert small == Limits()
    assert large.stall_s == small.stall_s
    assert large.wall_clock_s - small.wall_clock_s == longest_reading(50_000_000_000).total_seconds()
    assert checksums.longest(50_000_000_000) - checksums.longest(0) == longest_reading(50_000_000_000)


async def test_an_original_that_was_overwritten_fails_at_once() -> None:
    plans = FakePlans()
    await planner(FakeEngine(), plans, FakeStorage(etag="other")).plan_media(UPLOADED)
    assert [failure.reason for failure in plans.failed] == ["original_changed"]


@pytest.mark.parametrize("error", [Stale("overtaken"), NotFound("deleted")])
async def test_an_overtaken_generation_is_dropped(error: Exception) -> None:
    await planner(FakeEngine(), FakePlans(error=error)).plan_media(UPLOADED)


@pytest.mark.parametrize("error", [Unavailable("down"), DeadlineExceeded("slow"), Internal("out of order")])
async def test_without_metadata_the_message_comes_again(error: Exception) -> None:
    plans = FakePlans(error=error)
    with pytest.raises(type(error)):
        await planner(FakeEngine(), plans).plan_media(UPLOADED)
    assert plans.failed == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineCrashed("SIGSEGV"), "engine_crashed"),
        (OriginalMissing("gone"), "original_missing"),
        (ZeroDivisionError(), "internal"),
        (Internal("a defect"), "internal"),
    ],
)
async def test_a_probe_that_fails_is_tried_again_within_its_delivery_and_then_fails_the_media(
    error: Exception, reason: str
) -> None:
    plans = FakePlans()
    engine = FakeEngine(found=error)
    await planner(engine, plans).plan_media(UPLOADED)
    assert engine.probed == TRIES
    assert [failure.reason for failure in plans.failed] == [reason]


async def test_a_probe_that_fails_once_costs_the_media_nothing() -> None:
    plans = FakePlans()
    engine = FakeEngine(found=[EngineCrashed("killed"), fakes.VIDEO_SOURCE])
    await planner(engine, plans).plan_media(UPLOADED)
    assert len(plans.recorded) == 1
    assert plans.failed == []


async def test_a_source_that_no_plan_fits_fails_the_media() -> None:
    assert fakes.VIDEO_SOURCE.video
    video = replace(fakes.VIDEO_SOURCE.video, frame_rate=Fraction(0))
    plans = FakePlans()
    await planner(FakeEngine(found=replace(fakes.VIDEO_SOURCE, video=video)), plans).plan_media(UPLOADED)
    assert [failure.reason for failure in plans.failed] == ["internal"]


async def test_a_machine_that_has_no_child_for_a_probe_leaves_the_media_to_another() -> None:
    plans, engine = FakePlans(), FakeEngine(found=[EngineUnready("no child can be forked"), fakes.VIDEO_SOURCE])
    one = planner(engine, plans)
    assert await one.plan_media(UPLOADED) is not None
    assert (plans.recorded, plans.failed) == ([], [])
    assert await one.plan_media(UPLOADED) is None
    assert len(plans.recorded) == 1


async def test_a_plan_that_is_refused_fails_the_media() -> None:
    class Refusing(FakePlans):
        async def record(
            self, media_id: str, generation: int, kind: MediaKind, source_json: str, tasks: Sequence[PlannedTask]
        ) -> None:
            raise InvalidArgument("too many tasks")

    plans = Refusing()
    await planner(FakeEngine(), plans).plan_media(UPLOADED)
    assert [failure.reason for failure in plans.failed] == ["internal"]


async def test_an_outage_of_storage_is_never_the_originals_fault() -> None:
    plans = FakePlans()
    storage = FakeStorage(script={"read": [Unavailable("connection refused")] * 1_000})
    for _ in range(2 * TRIES):
        with pytest.raises(Unavailable):
            await planner(FakeEngine(), plans, storage).plan_media(UPLOADED)
    assert plans.failed == []


@given(st.lists(st.integers(1, 10**15), min_size=1, max_size=20))
def test_cost_shares_add_up_to_one(costs: list[int]) -> None:
    shares = cost_shares([ImageSpec("image", (1,), cost) for cost in costs])
    assert sum(shares[:-1]) + shares[-1] == 1.0
    assert all(-1e-9 <= share <= 1 for share in shares)


def test_a_preview_is_the_plan() -> None:
    shape = Shape(1080, 1920, Fraction(30), Fraction(60), has_audio=False)
    rendered = preview(shape, Limits(), fleet=fakes.FLEET)
    assert [(item.label, item.width_px, item.height_px) for item in rendered] == [
        ("1080p", 1080, 1920),
        ("720p", 720, 1280),
        ("480p", 480, 854),
        ("360p", 360, 640),
        ("poster", 0, 0),
    ]
    assert rendered[0].max_bps == 5_000_000
    assert sum(item.cost_share for item in rendered) == pytest.approx(1)


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_preview_is_the_plan_of_the_fleet_that_there_is(slots: int) -> None:
    """Where renditions of a chunk are shared out, each share decodes the source: sound is less of the whole then."""
    shape = Shape(1920, 1080, Fraction(30), Fraction(10), has_audio=True)
    rendered = {item.label: item.cost_share for item in preview(shape, Limits(), fleet=Fleet(slots))}
    specs = plan(fakes.VIDEO_SOURCE, fleet=Fleet(slots))
    shares = dict(zip((spec.label for spec in specs), cost_shares(specs), strict=True))
    assert rendered["audio"] == pytest.approx(shares["audio"])
    assert rendered["poster"] == pytest.approx(shares["poster"])
    assert len([label for label in shares if label.startswith("video-")]) == {1: 1, 2: 2, 8: 6}[slots]


def test_a_preview_knows_of_the_loudness_that_is_set() -> None:
    shape = Shape(1920, 1080, Fraction(30), Fraction(12), has_audio=True)

    def share_of_sound(target: LoudnessTarget | None) -> float:
        planned = preview(shape, Limits(), fleet=fakes.FLEET, output=Output(loudness=target))
        return next(item.cost_share for item in planned if item.label == "audio")

    assert share_of_sound(LoudnessTarget(-16.0, -1.0)) > share_of_sound(None)


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (Shape(0, 1080, Fraction(30), Fraction(1), has_audio=True), "width_px"),
        (Shape(1920, 1, Fraction(30), Fraction(1), has_audio=True), "height_px"),
        (Shape(99_999, 99_999, Fraction(30), Fraction(1), has_audio=True), "width_px"),
        (Shape(1920, 1080, Fraction(0), Fraction(1), has_audio=True), "frame_rate"),
        (Shape(1920, 1080, Fraction(30), Fraction(0), has_audio=True), "duration_secs"),
        (Shape(1920, 1080, Fraction(30), Fraction(10**9), has_audio=True), "duration_secs"),
    ],
)
def test_a_preview_names_what_is_out_of_bounds(shape: Shape, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        preview(shape, Limits(), fleet=fakes.FLEET)
    assert caught.value.details == {"field": field}
