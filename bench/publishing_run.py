"""One video on its way through a whole stack whose workers have so many cores; what its trace says of it."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

import millrace
from bench import place
from bench.publishing_trace import Span, Way, is_whole, way
from deploy.local.services import ALL
from deploy.local.stack import Stack

_TRACE_WITHIN_S = 60.0
_PUBLISHED_WITHIN_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        fleet: slots that the plan was made for.
        workers: that there were, each with a core of its own and a slot in either lane.
        way: what was measured.
        others_cpu_s: what everything else on this machine spent meanwhile: the stack's servers, and whoever is no part
            of the benchmark. Where it is much, times are longer than the model can know.
    """

    fleet: int
    workers: int
    way: Way
    others_cpu_s: float


def run(source: Path, *, fleet: int, workers: int) -> Run:
    """Publishes the source once on a stack of its own."""
    slots = {
        "MILLRACE_TRANSCODE_FLEET_VIDEO_SLOTS": str(fleet),
        "MILLRACE_TRANSCODE_VIDEO_SLOTS": str(workers),
        "MILLRACE_TRANSCODE_AUDIO_SLOTS": str(workers),
    }
    with place.stack(ALL, slots) as stack:
        _bind(stack.pid("transcode"), sorted(os.sched_getaffinity(0))[:workers])
        return asyncio.run(_publish(stack, source, fleet, workers))


def _bind(pid: int, cores: Sequence[int]) -> None:
    """Lets a process, those that it has started, and all that they start use these cores alone."""
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        for thread in each.threads():
            os.sched_setaffinity(thread.id, cores)


async def _publish(stack: Stack, source: Path, fleet: int, workers: int) -> Run:
    traceparent = millrace.new_traceparent()
    transcode = psutil.Process(stack.pid("transcode"))
    async with (
        millrace.Client(stack.settings["MILLRACE_GATEWAY_URL"], stack.token("bench")) as client,
        asyncio.timeout(_PUBLISHED_WITHIN_S),
    ):
        own_s, busy_s = _own_cpu_s(transcode), _busy_s()
        uploaded = await millrace.upload(client, source, traceparent=traceparent)
        await millrace.wait_until_published(client, uploaded.media_id)
        own_s, busy_s = _own_cpu_s(transcode) - own_s, _busy_s() - busy_s
    found = way(await _trace(stack, millrace.trace_id_of(traceparent)), own_s)
    return Run(fleet, workers, found, max(0.0, busy_s - sum(task.cpu_s for task in found.tasks)))


async def _trace(stack: Stack, trace_id: str) -> list[Span]:
    url = f"{stack.settings['MILLRACE_TRACES_URL'].removesuffix('/traces')}/api/traces/{trace_id}"
    async with httpx.AsyncClient() as http, asyncio.timeout(_TRACE_WITHIN_S):
        while True:
            answer = await http.get(url)
            if answer.status_code == 200 and is_whole(spans := answer.json()["spans"]):
                return list(spans)
            await asyncio.sleep(1)


def _own_cpu_s(process: psutil.Process) -> float:
    """Without its children."""
    times = process.cpu_times()
    return times.user + times.system


def _busy_s() -> float:
    """Of all cores, since the machine began."""
    times = psutil.cpu_times()
    return times.user + times.system + times.nice
