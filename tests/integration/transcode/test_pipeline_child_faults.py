"""What happens to children in the midst of an encode: it costs the chunk in hand, and neither its worker nor a byte."""

import asyncio
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from media.v1 import media_pb2
from services.transcode import app as transcode
from tests.env import Env
from tests.integration.transcode.harness import Pipeline, children_at_work, serving, worker_process

HIT = "video-001"


def killed(child: psutil.Process) -> None:
    """As the kernel does where memory runs out."""
    child.send_signal(signal.SIGKILL)


def stopped(child: psutil.Process) -> None:
    child.send_signal(signal.SIGSTOP)


def starved(child: psutil.Process) -> None:
    """No byte of address space more than it has."""
    has_bytes = child.memory_info().vms
    resource.prlimit(child.pid, resource.RLIMIT_AS, (has_bytes, has_bytes))


@pytest.mark.parametrize(
    ("happens", "said"),
    [(killed, "SIGKILL"), (stopped, "no progress for 5 s"), (starved, "attempt_failed")],
    ids=["killed", "stopped", "starved of memory"],
)
async def test_a_child_costs_its_chunk_alone(
    *,
    happens: Callable[[psutil.Process], None],
    said: str,
    pipeline: Pipeline,
    env: Env,
    long_clip: bytes,
    tmp_path: Path,
    undisturbed: dict[str, list[bytes]],
) -> None:
    # One process for the chunks, one after the other, so that there is one child to hit; the rest is others' work.
    chunks = {"TRANSCODE_LANES": "video", "TRANSCODE_VIDEO_SLOTS": "1", "TRANSCODE_PLANNER_SLOTS": "0"}
    patience = {"MILLRACE_TRANSCODE_STALL_S": "5", **{f"MILLRACE_{name}": value for name, value in chunks.items()}}
    others = {"MILLRACE_TRANSCODE_LANES": "image,audio"}
    log = tmp_path / "worker.log"
    media_id = await pipeline.begin(long_clip, "video/mp4")
    async with worker_process({**env, **patience}, log) as worker, serving({**env, **others}, transcode.serve):
        await pipeline.advanced(media_id, HIT)
        [child] = children_at_work(worker.pid)
        happens(child)
        media = await pipeline.finished(media_id)
        assert worker.returncode is None, "the worker lives"
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    attempts = await pipeline.attempts(media_id)
    assert attempts.pop(HIT) == 2
    assert len(attempts) >= 3
    assert set(attempts.values()) == {1}
    assert await pipeline.checksums(media_id) == undisturbed
    assert said in await asyncio.to_thread(log.read_text)
