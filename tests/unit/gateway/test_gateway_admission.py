"""What a burst meets before it has cost anything."""

import asyncio

import pytest

from gateway.admission import Admission
from services.runtime.errors import Unavailable


async def test_so_many_are_inside_at_once_and_all_get_in_by_and_by() -> None:
    admission, inside, most = Admission(3, 5.0), 0, 0

    async def one() -> None:
        nonlocal inside, most
        async with admission.entered():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(30)))
    assert (inside, most) == (0, 3)


async def test_whoever_would_wait_too_long_is_told_when_to_come_again() -> None:
    admission = Admission(1, 0.2)
    release = asyncio.Event()

    async def stay() -> None:
        async with admission.entered():
            await release.wait()

    staying = [asyncio.create_task(stay()) for _ in range(22)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        async with admission.entered():
            pass
    assert refused.value.reason == "OVERLOADED"
    assert refused.value.details == {"retry_after_s": "1"}
    release.set()
    await asyncio.gather(*staying)
    async with admission.entered():
        pass


async def test_a_crowd_is_called_back_about_as_fast_as_it_is_served() -> None:
    admission, served, refused_until_s = Admission(4, 0.1), 0, []

    async def one() -> None:
        nonlocal served
        async with admission.entered():
            await asyncio.sleep(0.02)  # hence 200 a second
            served += 1

    for _ in range(40):
        crowd = [asyncio.create_task(one()) for _ in range(8)]
        await asyncio.gather(*crowd)
    assert served == 320
    staying = [asyncio.create_task(one()) for _ in range(60)]
    await asyncio.sleep(0)
    for _ in range(2_000):
        with pytest.raises(Unavailable) as refused:
            await one()
        refused_until_s.append(int(refused.value.details["retry_after_s"]))
    await asyncio.gather(*staying, return_exceptions=True)
    assert refused_until_s == sorted(refused_until_s)
    assert 5 <= refused_until_s[-1] <= 20  # 2,000 of them, at 200 a second, or a machine that is busy besides


async def test_a_place_is_free_again_after_a_failure_and_after_a_cancelled_wait() -> None:
    admission = Admission(1, 5.0)
    with pytest.raises(ZeroDivisionError):
        async with admission.entered():
            raise ZeroDivisionError
    async with admission.entered():
        waiting = asyncio.create_task(_enter(admission))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(1), admission.entered():
        pass


async def _enter(admission: Admission) -> None:
    async with admission.entered():
        pass
