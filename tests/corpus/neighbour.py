"""`make bench-neighbour`: what a good encode loses beside hostile files.

A process with two slots, as a worker on two cores has them. In one slot the same short video is encoded; the other one
works off, without a pause, either hostile files (the traps that cost most, and those that end at once, whose children
come and go) or, for comparison, that same video again. So both sides share the machine with one busy neighbour: on two
cores an encode that has them to itself is faster than beside anybody, hostile or not, since clock, caches and memory
are shared. That is told as well, without an aim. The sides alternate; the figures are those of encodes by the clock.

The aim is a delay of at most a fifth. `ARGS="--quick"` makes one round.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path

from bench.report import Figure, Ratio, Result, publish
from deploy.samples.clip import Clip, write_clip
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Stage
from services.transcode.engine.run import execute, probe
from services.transcode.plan import Output, plan
from services.transcode.specs import ChunkSpec
from tests.corpus.examination import LIMITS, examined
from tests.unit.transcode.sources import ALONE, BytesSource, Shelf
from tests.unit.transcode.traps import TRAPS, laid_out

_AIM = 0.83
"""One over 1.2."""
_ROUNDS = 5
_HOSTILE = (
    "GIF of a million frames", "JPEG of two thousand scans", "PNG whose rows unpack to far more", "picture that grows",
    "PNG with a large profile", "fragments without end", "MP4 of ten thousand tracks", "endless edit list", "playlist",
    "samples elsewhere",
)  # fmt: skip

Neighbour = Callable[[], Awaitable[object]]


def main() -> int:
    """Measures and tells; the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-neighbour", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round; the figures mean little")
    rounds = 1 if parser.parse_args().quick else _ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        return publish("neighbour", asyncio.run(_measured(rounds, Path(folder))))


async def _measured(rounds: int, folder: Path) -> list[Result]:
    path = folder / "good.mp4"
    await asyncio.to_thread(write_clip, Clip(path.name, 1280, 720, 30, 120, 60, 24), path)
    good = await asyncio.to_thread(path.read_bytes)
    source = await probe(BytesSource(good), LIMITS)
    [spec, *_] = plan(source, output=Output(pass_through=False), fleet=ALONE)
    assert isinstance(spec, ChunkSpec)

    async def encode() -> None:
        await execute(spec, BytesSource(good), Limits(), sink=Shelf().put, on_stage=note)

    async def other() -> None:
        await execute(spec, BytesSource(good), Limits(), sink=Shelf().put)

    def note(stage: Stage) -> None:
        if stage.name == "child":
            cpu_s.append(float(stage.attributes["cpu_s"]))

    cpu_s: list[float] = []

    async with laid_out(folder) as bait:
        traps = [(trap.name, await asyncio.to_thread(trap.make, bait)) for trap in TRAPS if trap.name in _HOSTILE]
        assert len(traps) == len(_HOSTILE)
        endless = cycle(traps)

        async def hostile() -> None:
            await examined(*next(endless))

        neighbours: dict[str, Neighbour | None] = {"hostile": hostile, "harmless": other, "nobody": None}
        rates: dict[str, list[float]] = {name: [] for name in neighbours}
        thrift: dict[str, list[float]] = {name: [] for name in neighbours}
        for _ in range(rounds):
            for name, neighbour in neighbours.items():
                cpu_s.clear()
                rates[name].append(await _rate(encode, neighbour))
                thrift[name].append(1 / cpu_s[-1])
    return [
        Ratio(
            "an encode beside hostile files; beside another encode", rates["hostile"], rates["harmless"], "1/s", _AIM
        ),
        Ratio("an encode beside hostile files; beside nobody", rates["hostile"], rates["nobody"], "1/s"),
        Ratio("its processor time: beside hostile files; another encode", thrift["hostile"], thrift["harmless"], "1/s"),
        Figure("calls to whoever the traps refer to", bait.calls, "", "0", bait.calls == 0),
    ]


async def _rate(encode: Callable[[], Awaitable[None]], neighbour: Neighbour | None) -> float:
    """Encodes a second beside a neighbour, who is there from before it begins until after it ends."""

    async def endlessly(work: Neighbour) -> None:
        while True:
            await work()

    async with asyncio.TaskGroup() as group:
        beside = group.create_task(endlessly(neighbour)) if neighbour else None
        await asyncio.sleep(1)
        began_s = time.monotonic()
        await encode()
        seconds = time.monotonic() - began_s
        if beside:
            beside.cancel()
    return 1 / seconds


if __name__ == "__main__":
    sys.exit(main())
