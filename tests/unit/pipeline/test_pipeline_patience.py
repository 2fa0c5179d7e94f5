"""Waiting for storage: within bounds, and with signs of life."""

import asyncio
import time
from dataclasses import replace

import pytest

from services.runtime.errors import NotFound, Unavailable
from services.transcode.patience import PATIENT, Patience
from services.transcode.settings import TranscodeSettings
from tests.unit.pipeline.fakes import SHORT_PATIENCE

QUICK = replace(SHORT_PATIENCE, try_s=0.05)


class Hanging:
    """Does not answer the first so many tries."""

    def __init__(self, count: int) -> None:
        self.tries = 0
        self._count = count

    async def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self._count:
            await asyncio.Event().wait()
        return "answer"


def unheard() -> None:
    """Nobody counts."""


async def test_storage_that_hangs_for_a_while_costs_time() -> None:
    call = Hanging(2)
    assert await QUICK.bear(call, unheard) == "answer"
    assert call.tries == 3


async def test_storage_that_hangs_for_long_is_unavailable_in_bounded_time() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no answer within"):
        await QUICK.bear(Hanging(1_000), unheard)
    assert QUICK.lasts_s <= time.monotonic() - began < 2


async def test_much_to_carry_has_more_time() -> None:
    async def slow() -> str:
        await asyncio.sleep(0.2)
        return "answer"

    patience = replace(QUICK, lasts_s=0.0, slowest_bytes_per_s=1_000)
    with pytest.raises(Unavailable):
        await patience.bear(slow, unheard, size_bytes=10)
    assert await patience.bear(slow, unheard, size_bytes=10_000) == "answer"


async def test_a_try_that_lasts_shows_signs_of_life_until_it_ends() -> None:
    lives: list[None] = []
    await SHORT_PATIENCE.bear(lambda: asyncio.sleep(0.2), lambda: lives.append(None))
    count = len(lives)
    assert count >= 4
    await asyncio.sleep(0.1)
    assert len(lives) == count


@pytest.mark.parametrize("error", [NotFound("gone"), TimeoutError("the call's own")])
async def test_what_is_no_outage_passes_at_once(error: Exception) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await Patience().bear(call, unheard)
    assert caught.value is error


def test_signs_of_life_come_several_to_a_lease() -> None:
    assert 3 * PATIENT.longest_wait_s < TranscodeSettings.model_fields["task_lease_s"].default
