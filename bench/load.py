"""Closed-loop load: so many clients, each of which begins anew as soon as it has come to its end."""

import asyncio
import itertools
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from bench.journeys import Begun, Journey
from bench.wire import Connection

CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Spell:
    """What came of a spell of load.

    Attributes:
        seconds: how long it was counted.
        count: journeys that ended within it.
        begun: every upload that was begun, the uncounted ones of the warm-up included.
        generator_share: of one core, spent on generating the load: where it comes near 1, the generator is measured.
    """

    seconds: float
    count: int
    begun: Sequence[Begun]
    generator_share: float

    @property
    def rate(self) -> float:
        """Journeys a second."""
        return self.count / self.seconds


def run(journey: Journey, *, seconds: float, warm_up_s: float, clients: int = CLIENTS) -> Spell:
    """Loads a server; call it in a process of its own.

    Raises:
        Refused, OSError: a journey failed; nothing that fails is counted as fast.
    """
    with event_loop() as runner:
        return runner.run(_run(journey, seconds, warm_up_s, clients))


async def _run(journey: Journey, seconds: float, warm_up_s: float, clients: int) -> Spell:
    numbers = itertools.count()
    begun: list[Begun] = []
    ended_s: list[float] = []
    begins_s = time.perf_counter() + warm_up_s
    ends_s = begins_s + seconds

    async def client() -> None:
        connection = Connection(journey.server)
        while time.perf_counter() < ends_s:
            begun.append(await journey.run(connection, next(numbers)))
            ended_s.append(time.perf_counter())
        connection.close()

    cpu_s = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    cpu_s = time.process_time() - cpu_s
    return Spell(
        seconds=seconds,
        count=sum(begins_s <= moment_s < ends_s for moment_s in ended_s),
        begun=begun,
        generator_share=cpu_s / (warm_up_s + seconds),
    )


def event_loop() -> asyncio.Runner:
    """The quickest loop that there is: what the generator does not take is left to what is measured."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def open_files(at_least: int) -> None:
    """Raises this process's limit of open files as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(at_least, hard) if hard > 0 else at_least, hard))
