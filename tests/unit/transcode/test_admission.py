"""Memory is shared out in order, never beyond what there is, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcode.admission import Admission, NoRoom, beginning

BUDGET = 100
OFTEN = timedelta(seconds=0.01)


@pytest.mark.parametrize(
    ("held", "waiting", "count"),
    [
        (0, [60, 40, 1], 2),
        (0, [40, 70, 1], 1),  # the last would fit, but would then be before its turn
        (1, [100], 0),
        (0, [500, 1], 1),  # alone
        (1, [500], 0),
        (100, [], 0),
    ],
)
def test_who_may_begin(held: int, waiting: list[int], count: int) -> None:
    assert beginning(BUDGET, held, waiting) == count


@given(st.integers(1, 1_000), st.lists(st.integers(1, 2_000), min_size=1))
def test_somebody_begins_where_nothing_runs_and_no_more_than_fit(budget: int, waiting: list[int]) -> None:
    count = beginning(budget, 0, waiting)
    assert count >= 1
    assert sum(min(need, budget) for need in waiting[:count]) <= budget


@asynccontextmanager
async def share_of(admission: Admission, need: int, *, within: timedelta = timedelta(minutes=1)) -> AsyncIterator[None]:
    async def wait() -> None:
        """Nobody needs to know."""

    async with admission.admitted(need, on_wait=wait, every=OFTEN, within=within):
        yield


async def test_a_large_task_is_not_overtaken_for_ever() -> None:
    admission, order = Admission(BUDGET), list[str]()

    async def task(name: str, need: int, seconds: float) -> None:
        async with share_of(admission, need):
            order.append(name)
            assert admission.held_bytes <= BUDGET
            await asyncio.sleep(seconds)

    async with asyncio.TaskGroup() as group:
        group.create_task(task("small 1", 30, 0.05))
        group.create_task(task("small 2", 30, 0.01))
        await asyncio.sleep(0.005)
        group.create_task(task("large", 1_000, 0.01))
        for number in range(3, 8):
            group.create_task(task(f"small {number}", 30, 0.01))
    assert order.index("large") == 2
    assert len(order) == 8
    assert admission.held_bytes == 0


async def test_who_gives_up_waiting_lets_the_next_one_in() -> None:
    admission = Admission(BUDGET)
    async with share_of(admission, 60):

        async def begin(need: int) -> None:
            async with share_of(admission, need):
                pass

        large, small = asyncio.create_task(begin(90)), asyncio.create_task(begin(40))
        await asyncio.sleep(0.03)
        assert not small.done()
        large.cancel()
        await asyncio.wait({small}, timeout=1)
        assert small.done()
    assert admission.held_bytes == 0


async def test_nobody_waits_longer_than_he_said_and_then_stands_in_nobodys_way() -> None:
    admission = Admission(BUDGET)
    async with share_of(admission, 60):
        with pytest.raises(NoRoom):
            async with asyncio.timeout(1), share_of(admission, 90, within=timedelta(seconds=0.03)):
                pass
        async with share_of(admission, 40):
            assert admission.held_bytes == BUDGET
    assert admission.held_bytes == 0


async def test_once_closed_nobody_begins_and_who_has_begun_goes_on() -> None:
    admission, begun = Admission(BUDGET), list[int]()

    async def begin(need: int) -> None:
        async with share_of(admission, need):
            begun.append(need)

    async with share_of(admission, BUDGET):
        waiting = [asyncio.create_task(begin(need)) for need in (10, 20, 30)]
        await asyncio.sleep(0.02)
        admission.close()
        async with asyncio.timeout(1):
            ends = await asyncio.gather(*waiting, begin(40), return_exceptions=True)
        assert [type(end) for end in ends] == [NoRoom] * 4
        assert admission.held_bytes == BUDGET
    assert begun == []
    assert admission.held_bytes == 0
