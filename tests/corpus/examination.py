"""Puts one file through the engine as the service would, and says what came of it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.transcode import memory
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Stage
from services.transcode.engine.run import execute, probe
from services.transcode.plan import plan
from services.transcode.source import RejectedSource
from services.transcode.specs import TaskSpec
from tests.unit.transcode.sources import ALONE, BytesSource, Shelf

PASSED = "passed"

LIMITS = Limits(wall_clock_s=45.0, stall_s=30.0)
"""Those of a probe as the service has them."""

WITHIN_S = 30.0
_PROBED_WITHIN_BYTES = 1 << 30
"""Of a probe. Most take a twentieth; the decoder of WebP makes its canvases when it opens a file."""
_SMALL_BYTES = 256 << 20
"""Of a task: what admission takes it to need (`services.transcode.memory`), or this, if that is less."""

_LONGEST_S = 60
"""Longer videos are probed alone: what encoding takes then is no matter of what the file hides."""
_SAMPLE_S = 0.01
_HIGH_WATER = re.compile(r"^VmHWM:\s*(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a file.

    Attributes:
        name: of the file or trap.
        verdict: why it is refused, or that it passed, or the kind of error that it ended in.
        seconds: all of its jobs together.
        peak_bytes: the most memory that one of its children held.
        faults: what must not be; none as a rule.
    """

    name: str
    verdict: str
    seconds: float
    peak_bytes: int
    faults: tuple[str, ...]


@dataclass(slots=True)
class _Watch:
    """The child of a job, whose memory is looked at while it lives."""

    peak_bytes: int = 0
    _watching: list[asyncio.Task[None]] = field(default_factory=list)

    def on_stage(self, stage: Stage) -> None:
        if stage.name == "child start":
            self._watching.append(
                asyncio.create_task(self._follow(Path("/proc", str(stage.attributes["pid"]), "status")))
            )
        self.peak_bytes = max(self.peak_bytes, int(stage.attributes.get("max_rss_bytes", 0)))

    async def _follow(self, status: Path) -> None:
        with suppress(OSError):
            while found := _HIGH_WATER.search(status.read_text()):  # noqa: ASYNC240 the kernel answers at once
                self.peak_bytes = max(self.peak_bytes, int(found[1]) * 1024)
                await asyncio.sleep(_SAMPLE_S)

    async def ended(self) -> int:
        """The most that was seen."""
        for each in self._watching:
            each.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        return self.peak_bytes


async def examined(name: str, data: bytes, may_be: Callable[[str], bool] = lambda _: True) -> Finding:
    """Probes, plans, and runs the first task of each kind.

    Args:
        name: for people.
        data: the file.
        may_be: whether a verdict is as it should be.
    """
    faults: list[str] = []
    peaks_bytes: list[int] = []
    began_s = time.monotonic()
    try:
        async for what, peak_bytes, most_bytes in _through(data):
            peaks_bytes.append(peak_bytes)
            if peak_bytes > most_bytes:
                faults.append(f"{what} took {peak_bytes:,} bytes, and {most_bytes:,} were expected")
        verdict = PASSED
    except RejectedSource as rejection:
        verdict = rejection.reason.value
    except Exception as error:
        verdict = type(error).__name__
        faults.append(" ".join(str(error).split())[-600:])
    seconds = time.monotonic() - began_s
    if not may_be(verdict):
        faults.append("the verdict is none of those that it may have")
    if seconds > WITHIN_S:
        faults.append(f"took longer than {WITHIN_S:g} s")
    return Finding(name, verdict, seconds, max(peaks_bytes, default=0), tuple(faults))


async def _through(data: bytes) -> AsyncIterator[tuple[str, int, int]]:
    """For each job that ended: what it was, the most memory that it held, and the most that it might."""
    watch = _Watch()
    try:
        source = await probe(BytesSource(data), LIMITS, on_stage=watch.on_stage)
    finally:
        yield "the probe", await watch.ended(), _PROBED_WITHIN_BYTES
    if source.duration_s > _LONGEST_S:
        return
    specs: dict[type[TaskSpec], TaskSpec] = {}
    for spec in plan(source, fleet=ALONE):
        specs.setdefault(type(spec), spec)
    for spec in specs.values():
        watch = _Watch()
        try:
            await execute(spec, BytesSource(data), LIMITS, sink=Shelf().put, on_stage=watch.on_stage)
        finally:
            yield f"the task {spec.label}", await watch.ended(), max(_SMALL_BYTES, memory.need_of(spec, source))
