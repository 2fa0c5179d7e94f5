"""Create-plus-sign: how many uploads a second can begin, ours against Uppy Companion on the same storage.

The natural way of each is what counts: ours is one call, which answers with the URLs of all parts and leaves a durable
record behind; Companion's is to create the multipart upload and to have all its parts signed in one further call, its
cheapest way. Beside these stand the very same calls to our Uppy routes, and the way of Uppy's plugin, which has its
parts signed one by one. A file of one part takes a PUT with us; Companion's like is a form, for which it neither asks
storage nor keeps anything.

Both sides get the same generator, as many clients, and the same storage; uploads that were begun are given up between
the spells, outside the timed part.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from bench import companion, load, users
from bench.journeys import PART_BYTES, Journey, OneCall, UppyForm, UppyMultipart
from bench.place import cpu_seconds, processes
from bench.report import OUT, Ratio, figure
from bench.storage import Storage, put
from bench.wire import Server
from deploy.local.stack import Stack

AIM = 3.0
"""For ten parts in the natural way of each."""
USERS = 2_000
"""So many that no quota of open uploads gets in the way."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Side:
    """One way of beginning an upload, and the processes that bear its load."""

    name: str
    journey: Journey
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides by name."""

    name: str
    ours: str
    theirs: str
    aim: float | None = None


COMPARISONS: Sequence[Comparison] = (
    Comparison("begin 1 part: one call (PUT); create + batch", "one call, 1", "companion batch, 1"),
    Comparison("begin 1 part: one call (PUT); form", "one call, 1", "companion form"),
    Comparison("begin 1 part, both: create + batch", "uppy batch, 1", "companion batch, 1"),
    Comparison("begin 10 parts: one call; create + batch", "one call, 10", "companion batch, 10", AIM),
    Comparison("begin 50 parts: one call; create + batch", "one call, 50", "companion batch, 50"),
    Comparison("begin 10 parts, both: create + batch", "uppy batch, 10", "companion batch, 10"),
    Comparison("begin 50 parts, both: create + batch", "uppy batch, 50", "companion batch, 50"),
    Comparison("begin 10 parts, both: create + each part", "uppy each, 10", "companion each, 10"),
)


def measured(stack: Stack, effort: Effort) -> tuple[list[Ratio], dict[str, Any]]:
    """Every comparison, and what each process spent on a journey."""
    companion.install()
    storage = Storage(stack)
    ours = Server.of(stack.settings["MILLRACE_GATEWAY_URL"])
    tokens = users.tokens(stack, "bench-create", USERS)
    with companion.running(storage, OUT / "companion.log") as (theirs, pid):
        sides = _sides(ours, tokens, processes(stack), theirs, pid)
        _check(sides, storage)
        rates: dict[str, list[float]] = {side.name: [] for side in sides}
        spent_ms: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
        for turn in range(effort.rounds):
            # Every other round the other way round, so that what slows down as time goes by slows down both.
            for side in sides if turn % 2 == 0 else reversed(sides):
                spell, costs_ms = _spell(side, effort)
                storage.abort(spell.begun)
                rates[side.name].append(spell.rate)
                spent_ms[side.name].append({**costs_ms, "generator_share": spell.generator_share})
                _say(turn, side.name, spell, costs_ms)
    ratios = [Ratio(one.name, rates[one.ours], rates[one.theirs], "/s", one.aim) for one in COMPARISONS]
    return ratios, {"create_rates": rates, "create_cpu_ms": spent_ms}


def _sides(
    ours: Server, tokens: Sequence[str], our_pids: Mapping[str, int], theirs: Server, their_pid: int
) -> list[Side]:
    their_pids = {"companion": their_pid, "seaweedfs": our_pids["seaweedfs"]}

    def multipart(parts: int, *, batched: bool) -> tuple[Journey, Journey]:
        return (
            UppyMultipart(theirs, "", (), parts, batched),
            UppyMultipart(ours, "/uppy", tokens, parts, batched),
        )

    journeys: dict[str, Journey] = {}
    for parts in (1, 10, 50):
        journeys[f"one call, {parts}"] = OneCall(ours, tokens, parts)
        journeys[f"companion batch, {parts}"], journeys[f"uppy batch, {parts}"] = multipart(parts, batched=True)
    journeys["companion each, 10"], journeys["uppy each, 10"] = multipart(10, batched=False)
    journeys["companion form"] = UppyForm(theirs, "")
    return [
        Side(name, journey, their_pids if name.startswith("companion") else our_pids)
        for name, journey in journeys.items()
    ]


def _check(sides: Sequence[Side], storage: Storage) -> None:
    """Sends a part to a URL of each side: a URL that storage refuses is no work to be compared."""
    for side in sides:
        spell = _in_process(load.run, side.journey, seconds=0.0, warm_up_s=0.01, clients=1)
        if not isinstance(side.journey, UppyForm):
            put(spell.begun[0], bytes(PART_BYTES))
        storage.abort(spell.begun)
    storage.empty()


def _spell(side: Side, effort: Effort) -> tuple[load.Spell, dict[str, float]]:
    """One spell of load, and what it cost each process, in CPU milliseconds a journey, warm-up included."""
    before_s = cpu_seconds(side.pids)
    spell = _in_process(load.run, side.journey, seconds=effort.seconds, warm_up_s=effort.warm_up_s)
    after_s = cpu_seconds(side.pids)
    return spell, {name: (after_s[name] - before_s[name]) * 1_000 / len(spell.begun) for name in side.pids}


def _in_process(run: Callable[..., load.Spell], journey: Journey, **options: float) -> load.Spell:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, journey, **options).result()


def _say(turn: int, name: str, spell: load.Spell, costs_ms: Mapping[str, float]) -> None:
    costs = ", ".join(f"{process} {cost_ms:.2f}" for process, cost_ms in costs_ms.items() if cost_ms >= 0.01)
    share = f"generator {spell.generator_share:.0%} of a core"
    print(
        f"round {turn + 1}: {name}: {figure(spell.rate)}/s; CPU ms each: {costs}; {share}", file=sys.stderr, flush=True
    )
