"""A spell of ours as the service has it: each image by `execute`, in a sandboxed child that is forked for it.

Included: the child's fork, the sandbox, the wire both ways. Not included: storage; the original comes from a file and
the artifacts go to files. Processor time is that of this process and of the children, by their own account, for they
are children of the engine's fork server; so is the memory told, that of the largest child.
"""

import asyncio
import dataclasses
from pathlib import Path

from bench.imaging.spell import Job, say, timed, told
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, Stage
from services.transcode.engine.run import execute
from services.transcode.specs import ImageSpec


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
    """Scales, each time in a child of its own, and keeps what the children say of their memory and processor time."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.peak_bytes = 0
        self.cpu_s: list[float] = []

    def scale(self, job: Job) -> None:
        self._runner.run(self._scale(job))

    async def _scale(self, job: Job) -> None:
        async def sink(artifact: Artifact) -> None:
            (Path(job.folder) / artifact.name).write_bytes(artifact.data)

        spec = ImageSpec("image", tuple(job.sizes_px), 1)
        await execute(spec, _Original(Path(job.photo)), Limits(), sink=sink, on_stage=self._note)

    def _note(self, stage: Stage) -> None:
        if "cpu_s" in stage.attributes:
            self.cpu_s.append(float(stage.attributes["cpu_s"]))
        self.peak_bytes = max(self.peak_bytes, int(stage.attributes.get("max_rss_bytes", 0)))


if __name__ == "__main__":
    children, job = _Children(), told()
    spell = timed(job, children.scale)
    cpu_seconds = spell.cpu_seconds + sum(children.cpu_s[-job.images :])
    say(dataclasses.replace(spell, cpu_seconds=cpu_seconds, peak_bytes=children.peak_bytes))
