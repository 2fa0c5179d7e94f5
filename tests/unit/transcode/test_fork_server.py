"""A fork server that hangs, or has no room for one more child, costs jobs and never a slot."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from services.transcode.engine import children
from services.transcode.engine.children import Child
from services.transcode.engine.errors import EngineTimeout, EngineUnready
from services.transcode.engine.outcome import Stage
from services.transcode.engine.run import probe
from tests.unit.transcode.sources import LIMITS, BytesSource


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def descriptors_of(pid: int) -> set[int]:
    return {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def server_of(sample: bytes) -> int:
    """The pid of the fork server, which is there once a child was."""
    found: list[int] = []

    def look(stage: Stage) -> None:
        if stage.name == "child start":
            found.append(parent_of(int(stage.attributes["pid"])))

    await probe(BytesSource(sample), LIMITS, on_stage=look)
    return found[0]


async def test_a_fork_server_that_hangs_holds_no_job_beyond_its_limits(
    sample: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_REAPED_WITHIN_S", 0.5)
    server = await server_of(sample)
    began: list[int] = []

    def hang(stage: Stage) -> None:
        if stage.name == "child start":
            began.append(int(stage.attributes["pid"]))
            os.kill(began[0], signal.SIGSTOP)
            os.kill(server, signal.SIGSTOP)

    try:
        with pytest.raises(EngineTimeout, match="no progress"):
            async with asyncio.timeout(10):
                await probe(BytesSource(sample), replace(LIMITS, stall_s=1.0), on_stage=hang)
    finally:
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGCONT)
    assert began
    assert await server_of(sample) != server


@pytest.mark.parametrize(("is_ready", "failure"), [(True, EngineTimeout), (False, EngineUnready)])
async def test_a_child_that_falls_silent_and_lives_on_is_waited_for_no_longer_than_one_that_stalls(
    is_ready: bool, failure: type[Exception]
) -> None:
    silent, nothing = asyncio.StreamReader(), asyncio.StreamReader()
    silent.feed_eof()
    # No writer is used.
    life = children._Life(nothing, None)  # type: ignore[arg-type]
    child = Child(0, 0.05, life, silent, None, children._Tail(), is_ready)  # type: ignore[arg-type]
    with pytest.raises(failure, match="no progress"):
        async with asyncio.timeout(2):
            await child.receive()


async def test_a_fork_server_that_hangs_before_it_forks_is_followed_by_another(sample: bytes) -> None:
    hanging = await server_of(sample)
    os.kill(hanging, signal.SIGSTOP)
    async with asyncio.timeout(10):
        await probe(BytesSource(sample), replace(LIMITS, stall_s=0.5))
    assert await server_of(sample) != hanging


async def test_without_a_descriptor_of_its_own_a_worker_blames_nobody(sample: bytes) -> None:
    await server_of(sample)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = descriptors_of(os.getpid())
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(used) + 1, hard))
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        with pytest.raises(EngineUnready, match="no child can be had"):
            await probe(BytesSource(sample), LIMITS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


@pytest.fixture
async def server(sample: bytes) -> AsyncIterator[int]:
    """A fork server, whose limits are as before in the end."""
    pid = await server_of(sample)
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    yield pid
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


async def test_a_fork_server_takes_all_the_descriptors_it_may_have(sample: bytes) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = min(hard // 2, 512)
    children._server.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        pid = await server_of(sample)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == min(hard, 65_536) > few


@pytest.mark.parametrize("room", range(4), ids=lambda room: f"room for {room}")
async def test_without_a_descriptor_a_child_is_refused_and_the_others_live(
    server: int, sample: bytes, room: int
) -> None:
    """Three come with a request, one more is for the child."""
    _, hard = limits = resource.prlimit(server, resource.RLIMIT_NOFILE)
    # The next free ones are the lowest.
    used = descriptors_of(server)
    free = [number for number in range(len(used) + 4) if number not in used]
    resource.prlimit(server, resource.RLIMIT_NOFILE, (free[room], hard))
    with pytest.raises(EngineUnready, match="no child can be forked"):
        await probe(BytesSource(sample), LIMITS)
    resource.prlimit(server, resource.RLIMIT_NOFILE, limits)
    assert await server_of(sample) == server
    assert not children_of(server), "what was refused is reaped"
    assert descriptors_of(server) == used, "and leaves nothing open"
