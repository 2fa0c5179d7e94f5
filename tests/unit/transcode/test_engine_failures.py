"""What happens when the source is bad, the child dies or hangs, or the caller fails."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from services.transcode.engine.errors import EngineCrashed, EngineTimeout
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, ChunkOutcome, Stage
from services.transcode.engine.run import execute, probe
from services.transcode.plan import Output, plan
from services.transcode.source import RejectedSource, RejectionReason
from services.transcode.specs import AudioSpec, ChunkSpec
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource, Shelf


class Pid:
    """Learns the child's process id from its first stage, and can act on it then."""

    def __init__(self, then: signal.Signals | None = None) -> None:
        self.number = 0
        self.known = asyncio.Event()
        self._then = then

    def on_stage(self, stage: Stage) -> None:
        if stage.name == "child start":
            self.number = int(stage.attributes["pid"])
            self.known.set()
            if self._then is not None:
                os.kill(self.number, self._then)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def ends(pid: int) -> None:
    deadline_s = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not is_alive(pid)


@pytest.fixture(scope="module")
async def specs(sample: bytes) -> tuple[ChunkSpec, AudioSpec]:
    source = await probe(BytesSource(sample), LIMITS)
    return sources.specs_of(source)


async def run(spec: ChunkSpec | AudioSpec, data: bytes, limits: Limits, pid: Pid) -> None:
    await execute(spec, BytesSource(data), limits, sink=Shelf().put, on_stage=pid.on_stage)


async def test_a_killed_child_is_a_crash(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    with pytest.raises(EngineCrashed, match="SIGKILL"):
        await run(specs[0], sample, LIMITS, Pid(signal.SIGKILL))


async def test_a_hanging_child_is_killed(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    pid = Pid(signal.SIGSTOP)
    with pytest.raises(EngineTimeout, match=r"no progress for 0\.5 s"):
        await run(specs[0], sample, replace(LIMITS, stall_s=0.5), pid)
    assert pid.known.is_set()
    assert not is_alive(pid.number)


async def test_the_wall_clock_ends_everything(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    pid = Pid(signal.SIGSTOP)
    with pytest.raises(EngineTimeout, match="not done after 1 s"):
        await run(specs[0], sample, replace(LIMITS, wall_clock_s=1.0), pid)
    assert pid.known.is_set()
    assert not is_alive(pid.number)


async def test_a_cancelled_task_leaves_no_child(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    pid = Pid(signal.SIGSTOP)
    task = asyncio.create_task(run(specs[0], sample, LIMITS, pid))
    await pid.known.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(pid.number)


async def test_too_little_memory_is_a_crash_not_a_verdict(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    with pytest.raises(EngineCrashed):
        await run(specs[0], sample, replace(LIMITS, address_space_bytes=140 << 20), Pid())


async def test_what_the_source_raises_passes_through(sample: bytes) -> None:
    class Broken(BytesSource):
        async def read(self, offset: int, length: int) -> bytes:
            raise ConnectionResetError("storage has gone")

    with pytest.raises(ConnectionResetError, match="storage has gone"):
        await probe(Broken(sample), LIMITS)


async def test_what_the_sink_raises_passes_through(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    async def full(_artifact: Artifact) -> None:
        raise TimeoutError("no room")

    with pytest.raises(TimeoutError, match="no room"):
        await execute(specs[1], BytesSource(sample), LIMITS, sink=full)


async def test_a_slow_sink_is_no_stall(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    stored = []

    async def slow(artifact: Artifact) -> None:
        await asyncio.sleep(1.6)
        stored.append(artifact.name)

    await execute(specs[1], BytesSource(sample), replace(LIMITS, stall_s=2.4), sink=slow)
    assert stored == ["init.mp4", "seg_00001.m4s", "seg_00002.m4s"]


async def test_a_child_inherits_neither_secrets_nor_open_files(sample: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_S3_SECRET_ACCESS_KEY", "not-for-children")
    environment: list[bytes] = []
    descriptors: list[Path] = []

    def look(stage: Stage) -> None:
        if stage.name == "child start":
            process = Path("/proc", str(stage.attributes["pid"]))
            environment.extend(process.joinpath("environ").read_bytes().split(b"\0"))
            descriptors.extend(process.joinpath("fd").iterdir())

    await probe(BytesSource(sample), LIMITS, on_stage=look)
    names = {entry.split(b"=")[0] for entry in environment if entry}
    assert names == {b"PYTHONPATH", b"LC_ALL", b"OPENBLAS_NUM_THREADS", b"SVT_LOG", b"MALLOC_ARENA_MAX"}
    # Standard three, the socket, and its own status to read its memory use from: none of the fork server's.
    assert len(descriptors) == 5


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


async def test_every_job_has_a_fresh_process_of_its_own(sample: bytes) -> None:
    seen = [Pid(), Pid()]
    parents = []
    for pid in seen:

        def look(stage: Stage, pid: Pid = pid) -> None:
            pid.on_stage(stage)
            if stage.name == "child start":
                parents.append(parent_of(pid.number))

        await probe(BytesSource(sample), LIMITS, on_stage=look)
        assert not is_alive(pid.number), "reaped before its job's answer is given"
    assert seen[0].number != seen[1].number
    assert parents[0] == parents[1] != os.getpid()
    assert threads_of(parents[0]) == 1, "what is forked from must have one thread"


async def test_when_the_fork_server_dies_its_children_fail_and_the_next_job_has_another(
    sample: bytes, specs: tuple[ChunkSpec, AudioSpec]
) -> None:
    pid = Pid()

    def end_it(stage: Stage) -> None:
        pid.on_stage(stage)
        if stage.name == "child start":
            os.kill(parent_of(pid.number), signal.SIGKILL)

    with pytest.raises(EngineCrashed, match="children are forked from has ended"):
        await execute(specs[0], BytesSource(sample), LIMITS, sink=Shelf().put, on_stage=end_it)
    ends(pid.number)
    assert (await probe(BytesSource(sample), LIMITS)).video is not None


PARENT = """
    import asyncio, sys
    from services.transcode.engine.limits import Limits
    from services.transcode.engine.run import probe

    class Never:
        size_bytes = 1000

        async def read(self, offset, length):
            await asyncio.sleep(3600)

    def started(stage):
        print(stage.attributes["pid"], flush=True)

    asyncio.run(probe(Never(), Limits(), on_stage=started))
"""


def test_a_killed_parent_leaves_no_child() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        # Stopped, it cannot notice by itself that nobody is there any more: the kernel has to end it.
        os.kill(child, signal.SIGSTOP)
        parent.kill()
    ends(child)


BUSY_PARENT = """
    import asyncio, os
    import uvloop
    from services.transcode.engine.limits import Limits
    from services.transcode.engine.run import probe
    from services.transcode.source import RejectedSource

    class Text:
        size_bytes = 1000

        async def read(self, offset, length):
            return b"a" * length

    async def main():
        try:
            await probe(Text(), Limits())
        except RejectedSource as verdict:
            print(verdict.reason_code)

    # Threads that the parent has and the child has not make such hooks crash; this one always does.
    os.register_at_fork(after_in_child=lambda: os._exit(1))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
"""


def test_nothing_of_its_parent_runs_in_a_child_before_it_is_one() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", textwrap.dedent(BUSY_PARENT)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.stdout.strip() == "not_media", done.stderr


async def rejection_of(data: bytes, limits: Limits = LIMITS) -> RejectedSource:
    with pytest.raises(RejectedSource) as rejection:
        await probe(BytesSource(data), limits)
    return rejection.value


FOUR_FRAMES = sources.constant_times(4, Fraction(1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectionReason.EMPTY),
        (b"Dear sir or madam", RejectionReason.NOT_MEDIA),
        (b"#EXTM3U\n#EXTINF:4,\nhttp://127.0.0.1/x.ts\n", RejectionReason.UNSUPPORTED_FORMAT),
        (b"\x00\x00\x00\x18ftypisom" + bytes(12), RejectionReason.TRUNCATED),
        (b"\x1aE\xdf\xa3" + bytes(range(256)) * 20, RejectionReason.CORRUPT),
        (b"RIFF\xff\x00\x00\x00AVI " + bytes(500), RejectionReason.CORRUPT),
    ],
)
async def test_junk_is_refused_with_a_reason(data: bytes, reason: RejectionReason) -> None:
    assert (await rejection_of(data)).reason is reason


async def test_limits_refuse_with_a_reason() -> None:
    data = sources.clip(FOUR_FRAMES, rate=Fraction(1))
    refused = [
        (replace(LIMITS, max_video_bytes=len(data) - 1), RejectionReason.FILE_TOO_LARGE),
        (replace(LIMITS, max_duration_s=3), RejectionReason.TOO_LONG),
        (replace(LIMITS, max_frame_pixels=160 * 90 - 1), RejectionReason.TOO_LARGE),
        (replace(LIMITS, max_streams=0), RejectionReason.TOO_MANY_STREAMS),
    ]
    for limits, reason in refused:
        assert (await rejection_of(data, limits)).reason is reason


async def test_more_frames_than_allowed_are_refused_while_encoding(
    sample: bytes, specs: tuple[ChunkSpec, AudioSpec]
) -> None:
    with pytest.raises(RejectedSource) as rejection:
        await run(specs[0], sample, replace(LIMITS, max_frames=50), Pid())
    assert rejection.value.reason is RejectionReason.TOO_LONG


async def test_sound_alone_is_refused(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    sound = (await sources.run(specs[1], sample)).file
    assert (await rejection_of(sound)).reason is RejectionReason.NO_VIDEO_TRACK


async def test_a_video_that_breaks_off_is_refused(sample: bytes, specs: tuple[ChunkSpec, AudioSpec]) -> None:
    timeline = replace(specs[0].timeline, frame_count=1000)
    with pytest.raises(RejectedSource) as rejection:
        await run(replace(specs[0], timeline=timeline, end_frame=1000), sample, LIMITS, Pid())
    assert rejection.value.reason is RejectionReason.TRUNCATED


async def test_damage_in_the_middle_is_survived_or_refused_but_never_a_crash(
    sample: bytes, specs: tuple[ChunkSpec, AudioSpec]
) -> None:
    media_data = sample.index(b"mdat") + 4
    for share in (0.02, 0.5):
        size = len(sample) - media_data
        hurt = bytearray(sample)
        middle = media_data + size // 2
        hurt[middle : middle + int(size * share / 2)] = b"\xff" * int(size * share / 2)
        result, rejection = None, None
        try:
            result = sources.joined([await sources.run(specs[0], bytes(hurt))])["180p"]
        except RejectedSource as verdict:
            rejection = verdict.reason
        assert rejection in (None, RejectionReason.CORRUPT, RejectionReason.TRUNCATED)
        assert result is None or len(sources.decoded(result.file)) == result.track.frame_count


async def test_packets_that_a_decoder_does_not_permit_are_damage() -> None:
    """Old decoders say -1 of what they cannot decode, which is also EPERM: no refusal of the sandbox, and no crash."""
    data = sources.clip(
        sources.constant_times(50, Fraction(25)),
        rate=Fraction(25),
        size_px=(176, 144),
        container="avi",
        codec="msmpeg4",
    )
    hurt = bytearray(data)
    for begin, end in avi_pictures(data)[10:13]:
        hurt[begin:end] = b"\xff" * (end - begin)
    source = await probe(BytesSource(bytes(hurt)), LIMITS)
    (video,) = plan(source, output=Output(sources.SMALL_LADDER[1:]), fleet=sources.ALONE)[:1]
    assert isinstance(video, ChunkSpec)
    assert isinstance((await sources.run(video, bytes(hurt))).outcome, ChunkOutcome)
    for begin, end in avi_pictures(data)[13:40]:
        hurt[begin:end] = b"\xff" * (end - begin)
    with pytest.raises(RejectedSource) as rejection:
        await sources.run(video, bytes(hurt))
    assert rejection.value.reason is RejectionReason.CORRUPT


def avi_pictures(data: bytes) -> list[tuple[int, int]]:
    """Where the pictures of an AVI begin and end, by its chunks."""
    found = []
    at = data.index(b"movi") + 4
    while data[at : at + 4] == b"00dc":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((at + 8, at + 8 + size))
        at += 8 + size + size % 2
    return found
