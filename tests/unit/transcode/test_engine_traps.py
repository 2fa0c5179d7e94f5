"""Files made to do harm: each ends in a verdict, in bounded time, and nobody is called on the way."""

import struct
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from services.transcode.engine.run import probe
from services.transcode.plan import plan
from services.transcode.source import RejectedSource, RejectionReason
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource
from tests.unit.transcode.traps import TRAPS, Bait, Trap, laid_out

WITHIN_S = 30.0
"""Far below the wall clock of a probe; most take a fraction of a second."""

Reason = RejectionReason
PASSED = "passed"


@pytest.fixture
async def bait(tmp_path: Path) -> AsyncIterator[Bait]:
    async with laid_out(tmp_path) as bait:
        yield bait


async def verdict_on(data: bytes) -> RejectionReason | str:
    """The reason for which bytes are refused, else that all of their tasks passed."""
    try:
        source = await probe(BytesSource(data), LIMITS)
        for spec in plan(source):
            await sources.run(spec, data)
    except RejectedSource as rejection:
        return rejection.reason
    return PASSED


@pytest.mark.parametrize("trap", TRAPS, ids=str)
async def test_a_trap_ends_in_a_verdict_and_calls_nobody(trap: Trap, bait: Bait) -> None:
    data = trap.make(bait)
    began_s = time.monotonic()
    verdict = await verdict_on(data)
    assert verdict in trap.reasons | ({PASSED} if trap.may_pass else set())
    assert time.monotonic() - began_s < WITHIN_S
    assert bait.calls == 0
    assert not bait.is_opened()


async def test_a_picture_that_is_larger_than_its_container_says_is_refused() -> None:
    """A container may claim any size; what the decoder finds is what counts."""
    data = sources.clip(sources.constant_times(4, Fraction(25)), rate=Fraction(25), size_px=(640, 360))
    small = bytearray(data)
    at = small.index(b"avc1", small.index(b"stsd")) + 4 + 24
    assert struct.unpack(">HH", small[at : at + 4]) == (640, 360)
    small[at : at + 4] = struct.pack(">HH", 16, 16)
    for made in (data, bytes(small)):
        with pytest.raises(RejectedSource) as rejection:
            await probe(BytesSource(made), replace(LIMITS, max_frame_pixels=640 * 360 - 1))
        assert rejection.value.reason is Reason.TOO_LARGE
