"""The engine's seam, parent side: one sandboxed child process a job, served and watched until it ends.

The child gets a job and asks for ranges of the source; the parent reads them and takes finished artifacts.
The parent trusts nothing the child says: names, sizes and ranges are checked, values are rebuilt field by
field.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from services.transcode.engine.children import Child, forked
from services.transcode.engine.errors import EngineCrashed, EngineTimeout, EngineUnready
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, Outcome, Stage, outcome_from_json
from services.transcode.engine.wire import Frame, FrameType, WireError
from services.transcode.engine_port import ByteSource
from services.transcode.formats import ImageFormat
from services.transcode.source import (
    WIDEST_SAMPLES,
    RejectedSource,
    RejectionReason,
    SourceInfo,
    from_jsonable,
    to_jsonable,
)
from services.transcode.specs import TaskSpec, spec_to_json

_log = logging.getLogger(__name__)

_ARTIFACT_NAME = re.compile(
    r"([0-9]{1,5}p(-[a-z0-9]{1,8})?/)?(init\.mp4|seg_[0-9]{5}\.(m4s|ts))|[0-9]{1,5}\.(jpg|webp|avif)"
)
_CONTENT_TYPES = frozenset({"video/mp4", "audio/mp4", "video/mp2t", *(one.content_type for one in ImageFormat)})
_MAX_READ_BYTES = 32 << 20
_STORAGE_COUNTS_S = 1.0
"""What one call of the source or the sink takes of the wall clock at most: above what a block takes from storage in
order, and less than it takes at the pace that `originals.longest_reading` reckons with."""


Sink = Callable[[Artifact], Awaitable[None]]
"""Stores one artifact. The child goes on meanwhile until the pipe between is full, then waits."""


def _ignore_progress(_fraction: float) -> None:
    """Progress that nobody asked for."""


def _ignore_stage(_stage: Stage) -> None:
    """Stages that nobody asked for."""


async def _refuse_artifact(artifact: Artifact) -> None:
    raise WireError(f"a probe makes no artifacts, yet sent {artifact.name}")


@dataclass(frozen=True, slots=True)
class _Caller:
    """Where a job's by-products go."""

    sink: Sink
    on_progress: Callable[[float], None]
    on_stage: Callable[[Stage], None]


async def probe(source: ByteSource, limits: Limits, *, on_stage: Callable[[Stage], None] = _ignore_stage) -> SourceInfo:
    """Finds out what an original is, in a child of its own.

    Args:
        source: the original.
        limits: bounds; those of bytes, duration, pixels and streams refuse the original.
        on_stage: told of each stretch of work, for the trace.

    Raises:
        RejectedSource: it can never be processed.
        EngineCrashed: the child died; perhaps another attempt fares better.
        EngineTimeout: the child was killed.
    """
    caller = _Caller(_refuse_artifact, _ignore_progress, on_stage)
    answer = await _run({"job": "probe"}, source, limits, caller)
    try:
        found = from_jsonable(SourceInfo, answer)
        check_found(found, limits)
    except ValueError as error:
        raise EngineCrashed("the child's answer is no SourceInfo", str(error)) from error
    return found


async def execute(
    spec: TaskSpec,
    source: ByteSource,
    limits: Limits,
    *,
    sink: Sink,
    on_progress: Callable[[float], None] = _ignore_progress,
    on_stage: Callable[[Stage], None] = _ignore_stage,
) -> Outcome:
    """Runs one task in a child of its own and hands its artifacts to `sink`, one after the other.

    When it returns, every artifact that the outcome names has passed through `sink`. With one thread, the
    same spec and source give the same bytes. Cancelling kills the child and waits for its end.

    Args:
        spec: the task.
        source: the original.
        limits: bounds.
        sink: stores an artifact; what it raises ends the job and passes through.
        on_progress: told the finished fraction, never falling, only when frames advanced: a heartbeat may
            lean on it.
        on_stage: told of each stretch of work, for the trace.

    Returns:
        A `ChunkOutcome` for video, a `TrackOutcome` for audio, an `ImagesOutcome` for images and posters.

    Raises:
        RejectedSource: the original can never be processed.
        EngineCrashed: the child died; perhaps another attempt fares better.
        EngineTimeout: the child was killed.
        EngineUnready: this machine cannot do it now.
    """
    job = {"job": "execute", "spec": spec_to_json(spec)}
    answer = await _run(job, source, limits, _Caller(sink, on_progress, on_stage))
    try:
        return outcome_from_json(answer)
    except ValueError as error:
        raise EngineCrashed("the child's answer is no outcome", str(error)) from error


def check_found(found: SourceInfo, limits: Limits) -> None:
    """What a plan counts by is within the limits: whoever took a child over could ask for a plan without end.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= found.duration_s <= limits.max_duration_s or len(found.audio) > limits.max_streams:
        raise ValueError("it lasts too long, or has too many tracks")
    if found.video is not None:
        shown_px = found.video.display_width_px, found.video.display_height_px
        if min(shown_px) < 1 or prod(shown_px) > WIDEST_SAMPLES * limits.max_frame_pixels:
            raise ValueError("its pictures have no size, or too large a one")
        if found.video.frame_rate <= 0:
            raise ValueError("its frames do not follow one another")
    if found.image is not None and min(found.image.width_px, found.image.height_px) < 1:
        raise ValueError("its picture has no size")


async def _run(job: Mapping[str, Any], source: ByteSource, limits: Limits, caller: _Caller) -> Mapping[str, Any]:
    wall_clock = asyncio.timeout(limits.wall_clock_s)
    try:
        async with wall_clock, forked(limits) as child:
            head = {**job, "limits": to_jsonable(limits), "size_bytes": source.size_bytes}
            await child.send(Frame(FrameType.JOB, head))
            return await _serve(child, source, caller, wall_clock)
    except TimeoutError as error:
        if not wall_clock.expired():
            raise  # the caller's own: its source or sink
        raise EngineTimeout(f"the child was not done after {limits.wall_clock_s:g} s") from error
    except WireError as error:
        raise EngineCrashed("the child broke the protocol", str(error)) from error


@contextmanager
def _parent_works(wall_clock: asyncio.Timeout) -> Iterator[None]:
    """Stops the wall clock while the child has to wait for storage, but for what storage in order would take.

    So an outage ends as what the source or the sink raises, and is not put down to the original. That a little of each
    call counts bounds a job whose original makes the child read for ever.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    ends_at_s = wall_clock.when()
    wall_clock.reschedule(None)
    try:
        yield
    finally:
        if ends_at_s is not None:
            wall_clock.reschedule(ends_at_s + max(0.0, loop.time() - began_s - _STORAGE_COUNTS_S))


async def _serve(child: Child, source: ByteSource, caller: _Caller, wall_clock: asyncio.Timeout) -> Mapping[str, Any]:
    """Answers the child frame by frame until it has an answer of its own, which is returned."""
    progress = 0.0
    while True:
        frame = await child.receive()
        match frame.type:
            case FrameType.READ:
                with _parsing():
                    offset, length = _read_range(frame.head, source.size_bytes)
                with _parent_works(wall_clock):
                    data = await source.read(offset, length)
                await child.send(Frame(FrameType.DATA, body=data))
            case FrameType.ARTIFACT:
                child.progressed()
                with _parsing():
                    artifact = _artifact(frame)
                with _parent_works(wall_clock):
                    await caller.sink(artifact)
            case FrameType.PROGRESS:
                child.progressed()
                with _parsing():
                    progress = max(progress, min(1.0, float(frame.head["fraction"])))
                caller.on_progress(progress)
            case FrameType.HELLO | FrameType.STAGE:
                child.progressed()
                child.is_ready = True
                with _parsing():
                    stage = _started(child, frame.head) if frame.type is FrameType.HELLO else _stage(frame)
                caller.on_stage(stage)
            case FrameType.RESULT:
                return frame.head
            case FrameType.REJECTED | FrameType.FAILED:
                with _parsing():
                    failure = _failure(frame, is_ready=child.is_ready)
                raise failure
            case FrameType.JOB | FrameType.DATA:
                raise WireError(f"a child never sends {frame.type.name}")


@contextmanager
def _parsing() -> Iterator[None]:
    """Whatever is wrong with a frame's values is a breach of the protocol; the caller's errors are not."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise WireError(repr(error)) from error


def _failure(frame: Frame, *, is_ready: bool) -> Exception:
    if frame.type is FrameType.REJECTED:
        return RejectedSource(RejectionReason(frame.head["reason"]), str(frame.head["message"]))
    return (EngineCrashed if is_ready else EngineUnready)(str(frame.head["message"]), str(frame.head["detail"]))


def _stage(frame: Frame) -> Stage:
    attributes = frame.head["attributes"]
    if not all(isinstance(value, (str, int, float)) for value in attributes.values()):
        raise WireError("a stage's attributes are no plain values")
    start_unix_ns, end_unix_ns = int(frame.head["start_unix_ns"]), int(frame.head["end_unix_ns"])
    return Stage(str(frame.head["name"]), start_unix_ns, end_unix_ns, attributes)


def _read_range(head: Mapping[str, Any], size_bytes: int) -> tuple[int, int]:
    offset, length = int(head["offset"]), int(head["length"])
    if not (0 <= offset < size_bytes and 0 < length <= _MAX_READ_BYTES):
        raise WireError(f"a child may not read {length} bytes at {offset} of {size_bytes}")
    return offset, min(length, size_bytes - offset)


def _artifact(frame: Frame) -> Artifact:
    name, content_type = str(frame.head["name"]), str(frame.head["content_type"])
    if not _ARTIFACT_NAME.fullmatch(name) or content_type not in _CONTENT_TYPES or not frame.body:
        raise WireError("an artifact has an unknown name or type, or is empty")
    return Artifact(name, content_type, frame.body, hashlib.sha256(frame.body).hexdigest())


def _started(child: Child, head: Mapping[str, Any]) -> Stage:
    sandbox = {str(part): str(state) for part, state in head["sandbox"].items()}
    missing = sorted(part for part, state in sandbox.items() if state.startswith("missing"))
    if missing:
        _log.warning("the kernel lacks part of the engine's sandbox: %s", ", ".join(missing))
    attributes = {f"sandbox.{part}": state for part, state in sandbox.items()}
    return Stage("child start", child.started_unix_ns, time.time_ns(), {"pid": child.pid, **attributes})
