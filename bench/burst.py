"""A burst: 50,000 users who all begin an upload within a few seconds, whatever the answers do.

The load is open: each request has its time, fixed beforehand, and its latency counts from that time on, so that waiting
for a connection, for a turn or after a refusal is part of it. Every user is another one, has an Idempotency-Key, and
tries again as our client does: after answers that say so, silence and broken connections, with backoff and jitter, and
at least as long as `Retry-After` asks for. A user who gives up counts as lost.

Afterwards PostgreSQL is asked: each answer must be a row, each row an answer, and no media may have been given twice.
"""

import asyncio
import random
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psycopg

from bench import load, users
from bench.place import cpu_seconds, processes
from bench.report import Figure, Result, figure
from bench.wire import Answer, Connection, Server, json_request
from deploy.local.stack import Stack

GENERATORS = 2
"""Processes that share the users; one alone would be slower than what it measures."""
CONNECTIONS = 8_000
"""Open at once, of all generators: what a proxy in front would let through. A process here may open 20,000 files."""

_PREFIX = "bench-burst"
_RETRIED = frozenset({408, 425, 429, 502, 503, 504})
_ATTEMPTS = 8
_BASE_S, _CAP_S = 0.5, 20.0
_LEAD_S = 2.0
"""Between the start of the generators and the first arrival, so that all of them are ready."""
_DRAIN_WITHIN_S = 1_500.0
"""Whoever still waits after that counts as lost."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How many users arrive in how many seconds, at a fixed rate."""

    users: int
    window_s: float


@dataclass(frozen=True, slots=True)
class Share:
    """What one generator does.

    Attributes:
        server: whom it asks.
        key_file: what it signs its users' tokens with.
        numbers: its users.
        interval_s: between the arrivals of two users with successive numbers, of all generators.
        connections: how many it may have open.
    """

    server: Server
    key_file: Path
    numbers: range
    interval_s: float
    connections: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one generator saw.

    Attributes:
        latencies_s: of the users that were answered, from their scheduled start to their answer.
        late_s: how late the generator itself was to take up each user; its own weakness, contained in the latencies.
        media_ids: of the answers.
        statuses: how often each status came; 0 for broken connections and silence.
        lost: users who gave up, were told no, or still waited at the end.
        drained_s: from the first arrival until the last user was done, or the end.
        cpu_s: what the generator spent.
    """

    latencies_s: Sequence[float]
    late_s: Sequence[float]
    media_ids: Sequence[str]
    statuses: Counter[int]
    lost: int
    drained_s: float
    cpu_s: float


def measured(stack: Stack, effort: Effort) -> tuple[list[Result], dict[str, Any]]:
    """One burst, and what came of it."""
    pids = processes(stack)
    before_s = cpu_seconds(pids)
    outcomes = _burst(stack, effort)
    after_s = cpu_seconds(pids)
    media_ids = [media_id for outcome in outcomes for media_id in outcome.media_ids]
    lost, rows = sum(outcome.lost for outcome in outcomes), _rows(stack)
    statuses = sum((outcome.statuses for outcome in outcomes), Counter[int]())
    costs_ms = {name: (after_s[name] - before_s[name]) * 1_000 / effort.users for name in pids}
    _say(statuses, costs_ms, outcomes)
    nothing_lost = lost == 0 and len(media_ids) == len(set(media_ids)) and sorted(media_ids) == sorted(rows)
    return _results(effort, outcomes, statuses, lost, len(rows), is_whole=nothing_lost), {
        "burst_statuses": dict(sorted(statuses.items())),
        "burst_cpu_ms": costs_ms,
        "burst_generator_late_p99_s": _quantile(99, [late_s for outcome in outcomes for late_s in outcome.late_s]),
    }


def _results(
    effort: Effort, outcomes: Sequence[Outcome], statuses: Counter[int], lost: int, rows: int, *, is_whole: bool
) -> list[Result]:
    latencies_s = [latency_s for outcome in outcomes for latency_s in outcome.latencies_s]
    drained_s = max(outcome.drained_s for outcome in outcomes)
    name = f"burst of {effort.users:,} in {effort.window_s:g} s"
    return [
        Figure(f"{name}: lost", lost, "users", "nothing lost", is_whole),
        Figure(f"{name}: answered / rows in PostgreSQL", len(latencies_s), f"/ {rows:,}"),
        Figure(f"{name}: tries beyond the first", sum(statuses.values()) - effort.users, "requests"),
        Figure(f"{name}: p50 from the scheduled start", _quantile(50, latencies_s), "s"),
        Figure(f"{name}: p99", _quantile(99, latencies_s), "s"),
        Figure(f"{name}: longest", max(latencies_s, default=0.0), "s"),
        Figure(f"{name}: drained after", drained_s, "s"),
        Figure(f"{name}: rate until then", len(latencies_s) / drained_s, "/s"),
    ]


def _burst(stack: Stack, effort: Effort) -> list[Outcome]:
    shares = [
        Share(
            server=Server.of(stack.settings["MILLRACE_GATEWAY_URL"]),
            key_file=stack.directory / "jwt-private.pem",
            numbers=range(first, effort.users, GENERATORS),
            interval_s=effort.window_s / effort.users,
            connections=CONNECTIONS // GENERATORS,
        )
        for first in range(GENERATORS)
    ]
    context = get_context("spawn")
    ready = context.Barrier(GENERATORS)
    with ProcessPoolExecutor(GENERATORS, mp_context=context, initializer=_prepare, initargs=(ready,)) as pool:
        return list(pool.map(generate, shares))


_ready: Any = None
"""The barrier at which the generators wait for one another; it can be handed to a process only as it begins."""


def _prepare(ready: Any) -> None:
    global _ready  # noqa: PLW0603 the initialiser of a pool has no other way
    _ready = ready


def generate(share: Share) -> Outcome:
    """Mints the tokens, waits for the others, then lets each user begin at their time."""
    load.open_files(share.connections + 1_000)
    requests = _requests(share)
    _ready.wait()
    # Both clocks tell the same time in every process of a machine; the barrier opens for all within a millisecond.
    with load.event_loop() as runner:
        return runner.run(_generate(share, requests, time.monotonic() + _LEAD_S))


def _requests(share: Share) -> list[bytes]:
    tokens = users.mint(share.key_file, _PREFIX, share.numbers)
    return [
        json_request(
            "POST",
            "/v1/initiate-upload",
            share.server,
            {"filename": f"{_PREFIX}-{number}.jpg", "content_type": "image/jpeg", "size_bytes": 2_000_000 + number},
            {"authorization": f"Bearer {token}", "idempotency-key": f"{_PREFIX}-{number}"},
        )
        for number, token in zip(share.numbers, tokens, strict=True)
    ]


async def _generate(share: Share, requests: Sequence[bytes], begins_s: float) -> Outcome:
    pool = _Pool(share.server, share.connections)
    latencies_s: list[float] = []
    late_s: list[float] = []
    media_ids: list[str] = []
    statuses: Counter[int] = Counter()

    async def user(wanted: bytes, due_s: float) -> None:
        for failures in range(1, _ATTEMPTS + 1):
            answer = await pool.exchange(wanted)
            statuses[answer.status] += 1
            if answer.status == 201:
                latencies_s.append(time.monotonic() - due_s)
                media_ids.append(answer.json()["media_id"])
                return
            if not _may_retry(answer):
                return
            await asyncio.sleep(_pause_s(failures, answer))

    cpu_s = time.process_time()
    with suppress(TimeoutError):
        async with asyncio.timeout(_LEAD_S + _DRAIN_WITHIN_S), asyncio.TaskGroup() as group:
            for number, wanted in zip(share.numbers, requests, strict=True):
                due_s = begins_s + number * share.interval_s
                if (wait_s := due_s - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                elif len(late_s) % 16 == 0:
                    await asyncio.sleep(0)  # behind the schedule: those who came before must still get their turn
                late_s.append(max(0.0, time.monotonic() - due_s))
                group.create_task(user(wanted, due_s))
    pool.close()
    return Outcome(
        latencies_s=latencies_s,
        late_s=late_s,
        media_ids=media_ids,
        statuses=statuses,
        lost=len(requests) - len(latencies_s),
        drained_s=time.monotonic() - begins_s,
        cpu_s=time.process_time() - cpu_s,
    )


class _Pool:
    """Connections: one that is free, else a new one, else the first to become free, in the order of asking."""

    def __init__(self, server: Server, limit: int) -> None:
        self._server = server
        self._left = limit
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection]] = deque()

    async def exchange(self, wanted: bytes) -> Answer:
        """An answer; its status is 0 where there was none."""
        connection = await self._take()
        try:
            return await connection.exchange(wanted)
        except OSError:
            return Answer(0, b"", b"")
        finally:
            self._give(connection)

    def close(self) -> None:
        for connection in self._free:
            connection.close()

    async def _take(self) -> Connection:
        if self._free:
            return self._free.pop()
        if self._left:
            self._left -= 1
            return Connection(self._server)
        waiting: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return await waiting

    def _give(self, connection: Connection) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(connection)
                return
        self._free.append(connection)


def _may_retry(answer: Answer) -> bool:
    """Whether our client would try again: no answer, a status that says so, or a conflict that passes."""
    if answer.status == 409:
        return answer.json().get("retryable") is True
    return answer.status == 0 or answer.status in _RETRIED


def _pause_s(failures: int, answer: Answer) -> float:
    """As our client waits: half of the backoff fixed, half by chance, and at least what the server asks for."""
    asked = answer.header("retry-after")
    longest_s = min(_CAP_S, _BASE_S * 2.0 ** (failures - 1))
    return max(longest_s * random.uniform(0.5, 1.0), float(asked) if asked.isdecimal() else 0.0)


def _rows(stack: Stack) -> list[str]:
    """The media that the burst left in PostgreSQL."""
    with psycopg.connect(stack.settings["MILLRACE_DATABASE_URL"]) as connection:
        found = connection.execute("SELECT media_id::text FROM media WHERE filename LIKE %s", (f"{_PREFIX}-%",))
        return [media_id for (media_id,) in found]


def _quantile(percent: int, values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else 0.0


def _say(statuses: Counter[int], costs_ms: dict[str, float], outcomes: Sequence[Outcome]) -> None:
    costs = ", ".join(f"{name} {cost_ms:.2f}" for name, cost_ms in costs_ms.items() if cost_ms >= 0.01)
    answers = ", ".join(f"{status or 'none'} {count:,}" for status, count in sorted(statuses.items()))
    shares = ", ".join(f"{outcome.cpu_s / outcome.drained_s:.0%}" for outcome in outcomes)
    late = figure(_quantile(99, [late_s for outcome in outcomes for late_s in outcome.late_s]))
    print(
        f"burst: answers: {answers}; CPU ms a user: {costs}; generators {shares} of a core, p99 late by {late} s",
        file=sys.stderr,
        flush=True,
    )
