import asyncio
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from services.runtime.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    Stale,
    Unavailable,
)
from services.transcode.encoders import IN_SOFTWARE, Encoders
from services.transcode.engine.errors import EngineCrashed, EngineTimeout, EngineUnready
from services.transcode.engine.outcome import Outcome
from services.transcode.failures import WORKER_STOPPING
from services.transcode.formats import Codec
from services.transcode.ladder import ladder_of
from services.transcode.plan import Output, plan
from services.transcode.source import RejectedSource, RejectionReason
from services.transcode.specs import ChunkSpec
from services.transcode.tasks import Failure, TaskRef
from tests.unit.pipeline import fakes
from tests.unit.pipeline.fakes import FakeEngine, FakeStorage, FakeTasks, Job
from tests.unit.pipeline.rig import Rig

FOLDER = "abc/media/1/token/image/a1"
LONG = timedelta(minutes=1)


async def test_stores_artifacts_below_its_attempt_and_records_the_result() -> None:
    rig = Rig()
    assert await rig.work() is None
    assert rig.delivered == {f"{FOLDER}/1200.jpg": b"jpeg"}
    assert rig.tasks.done is not None
    assert rig.tasks.done.stored["1200.jpg"].s3_key == f"{FOLDER}/1200.jpg"
    assert rig.tasks.failures == []
    assert rig.announcer.announced[-1].fraction == 1.0


async def test_a_chunk_keeps_every_segment() -> None:
    spec = plan(fakes.VIDEO_SOURCE)[0]
    assert isinstance(spec, ChunkSpec)
    rig = Rig(engine=FakeEngine(fakes.make_chunk), tasks=FakeTasks(fakes.task(spec, lane="video")))
    assert await rig.work() is None
    folder = f"abc/media/1/token/{spec.label}/a1/720p"
    assert rig.delivered.keys() == {f"{folder}/{name}" for name in ("init.mp4", "seg_00001.m4s", "seg_00002.m4s")}


async def test_the_same_message_again_after_completion_does_nothing() -> None:
    rig = Rig()
    await rig.work()
    await rig.work()
    assert rig.engine.began == 1


async def test_a_held_task_comes_again_when_its_lease_ends() -> None:
    rig = Rig(tasks=FakeTasks(held_for=timedelta(seconds=7)))
    assert await rig.work() == timedelta(seconds=7)
    assert rig.engine.began == 0


async def test_a_task_nobody_knows_is_settled() -> None:
    rig = Rig(tasks=FakeTasks(script={"claim": [NotFound("no such task")]}))
    assert await rig.work() is None


async def test_without_metadata_the_message_comes_again() -> None:
    rig = Rig(tasks=FakeTasks(script={"claim": [Unavailable("down")]}))
    with pytest.raises(Unavailable):
        await rig.work()


async def test_a_refused_source_fails_for_good_with_advice() -> None:
    refused = RejectedSource(RejectionReason.TRUNCATED, "the file ends in the middle")
    rig = Rig(engine=FakeEngine(fakes.raising(refused)))
    assert await rig.work() is None
    [(failure, permanent, release)] = rig.tasks.failures
    assert failure.reason == "truncated"
    assert failure.message == f"The file ends in the middle. {RejectionReason.TRUNCATED.advice}"
    assert permanent
    assert not release


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineCrashed("killed", "stderr"), "engine_crashed"),
        (EngineTimeout("stalled"), "engine_timeout"),
        (AlreadyExists("other bytes"), "internal"),
        (FailedPrecondition("not that way"), "internal"),
        (ZeroDivisionError(), "internal"),
    ],
)
async def test_other_failures_leave_another_attempt(error: Exception, reason: str) -> None:
    rig = Rig(engine=FakeEngine(fakes.raising(error)))
    assert await rig.work() is None
    [(failure, permanent, release)] = rig.tasks.failures
    assert (failure.reason, permanent, release) == (reason, False, False)
    assert rig.tasks.waits == [timedelta(0)]


@pytest.mark.parametrize("error", [Unavailable("storage"), DeadlineExceeded("metadata")])
async def test_what_is_away_costs_time_and_no_attempt(error: Exception) -> None:
    rig = Rig(engine=FakeEngine(fakes.raising(error)))
    for _ in range(8):
        assert await rig.work() is None
    assert {(failure.reason, *how) for failure, *how in rig.tasks.failures} == {("storage_unavailable", False, True)}
    waits_s = [wait.total_seconds() for wait in rig.tasks.waits]
    assert all(5 <= wait_s <= 60 for wait_s in waits_s)
    assert waits_s[0] <= 10 <= waits_s[1] <= 20 <= waits_s[2] <= 40
    assert min(waits_s[3:]) >= 30


async def test_a_task_for_an_encoder_that_is_not_here_goes_to_another_worker_and_costs_no_attempt() -> None:
    chunk = plan(fakes.VIDEO_SOURCE, output=Output(ladder_of([Codec.H264], {Codec.H264: "h264_nvenc"})))[0]
    with_device = Encoders({}, IN_SOFTWARE.available | {"h264_nvenc"})
    for encoders, refused in ((IN_SOFTWARE, True), (with_device, False)):
        rig = Rig(
            engine=FakeEngine(fakes.make_chunk),
            tasks=FakeTasks(fakes.task(chunk, lane="video")),
            encoders=encoders,
        )
        assert await rig.work() is None
        assert [(failure.reason, *how) for failure, *how in rig.tasks.failures] == (
            [("encoder_unavailable", False, True)] if refused else []
        )
        assert bool(rig.delivered) is not refused


async def test_a_machine_that_is_not_fit_costs_no_attempt_either() -> None:
    rig = Rig(engine=FakeEngine(fakes.raising(EngineUnready("all sessions are taken"))))
    assert await rig.work() is None
    assert [(failure.reason, *how) for failure, *how in rig.tasks.failures] == [("worker_unready", False, True)]
    assert rig.tasks.waits > [timedelta(seconds=5)]


async def test_each_claim_has_a_name_of_its_own() -> None:
    rig = Rig(tasks=FakeTasks(held_for=timedelta(seconds=1)))
    await rig.work()
    await rig.work()
    assert len(set(rig.tasks.claim_ids)) == 2
    assert all(1 <= len(claim_id) <= 64 for claim_id in rig.tasks.claim_ids)


async def test_a_failed_upload_ends_the_child_and_the_attempt() -> None:
    async def endless(job: Job) -> Outcome:
        await job.sink(fakes.JPEG)
        return await fakes.hang(job)

    rig = Rig(engine=FakeEngine(endless), storage=FakeStorage(put_error=Unavailable("503")))
    assert await rig.work() is None
    assert rig.tasks.failures[0][0].reason == "storage_unavailable"
    assert rig.engine.ended == 1


async def test_an_outage_of_storage_that_passes_costs_no_attempt() -> None:
    refusals: list[Exception] = [Unavailable("connection refused")] * 3
    storage = FakeStorage(
        script={"read": list(refusals), "put": list(refusals), "get": list(refusals)}, lose_put_replies=True
    )
    rig = Rig(storage=storage)
    assert await rig.work() is None
    assert rig.tasks.failures == []
    assert rig.tasks.done is not None
    assert rig.engine.began == 1


async def test_waiting_for_storage_holds_the_lease() -> None:
    outage: list[Exception] = [Unavailable("connection refused")] * 10
    rig = Rig(storage=FakeStorage(script={"read": outage}), lease=timedelta(seconds=0.03))
    await rig.work()
    assert rig.tasks.renewals >= 3


async def test_a_slow_upload_holds_the_lease() -> None:
    rig = Rig(storage=FakeStorage(put_s=0.4))
    await rig.work()
    assert rig.tasks.done is not None
    assert rig.tasks.renewals >= 6


async def test_storage_that_hangs_ends_the_attempt_in_time_and_costs_none() -> None:
    hanging = FakeStorage(put_s=3600)
    rig = Rig(storage=hanging, patience=replace(fakes.SHORT_PATIENCE, lasts_s=0.2, try_s=0.05))
    began = time.monotonic()
    await rig.work()
    assert time.monotonic() - began < 2
    assert [(failure.reason, *how) for failure, *how in rig.tasks.failures] == [("storage_unavailable", False, True)]


async def test_an_upload_that_was_given_up_and_goes_on_is_waited_for() -> None:
    storage = FakeStorage(script={"put": [AlreadyExists("409")], "get": [NotFound("not yet"), NotFound("not yet")]})
    storage.objects["delivery", f"{FOLDER}/1200.jpg"] = fakes.JPEG.data
    rig = Rig(storage=storage)
    await rig.work()
    assert rig.tasks.done is not None
    assert rig.tasks.failures == []


async def test_an_original_that_was_overwritten_fails_for_good() -> None:
    rig = Rig(storage=FakeStorage(etag="other"))
    await rig.work()
    [(failure, permanent, _)] = rig.tasks.failures
    assert (failure.reason, permanent) == ("original_changed", True)


async def test_a_put_whose_reply_was_lost_is_no_failure() -> None:
    rig = Rig(storage=FakeStorage(lose_put_replies=True))
    await rig.work()
    assert rig.tasks.done is not None


async def test_other_bytes_under_its_key_fail_the_attempt() -> None:
    rig = Rig()
    rig.storage.objects["delivery", f"{FOLDER}/1200.jpg"] = b"somebody else's"
    await rig.work()
    assert rig.tasks.done is None
    assert rig.delivered[f"{FOLDER}/1200.jpg"] == b"somebody else's"


async def test_an_outcome_must_match_its_artifacts() -> None:
    async def lies(job: Job) -> Outcome:
        return fakes.IMAGES

    rig = Rig(engine=FakeEngine(lies))
    await rig.work()
    assert rig.tasks.failures[0][0].reason == "engine_crashed"


async def test_lease_and_message_are_held_while_frames_advance() -> None:
    async def slow(job: Job) -> Outcome:
        for step in range(30):
            await asyncio.sleep(0.01)
            job.on_progress(step / 30)
        return await fakes.make_image(job)

    rig = Rig(engine=FakeEngine(slow))
    await rig.work()
    assert rig.tasks.renewals >= 5
    assert rig.kept >= 5


async def test_a_message_is_held_however_long_the_lease() -> None:
    async def slow(job: Job) -> Outcome:
        for step in range(15):
            await asyncio.sleep(0.01)
            job.on_progress(step / 15)
        return await fakes.make_image(job)

    rig = Rig(engine=FakeEngine(slow), lease=timedelta(minutes=10), ack_wait=timedelta(seconds=0.09))
    await rig.work()
    assert rig.kept >= 2


async def test_nothing_is_held_while_nothing_advances() -> None:
    async def stuck(job: Job) -> Outcome:
        await asyncio.sleep(0.3)
        raise EngineTimeout("no progress")

    rig = Rig(engine=FakeEngine(stuck))
    await rig.work()
    assert rig.tasks.renewals == 1  # the first beat: having begun counts
    assert rig.kept == 1


async def test_a_refused_renewal_ends_the_child_at_once_and_records_nothing() -> None:
    rig = Rig(engine=FakeEngine(fakes.hang), tasks=FakeTasks(script={"renew": [Stale("overtaken")]}))
    began = time.monotonic()
    assert await rig.work() is None
    assert time.monotonic() - began < 1
    assert rig.engine.ended == 1
    assert rig.tasks.failures == []
    assert rig.tasks.done is None


async def test_an_overtaken_attempt_records_no_failure_whatever_else_went_wrong() -> None:
    renewing = asyncio.Event()

    class OvertakenMeanwhile(FakeTasks):
        async def renew(self, ref: TaskRef, attempt: int, *, lease: timedelta) -> None:
            renewing.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise Stale("overtaken") from None

    async def stores_late(job: Job) -> Outcome:
        await renewing.wait()
        await job.sink(fakes.JPEG)
        return await fakes.hang(job)

    storage = FakeStorage(put_error=Unavailable("503"))
    rig = Rig(engine=FakeEngine(stores_late), storage=storage, tasks=OvertakenMeanwhile())
    assert await rig.work() is None
    assert rig.tasks.failures == []


async def test_a_lost_renewal_is_survived() -> None:
    async def slow(job: Job) -> Outcome:
        await asyncio.sleep(0.1)
        return await fakes.make_image(job)

    rig = Rig(engine=FakeEngine(slow), tasks=FakeTasks(script={"renew": [Unavailable("restarting")]}))
    await rig.work()
    assert rig.tasks.done is not None


async def test_a_zombie_cannot_complete_and_harms_nothing() -> None:
    rig = Rig()

    async def overtaken(job: Job) -> Outcome:
        rig.tasks.attempt += 1  # meanwhile another worker claimed
        return await fakes.make_image(job)

    rig.engine.behaviour = overtaken
    assert await rig.work() is None
    assert rig.tasks.done is None
    assert rig.tasks.failures == []
    assert set(rig.delivered) == {f"{FOLDER}/1200.jpg"}


async def test_a_result_waits_for_metadata_to_come_back() -> None:
    rig = Rig(tasks=FakeTasks(script={"complete": [Unavailable("restarting")]}), lease=timedelta(seconds=5))
    await rig.work()
    assert rig.tasks.done is not None
    assert rig.engine.began == 1


async def test_a_result_that_cannot_be_recorded_comes_again() -> None:
    down: list[Exception] = [Unavailable("down")] * 9
    rig = Rig(tasks=FakeTasks(script={"complete": down, "fail": list(down)}))
    with pytest.raises(Unavailable):
        await rig.work()


async def test_stopping_ends_the_child_and_gives_the_task_back() -> None:
    began = asyncio.Event()

    async def hang(job: Job) -> Outcome:
        began.set()
        return await fakes.hang(job)

    rig = Rig(engine=FakeEngine(hang), lease=timedelta(seconds=30))
    work = asyncio.create_task(rig.work())
    await began.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert rig.engine.ended == 1
    [(failure, permanent, release)] = rig.tasks.failures
    assert (failure.reason, permanent, release) == ("worker_stopping", False, True)
    assert rig.tasks.waits == [timedelta(0)]


async def test_progress_is_announced_at_most_four_times_a_second() -> None:
    async def fast(job: Job) -> Outcome:
        for step in range(100):
            await asyncio.sleep(0.005)
            job.on_progress(step / 100)
        return await fakes.make_image(job)

    rig = Rig(engine=FakeEngine(fast))
    began = time.monotonic()
    await rig.work()
    fractions = [progress.fraction for progress in rig.announcer.announced]
    assert len(fractions) <= 2 + 4 * (time.monotonic() - began)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


async def test_slots_show_what_is_in_hand() -> None:
    rig = Rig()
    seen: list[tuple[str, str, int, float]] = []

    async def looks(job: Job) -> Outcome:
        job.on_progress(0.4)
        seen.extend((lane, work[0].task.label, work[0].attempt, work[1].fraction) for lane, work in rig.slots if work)
        return await fakes.make_image(job)

    rig.engine.behaviour = looks
    await rig.work()
    assert seen == [("image", "image", 1, 0.4)]
    assert [work for _, work in rig.slots] == [None, None]


async def test_stopping_while_a_failure_is_recorded_leaves_no_lease_either() -> None:
    recording = asyncio.Event()

    async def fails(_job: Job) -> Outcome:
        raise EngineCrashed("the child is gone")

    class SlowAtFirst(FakeTasks):
        async def fail(
            self,
            ref: TaskRef,
            attempt: int,
            failure: Failure,
            *,
            permanent: bool,
            release: bool,
            retry_after: timedelta = timedelta(0),
        ) -> None:
            if not recording.is_set():
                recording.set()
                await asyncio.Event().wait()
            await super().fail(ref, attempt, failure, permanent=permanent, release=release, retry_after=retry_after)

    rig = Rig(tasks=SlowAtFirst(), engine=FakeEngine(fails))
    working = asyncio.create_task(rig.work())
    await recording.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert rig.tasks.failures == [(WORKER_STOPPING, False, True)]
