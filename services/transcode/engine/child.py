"""The child process: reads one job, shuts the sandbox behind itself, does the job, answers, ends.

Forked from a process that has imported and warmed up everything (`fork_server`), since nothing can be opened behind
the sandbox; nothing of the original is touched before it.
"""

import importlib
import os
import re
import resource
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from services.transcode.engine import sandbox
from services.transcode.engine.channel import Channel
from services.transcode.engine.images.renditions import encode_image
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Outcome, outcome_to_json
from services.transcode.engine.probing import probe_file
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.sound.audio import encode_audio
from services.transcode.engine.video import processor
from services.transcode.engine.video.chunk import encode_chunk
from services.transcode.engine.video.encoder import VideoEncoder, opened_ahead
from services.transcode.engine.video.pass_through import pass_through
from services.transcode.engine.video.poster import encode_poster
from services.transcode.engine.wire import FrameType
from services.transcode.source import RejectedSource, from_jsonable, to_jsonable
from services.transcode.specs import (
    AudioSpec,
    ChunkSpec,
    ImageSpec,
    PassThroughSpec,
    PosterSpec,
    TaskSpec,
    spec_from_json,
)

_DETAIL_CHARACTERS = 4000

_IMPORTED_LATE = (
    # What the media libraries import only when they come to it: too late, behind the sandbox.
    "av.audio.codeccontext", "av.audio.stream", "av.sidedata.encparams", "av.sidedata.motionvectors",
    "av.subtitles.codeccontext", "av.subtitles.stream", "av.subtitles.subtitle",
    "av.video.codeccontext", "av.video.stream",
    "PIL.ImageColor", "PIL.ImageFile", "PIL.ImageFilter", "PIL.ImagePalette", "PIL.TiffImagePlugin",
    "copy", "encodings.latin_1", "encodings.utf_16", "encodings.utf_8_sig",
)  # fmt: skip


def warm_up() -> None:
    """Imports, before any fork, what libraries import late, and looks at what can be seen only now."""
    processor.x264_asm()
    for name in _IMPORTED_LATE:
        importlib.import_module(name)


def serve(socket_fd: int, parent_pid: int) -> None:
    """Serves one job on the inherited socket; ends the process where that of its parent has ended."""
    sandbox.die_with_parent(parent_pid)
    channel = Channel(os.fdopen(socket_fd, "rb", closefd=False), os.fdopen(socket_fd, "wb", closefd=False))
    job = channel.receive().head
    limits = from_jsonable(Limits, job["limits"])
    spec = spec_from_json(job["spec"]) if job["job"] == "execute" else None
    try:
        # Of the job, not of the original: nothing is read from that before the sandbox is shut.
        opened = opened_ahead(spec, limits.threads) if spec else {}
    except Exception as error:  # libav's, and whatever a driver makes of it
        return channel.send(FrameType.FAILED, _failure("the child could not get ready", error))
    with Path("/proc/self/status").open("rb", buffering=0) as own_status:
        states = sandbox.enter(limits.address_space_bytes, limits.wall_clock_s * limits.threads)
        channel.send(FrameType.HELLO, {"sandbox": states})
        work = partial(_execute, spec, opened) if spec else _probe
        _answer(work, RemoteFile(channel.read_source, int(job["size_bytes"])), limits, channel, own_status)


def _answer(
    work: Callable[[RemoteFile, Limits, Channel], dict[str, Any]],
    file: RemoteFile,
    limits: Limits,
    channel: Channel,
    own_status: IO[bytes],
) -> None:
    began_unix_ns = time.time_ns()
    try:
        answer = work(file, limits, channel)
    except RejectedSource as rejection:
        channel.send(FrameType.REJECTED, {"reason": rejection.reason.value, "message": rejection.message[:1000]})
    except MemoryError:
        message = f"the child needs more than {limits.address_space_bytes:,} bytes"
        channel.send(FrameType.FAILED, {"message": message, "detail": ""})
    except Exception as error:
        channel.send(FrameType.FAILED, _failure("the child failed", error))
    else:
        channel.stage("child", began_unix_ns, _usage(own_status))
        channel.send(FrameType.RESULT, answer)


def _failure(what: str, error: Exception) -> dict[str, str]:
    detail = "".join(traceback.format_exception(error))[-_DETAIL_CHARACTERS:]
    return {"message": f"{what}: {error!r}"[:500], "detail": detail}


def _probe(file: RemoteFile, limits: Limits, channel: Channel) -> dict[str, Any]:
    answer: dict[str, Any] = to_jsonable(probe_file(file, limits, channel))
    return answer


def _execute(
    spec: TaskSpec, opened: Mapping[str, VideoEncoder], file: RemoteFile, limits: Limits, channel: Channel
) -> dict[str, Any]:
    return outcome_to_json(_outcome(spec, opened, file, limits, channel))


def _outcome(
    spec: TaskSpec, opened: Mapping[str, VideoEncoder], file: RemoteFile, limits: Limits, channel: Channel
) -> Outcome:
    match spec:
        case ChunkSpec():
            return encode_chunk(spec, file, limits, channel, opened)
        case PassThroughSpec():
            return pass_through(spec, file, limits, channel)
        case AudioSpec():
            return encode_audio(spec, file, limits, channel)
        case PosterSpec():
            return encode_poster(spec, file, limits, channel)
        case ImageSpec():
            return encode_image(spec, file, limits, channel)


def _usage(own_status: IO[bytes]) -> dict[str, float]:
    """Processor time and peak memory. Not `ru_maxrss`, which begins with what the parent had at the fork."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    own_status.seek(0)
    peak = re.search(rb"VmHWM:\s+(\d+) kB", own_status.read())
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "max_rss_bytes": int(peak[1]) * 1024 if peak else 0,
    }
