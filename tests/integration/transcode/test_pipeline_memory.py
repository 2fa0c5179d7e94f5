"""A process with little memory encodes one chunk after the other, and still everything."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.samples.clip import Clip, write_clip
from media.v1 import media_pb2
from services.transcode import app as transcode
from tests.env import Env
from tests.integration.transcode.harness import Pipeline, children_at_work, serving, worker_process


@pytest.fixture(scope="module")
def wide_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two chunks, each of which is taken to need a quarter of a GiB."""
    path = tmp_path_factory.mktemp("clips") / "wide.mp4"
    write_clip(Clip(path.name, 1280, 720, 24, 480, 120, 28), path)
    return path.read_bytes()


@pytest.mark.parametrize(("budget_mib", "at_once"), [(256, 1), (1_024, 2)])
async def test_chunks_wait_for_memory(
    *, pipeline: Pipeline, env: Env, wide_clip: bytes, tmp_path: Path, budget_mib: int, at_once: int
) -> None:
    chunks = {"MILLRACE_TRANSCODE_LANES": "video", "MILLRACE_TRANSCODE_VIDEO_SLOTS": "2"}
    memory = {"MILLRACE_TRANSCODE_MEMORY_MIB": str(budget_mib), "MILLRACE_TRANSCODE_PLANNER_SLOTS": "0"}
    others = {"MILLRACE_TRANSCODE_LANES": "image,audio"}
    most = Most()
    media_id = await pipeline.begin(wide_clip, "video/mp4")
    async with (
        worker_process({**env, **chunks, **memory}, tmp_path / "worker.log") as worker,
        serving({**env, **others}, transcode.serve),
    ):
        watching = asyncio.create_task(most.watch(worker.pid))
        media = await pipeline.finished(media_id, within=timedelta(minutes=2))
        watching.cancel()
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    assert most.seen == at_once
    assert set((await pipeline.attempts(media_id)).values()) == {1}


class Most:
    """How many children of a process have been at work at once."""

    seen = 0

    async def watch(self, pid: int) -> None:
        """Looks ten times a second, until cancelled."""
        while True:
            self.seen = max(self.seen, len(children_at_work(pid)))
            await asyncio.sleep(0.1)
