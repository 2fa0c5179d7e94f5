"""Small clips and images for the engine's tests, and an independent reader of what comes out."""

import asyncio
import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from deploy.samples.clip import Clip, write_clip
from deploy.samples.scenes import FRAME_NUMBER_BITS
from services.runtime import bitrate
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, ChunkOutcome, ImagesOutcome, Outcome, Stage, TrackOutcome
from services.transcode.engine.run import execute, probe
from services.transcode.formats import Packaging
from services.transcode.ladder import LADDER, Step
from services.transcode.plan import Fleet, Output, plan
from services.transcode.source import SourceInfo
from services.transcode.specs import AudioSpec, ChunkSpec, PassThroughSpec, TaskSpec

LIMITS = Limits(wall_clock_s=60, stall_s=20)
ALONE = Fleet(1)
SMALL_LADDER = tuple(Step(f"{side}p", side, 21, 800_000, 1_200_000) for side in (180, 90))


@dataclass
class BytesSource:
    """A `ByteSource` in memory that counts its reads."""

    data: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    async def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return self.data[offset : offset + length]


@dataclass
class Shelf:
    """A sink in memory."""

    artifacts: dict[str, Artifact] = field(default_factory=dict)

    async def put(self, artifact: Artifact) -> None:
        assert artifact.name not in self.artifacts
        self.artifacts[artifact.name] = artifact

    def track(self, outcome: TrackOutcome) -> bytes:
        """The whole track as one file."""
        names = [*filter(None, [outcome.init_name]), *(segment.name for segment in outcome.segments)]
        return b"".join(self.artifacts[name].data for name in names)


@dataclass
class Result:
    """What one task left behind."""

    outcome: Outcome
    shelf: Shelf
    progress: list[float]
    stages: list[Stage]

    @property
    def track(self) -> TrackOutcome:
        assert isinstance(self.outcome, TrackOutcome)
        return self.outcome

    @property
    def images(self) -> ImagesOutcome:
        assert isinstance(self.outcome, ImagesOutcome)
        return self.outcome

    @property
    def file(self) -> bytes:
        return self.shelf.track(self.track)


async def run(spec: TaskSpec, data: bytes, limits: Limits = LIMITS) -> Result:
    shelf, progress, stages = Shelf(), list[float](), list[Stage]()
    outcome = await execute(
        spec,
        BytesSource(data),
        limits,
        sink=shelf.put,
        on_progress=progress.append,
        on_stage=stages.append,
    )
    return Result(outcome, shelf, progress, stages)


async def run_plan(
    data: bytes,
    ladder: tuple[Step, ...] = LADDER,
    fleet: Fleet = ALONE,
    packaging: Packaging = Packaging.CMAF,
) -> tuple[SourceInfo, dict[str, Result]]:
    """Probes, plans, and runs every task, two at a time; what chunks made is joined, a result for each rendition."""
    source = await probe(BytesSource(data), LIMITS)
    slots = asyncio.Semaphore(2)

    async def one(spec: TaskSpec) -> Result:
        async with slots:
            return await run(spec, data)

    specs = plan(source, output=Output(ladder, packaging), fleet=fleet)
    results = await asyncio.gather(*(one(spec) for spec in specs))
    whole = {spec.label: result for spec, result in zip(specs, results, strict=True)}
    chunks = [whole.pop(spec.label) for spec in specs if isinstance(spec, ChunkSpec | PassThroughSpec)]
    return source, joined(chunks) | whole


def joined(chunks: Sequence[Result]) -> dict[str, Result]:
    """The renditions that chunks made, by label; progress and stages are those of the first chunk."""
    pieces: dict[str, list[tuple[Result, TrackOutcome]]] = {}
    for result in chunks:
        assert isinstance(result.outcome, ChunkOutcome)
        for piece in result.outcome.pieces:
            pieces.setdefault(piece.label, []).append((result, piece.track))
    return {label: _joined(of_one) for label, of_one in pieces.items()}


def _joined(pieces: Sequence[tuple[Result, TrackOutcome]]) -> Result:
    first, track = pieces[0]
    shelf = Shelf()
    for result, piece in pieces:
        if piece.init_name:
            init = result.shelf.artifacts[piece.init_name]
            assert init == shelf.artifacts.setdefault(init.name, init), "one initialisation segment serves all"
        shelf.artifacts |= {segment.name: result.shelf.artifacts[segment.name] for segment in piece.segments}
    segments = tuple(segment for _, piece in pieces for segment in piece.segments)
    assert len(shelf.artifacts) == bool(track.init_name) + len(segments), "names are unique within the whole video"
    rated = [(segment.duration_ticks, segment.size_bytes) for segment in segments]
    whole = replace(
        track,
        segments=segments,
        frame_count=sum(piece.frame_count for _, piece in pieces),
        average_bps=bitrate.average_bps(rated, track.timescale),
        peak_bps=max(piece.peak_bps for _, piece in pieces),
    )
    return Result(whole, shelf, first.progress, first.stages)


def specs_of(source: SourceInfo, ladder: tuple[Step, ...] = SMALL_LADDER) -> tuple[ChunkSpec, AudioSpec]:
    """The first video and the audio task of a source."""
    specs = plan(source, output=Output(ladder), fleet=ALONE)
    video = next(spec for spec in specs if isinstance(spec, ChunkSpec))
    audio = next(spec for spec in specs if isinstance(spec, AudioSpec))
    return video, audio


def sample_clip(directory: Path, frame_count: int = 75, frame_rate: int = 25) -> bytes:
    """A generated clip of 320 x 180 with flash, beep and frame numbers."""
    path = directory / "sample.mp4"
    write_clip(Clip(path.name, 320, 180, frame_rate, frame_count, 25, 20), path)
    return path.read_bytes()


def clip(
    times: Sequence[Fraction],
    *,
    rate: Fraction = Fraction(30),
    size_px: tuple[int, int] = (160, 90),
    container: str = "mp4",
    codec: str = "libx264",
    rotation: int = 0,
    interlaced: bool = False,
    sample_aspect_ratio: Fraction | None = None,
    paint: Callable[[int, NDArray[np.uint8]], None] | None = None,
    options: dict[str, str] | None = None,
    with_audio: bool = False,
    gop_frames: int = 30,
    x264: str = "",
) -> bytes:
    """A silent clip with one frame at each of the times (seconds), as a file in memory.

    `rate` is what the headers claim.
    """
    time_base = 1 / rate if codec == "mpeg4" or container == "avi" else Fraction(1, 90_000)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size_px
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        quick = {"preset": "ultrafast"} if codec == "libx264" else {}
        stream.options = {**quick, "bf": "2", "g": str(gop_frames)} if codec in {"libx264", "mpeg4"} else {}
        if x264:
            stream.options = {**stream.options, "x264-params": x264}
        if interlaced:
            stream.options = {**stream.options, "x264-params": "tff=1"}
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if rotation:
            stream.set_display_rotation(rotation)
        audio = output.add_stream("aac", rate=48_000, layout="mono") if with_audio else None
        for number, at_s in enumerate(times):
            picture = np.full((size_px[1], size_px[0], 3), 40 + number * 7 % 160, np.uint8)
            if paint is not None:
                paint(number, picture)
            frame = VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(at_s / time_base), time_base
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), "fltp", "mono")
            silence.sample_rate = 48_000
            for sound in [*audio.encode(silence), *audio.encode(None)]:
                output.mux(sound)
    return buffer.getvalue()


def with_matrix(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """An MP4 whose first track is shown by another matrix: x' = ax + cy, y' = bx + dy."""
    at = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2, version 0
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    return data[:at] + matrix + data[at + len(matrix) :]


def constant_times(count: int, rate: Fraction) -> list[Fraction]:
    return [number / rate for number in range(count)]


def decoded(data: bytes) -> list[VideoFrame]:
    """All frames of a file with one video track."""
    with av.open(io.BytesIO(data), "r") as container:
        return list(container.decode(video=0))


def frame_times(frames: Sequence[VideoFrame]) -> list[Fraction]:
    return [Fraction(frame.pts or 0) * (frame.time_base or 1) for frame in frames]


def luma(frame: VideoFrame) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width]


def frame_number(frame: VideoFrame) -> int:
    """The number that `deploy.samples.scenes` wrote along the lower edge, at any size."""
    block = frame.width / FRAME_NUMBER_BITS / 2
    row = luma(frame)[-max(2, round(block / 2))]
    bits = [row[int((bit + 0.5) * block)] > 128 for bit in range(FRAME_NUMBER_BITS)]
    return sum(bool(is_set) << (FRAME_NUMBER_BITS - 1 - bit) for bit, is_set in enumerate(bits))


def samples(data: bytes) -> tuple[NDArray[np.float32], Fraction]:
    """All sound of a file, channels by samples at 48 kHz, and when it starts."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = list(container.decode(audio=0))
    start_s = Fraction(frames[0].pts or 0) * (frames[0].time_base or 1)
    # Packed: PyAV reads past the planes of more than eight channels.
    resampler = av.AudioResampler("flt", frames[0].layout, 48_000)
    pieces = [piece.to_ndarray() for frame in [*frames, None] for piece in resampler.resample(frame)]
    channels = frames[0].layout.nb_channels
    return np.concatenate(pieces, axis=1).astype(np.float32).reshape(-1, channels).T, start_s
