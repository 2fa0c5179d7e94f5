"""The engine through its seam, with a file for a source and folders for a store: all that this benchmark knows of it.

`python -m bench.transcoding.seam SOURCE FOLDER` is the program that is measured as ours: probe, plan, then so many
tasks at once, each in its sandboxed child, in the order of the plan. The poster is left out: nobody else makes one.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import uvloop
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from services.transcode.engine import run
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, Stage
from services.transcode.engine.video import encoder_settings
from services.transcode.engine.video.picture import Cascade
from services.transcode.plan import Fleet, Output, plan
from services.transcode.source import SourceInfo
from services.transcode.specs import ChunkSpec, PassThroughSpec, PosterSpec, RenditionSpec, TaskSpec, Timeline

REPORT = "children.json"
"""What is written beside the renditions: the children."""

_VIDEO = (ChunkSpec, PassThroughSpec)


@dataclass(frozen=True, slots=True)
class Child:
    """What one task took.

    Attributes:
        label: of the task.
        is_video: whether it was a chunk; else it was sound.
        cpu_s: processor time of its child.
        peak_bytes: the most memory that its child held.
        stages: where the time of its long stage went, in seconds, as the engine tells.
    """

    label: str
    is_video: bool
    cpu_s: float
    peak_bytes: int
    stages: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the ladder that the source gets.

    Attributes:
        label: for instance `1080p`.
        width_px: even, as is `height_px`.
        height_px: see `width_px`.
        x264_options: the options of the encoder as ours sets them.
    """

    label: str
    width_px: int
    height_px: int
    x264_options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to come out of a source, whoever makes it.

    Attributes:
        steps: from the largest down.
        width_px: of the source, as shown.
        height_px: likewise.
        frame_rate: frames a second, of all steps.
        frame_count: likewise.
        gop_frames: a key frame every so many frames.
        segment_frames: the length of a segment.
    """

    steps: Sequence[Step]
    width_px: int
    height_px: int
    frame_rate: Fraction
    frame_count: int
    gop_frames: int
    segment_frames: int

    @property
    def duration_s(self) -> Fraction:
        """Of the whole."""
        return self.frame_count / self.frame_rate


class _File:
    """`ByteSource` of a file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    async def read(self, offset: int, length: int) -> bytes:
        return await asyncio.to_thread(os.pread, self._descriptor, length, offset)


def planned(source: Path) -> Planned:
    """What the plan says of a source."""
    info = asyncio.run(run.probe(_File(source), Limits()))
    chunks = _chunks(info)
    timeline = chunks[0].timeline
    assert info.video is not None
    return Planned(
        steps=[_step(rendition, timeline) for rendition in _renditions(chunks)],
        width_px=info.video.display_width_px,
        height_px=info.video.display_height_px,
        frame_rate=timeline.frame_rate,
        frame_count=timeline.frame_count,
        gop_frames=timeline.gop_frames,
        segment_frames=timeline.segment_frames,
    )


def command(
    source: Path, folder: Path, *, slots: int, fleet: int, one_chunk: bool = False, pass_through: bool = False
) -> Sequence[str]:
    """The command line of our program: so many tasks at once, by a plan for a fleet of so many."""
    options = ["--slots", str(slots), "--fleet", str(fleet)]
    options += ["--one-chunk"] if one_chunk else []
    options += ["--pass-through"] if pass_through else []
    return [sys.executable, "-m", "bench.transcoding.seam", str(source), str(folder), *options]


def children(folder: Path) -> list[Child]:
    """What our program said of its children."""
    return [Child(**child) for child in json.loads((folder / REPORT).read_text())]


def open_encoder(step: Step, frame_rate: Fraction) -> VideoCodecContext:
    """libx264 as the engine opens it, with one thread."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = step.width_px, step.height_px, "yuv420p"
    encoder.time_base, encoder.framerate = 1 / frame_rate, frame_rate
    encoder.sample_aspect_ratio = Fraction(1)
    encoder.thread_count = 1
    encoder.flags |= Flags.global_header  # as fragmented MP4 needs it
    encoder.options = dict(step.x264_options)
    encoder.open()
    return encoder


def cascade(steps: Sequence[Step]) -> Cascade:
    """The engine's scaler."""
    return Cascade([(step.width_px, step.height_px) for step in steps])


async def _transcode(
    source: Path, folder: Path, *, slots: int, fleet: int, one_chunk: bool, pass_through: bool
) -> list[Child]:
    file, limits = _File(source), Limits()
    info = await run.probe(file, limits)
    specs = _tasks(info, fleet, one_chunk=one_chunk, pass_through=pass_through)
    free = asyncio.Semaphore(slots)
    ended: list[Child] = []

    async def execute(spec: TaskSpec) -> None:
        stages: dict[str, Stage] = {}
        async with free:
            await run.execute(
                spec,
                file,
                limits,
                sink=_sink(folder if isinstance(spec, _VIDEO) else folder / spec.label),
                on_stage=lambda stage: stages.__setitem__(stage.name, stage),
            )
        ended.append(_child(spec, stages))

    async with asyncio.TaskGroup() as group:
        for spec in specs:
            group.create_task(execute(spec))
    return ended


def _sink(folder: Path) -> run.Sink:
    async def store(artifact: Artifact) -> None:
        path = folder / artifact.name
        path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(path.write_bytes, artifact.data)

    return store


def _child(spec: TaskSpec, stages: Mapping[str, Stage]) -> Child:
    usage = stages["child"].attributes
    spent = stages["encode"].attributes if "encode" in stages else {}
    return Child(
        label=spec.label,
        is_video=isinstance(spec, _VIDEO),
        cpu_s=float(usage["cpu_s"]),
        peak_bytes=int(usage["max_rss_bytes"]),
        stages={name: float(value) for name, value in spent.items() if name.endswith("_s")},
    )


def _tasks(info: SourceInfo, fleet: int, *, one_chunk: bool, pass_through: bool) -> list[TaskSpec]:
    specs = plan(info, output=Output(pass_through=pass_through), fleet=Fleet(video_slots=fleet))
    wanted: list[TaskSpec] = [spec for spec in specs if not isinstance(spec, PosterSpec)]
    if not one_chunk:
        return wanted
    others = [spec for spec in wanted if not isinstance(spec, ChunkSpec)]
    return [_joined([spec for spec in wanted if isinstance(spec, ChunkSpec)]), *others]


def _chunks(info: SourceInfo) -> list[ChunkSpec]:
    specs = plan(info, output=Output(pass_through=False), fleet=Fleet(video_slots=1))
    return [spec for spec in specs if isinstance(spec, ChunkSpec)]


def _renditions(chunks: Sequence[ChunkSpec]) -> tuple[RenditionSpec, ...]:
    """All of them, each once: workers that share out one stretch have some of them each."""
    return tuple({rendition.label: rendition for chunk in chunks for rendition in chunk.renditions}.values())


def _joined(chunks: Sequence[ChunkSpec]) -> ChunkSpec:
    """One chunk, from the first frame to the last, of all renditions."""
    return dataclasses.replace(
        chunks[0],
        renditions=_renditions(chunks),
        first_frame=0,
        end_frame=chunks[0].timeline.frame_count,
        cost=sum(chunk.cost for chunk in chunks),
    )


def _step(rendition: RenditionSpec, timeline: Timeline) -> Step:
    options = encoder_settings.settings_for(rendition, timeline).options
    return Step(rendition.label, rendition.width_px, rendition.height_px, options)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.transcoding.seam")
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slots", type=int, required=True, help="tasks at once")
    parser.add_argument("--fleet", type=int, required=True, help="how many tasks at once the plan is for")
    parser.add_argument("--one-chunk", action="store_true", help="the whole video in one task")
    parser.add_argument("--pass-through", action="store_true", help="publish the source's packets where they fit")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the worker does
        ended = runner.run(
            _transcode(
                options.source,
                options.folder,
                slots=options.slots,
                fleet=options.fleet,
                one_chunk=options.one_chunk,
                pass_through=options.pass_through,
            )
        )
    (options.folder / REPORT).write_text(json.dumps([dataclasses.asdict(child) for child in ended]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
