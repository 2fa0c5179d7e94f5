"""Moments of real videos, encoded by the real engine, tell content that needs bits from content that does not."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from services.transcode import per_title, sampling
from services.transcode.engine import run
from services.transcode.ladder import Step
from services.transcode.plan import Fleet, Output, plan
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource

RATE = Fraction(5)
LADDER = tuple(
    Step(f"{side}p", side, 21, cap_bps, cap_bps * 3 // 2)
    for side, cap_bps in ((180, 200_000), (120, 120_000), (90, 60_000))
)


def slides(number: int, picture: NDArray[np.uint8]) -> None:
    picture[:] = 40 + number // 200 * 60


def snow(number: int, picture: NDArray[np.uint8]) -> None:
    picture[:] = np.random.default_rng(number).integers(0, 255, picture.shape, np.uint8)


@pytest.mark.parametrize(("paint", "labels"), [(slides, ["180p", "90p"]), (snow, ["180p", "120p", "90p"])])
async def test_slides_need_fewer_steps_than_snow(
    paint: Callable[[int, NDArray[np.uint8]], None], labels: list[str]
) -> None:
    data = sources.clip(sources.constant_times(605, RATE), rate=RATE, size_px=(320, 180), paint=paint)
    source = await run.probe(BytesSource(data), LIMITS)
    samples = per_title.samples(plan(source, output=Output(LADDER, pass_through=False), fleet=Fleet(1)))
    needs_bps = await sampling.needs_bps(run, samples, BytesSource(data), LIMITS)
    assert [step.label for step in per_title.worthwhile(LADDER, samples[0].renditions, needs_bps)] == labels
