"""Workers begin what fits, claim nothing while they wait, and wait for nothing too long."""

import asyncio
import time
from datetime import timedelta

from services.transcode import memory
from services.transcode.admission import Admission
from services.transcode.engine.outcome import Outcome
from tests.unit.pipeline import fakes
from tests.unit.pipeline.fakes import FakeEngine
from tests.unit.pipeline.rig import Rig

LONG = timedelta(minutes=1)


async def test_a_task_waits_for_memory_with_its_message_in_hand_and_without_a_lease() -> None:
    rig = Rig(admission=Admission(memory.ORDINARY_BYTES), ack_wait=timedelta(seconds=0.3))
    async with rig.admission.admitted(1, on_wait=rig.keep, every=LONG, within=LONG):
        working = asyncio.create_task(rig.work())
        await asyncio.sleep(0.25)
        assert rig.kept >= 2
        assert rig.tasks.attempt == 0
    await working
    assert rig.tasks.done
    assert rig.admission.held_bytes == 0


async def test_a_task_holds_what_it_needs_and_no_more() -> None:
    held: list[int] = []

    async def look(job: fakes.Job) -> Outcome:
        held.append(rig.admission.held_bytes)
        return await fakes.make_image(job)

    for need_bytes in (1_000, 3 * memory.ORDINARY_BYTES):
        rig = Rig(engine=FakeEngine(look), need_bytes=need_bytes)
        await rig.work()
        assert held.pop() == need_bytes
        assert rig.admission.held_bytes == 0


async def test_a_large_task_is_not_claimed_before_there_is_room_for_all_of_it() -> None:
    rig = Rig(need_bytes=4 * memory.ORDINARY_BYTES)
    async with rig.admission.admitted(1, on_wait=rig.keep, every=LONG, within=LONG):
        working = asyncio.create_task(rig.work())
        await asyncio.sleep(0.05)
        assert rig.tasks.attempt == 0
    await working
    assert rig.tasks.done
    assert rig.tasks.attempt == 1


async def test_who_gets_no_memory_in_time_lets_others_have_the_message_and_waits_longer_when_it_comes_again() -> None:
    rig = Rig(admission=Admission(memory.ORDINARY_BYTES), ack_wait=timedelta(seconds=0.05))
    worker, ref, waited_s = rig.made(), rig.tasks.task.ref, list[float]()
    async with rig.admission.admitted(1, on_wait=rig.keep, every=LONG, within=LONG):
        for deliveries in (1, 4):
            began_s = time.monotonic()
            assert await worker.work(ref, rig.need_bytes, rig.keep, deliveries) == timedelta(0)
            waited_s.append(time.monotonic() - began_s)
    assert 0.05 <= waited_s[0] < 0.2 <= waited_s[1]
    assert rig.tasks.attempt == 0


async def test_once_told_to_stop_a_worker_begins_nothing_that_waited() -> None:
    rig = Rig(admission=Admission(memory.ORDINARY_BYTES))
    worker, ref = rig.made(), rig.tasks.task.ref
    async with rig.admission.admitted(1, on_wait=rig.keep, every=LONG, within=LONG):
        waiting = [asyncio.create_task(worker.work(ref, rig.need_bytes, rig.keep)) for _ in range(3)]
        await asyncio.sleep(0.01)
        rig.admission.close()
    assert await asyncio.gather(*waiting) == [timedelta(0)] * 3
    assert rig.tasks.attempt == 0
