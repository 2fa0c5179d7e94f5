"""A spell of ours as the service has it: each image by `execute`, in a sandboxed child that is started for it.

Included: the child's start, its imports, the sandbox, the wire both ways. Not included: storage; the original comes
from a file and the artifacts go to files. The memory told is that of the largest child, by its own account.
"""

import asyncio
import dataclasses
from pathlib import Path

from bench.imaging.spell import Job, say, timed, told
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, Stage
from services.transcode.engine.run import execute
from services.transcode.plan import ImageSpec


class _Original:
    """A `ByteSource` over a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def size_bytes(self) -> int:
        return self._path.stat().st_size

    async def read(self, offset: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


class _Children:
    """Scales, each time in a child of its own, and keeps the largest child's peak of memory."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.peak_bytes = 0

    def scale(self, job: Job) -> None:
        self._runner.run(self._scale(job))

    async def _scale(self, job: Job) -> None:
        async def sink(artifact: Artifact) -> None:
            (Path(job.folder) / artifact.name).write_bytes(artifact.data)

        spec = ImageSpec("image", tuple(job.sizes_px), 1)
        await execute(spec, _Original(Path(job.photo)), Limits(), sink=sink, on_stage=self._note)

    def _note(self, stage: Stage) -> None:
        self.peak_bytes = max(self.peak_bytes, int(stage.attributes.get("max_rss_bytes", 0)))


if __name__ == "__main__":
    children = _Children()
    spell = timed(told(), children.scale)
    say(dataclasses.replace(spell, peak_bytes=children.peak_bytes))
