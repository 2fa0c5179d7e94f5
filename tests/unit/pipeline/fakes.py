"""Hand-written fakes of the pipeline's ports: they keep what was done, and fail when they are told to."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction

from services.runtime.errors import AlreadyExists, NotFound, Stale
from services.transcode import memory
from services.transcode.admission import Admission
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import (
    Artifact,
    ChunkOutcome,
    ImageOutcome,
    ImagesOutcome,
    Outcome,
    Segment,
    Stage,
    TrackOutcome,
    TrackPiece,
)
from services.transcode.engine_port import ByteSource
from services.transcode.originals import Original
from services.transcode.patience import Patience
from services.transcode.plan import DEFAULT_OUTPUT, Fleet, Output
from services.transcode.planner import PlannedTask, Planner
from services.transcode.source import (
    AudioStreamInfo,
    ColourInfo,
    ContainerFormat,
    ImageInfo,
    MediaKind,
    SourceInfo,
    VideoStreamInfo,
)
from services.transcode.specs import ImageSpec, TaskSpec, spec_to_json
from services.transcode.tasks import Claim, Claimed, Failure, Held, Obsolete, Result, Task, TaskRef
from services.transcode.worker import Progress

USER_ID = "user-1"
MEDIA_ID = "01890000-0000-7abc-8000-000000000001"
ORIGINAL_BYTES = bytes(range(256)) * 64
ORIGINAL = Original("abc/media/original", "etag-1", len(ORIGINAL_BYTES))

IMAGE_SOURCE = SourceInfo(
    kind=MediaKind.IMAGE,
    container=ContainerFormat.JPEG,
    size_bytes=ORIGINAL.size_bytes,
    duration_s=Fraction(0),
    video=None,
    audio=(),
    image=ImageInfo(4000, 3000, orientation=6, has_alpha=False, is_animated=False),
)
VIDEO_SOURCE = SourceInfo(
    kind=MediaKind.VIDEO,
    container=ContainerFormat.MP4,
    size_bytes=ORIGINAL.size_bytes,
    duration_s=Fraction(10),
    video=VideoStreamInfo(
        stream_index=0,
        codec="h264",
        pix_fmt="yuv420p",
        coded_width_px=1920,
        coded_height_px=1080,
        display_width_px=1920,
        display_height_px=1080,
        rotation_degrees=0,
        sample_aspect_ratio=Fraction(1),
        frame_rate=Fraction(30),
        frame_count=300,
        start_s=Fraction(0),
        interlaced=False,
        colour=ColourInfo(1, 1, 1, full_range=False),
        random_access=True,
        key_frame_interval_s=Fraction(2),
        h264=None,
    ),
    audio=(AudioStreamInfo(1, "aac", 2, 48_000, "eng"),),
    image=None,
)

FLEET = Fleet(4)

SHORT_PATIENCE = Patience(lasts_s=0.4, first_wait_s=0.01, longest_wait_s=0.02)

IMAGE_SPEC = ImageSpec(label="image", sizes_px=(1200,), cost=1)


def artifact(name: str, data: bytes, content_type: str = "video/mp4") -> Artifact:
    return Artifact(name, content_type, data, hashlib.sha256(data).hexdigest())


INIT = artifact("720p/init.mp4", b"init")
SEGMENTS = (artifact("720p/seg_00001.m4s", b"segment 0"), artifact("720p/seg_00002.m4s", b"segment one"))
TRACK = TrackOutcome(
    init_name=INIT.name,
    segments=tuple(
        Segment(each.name, 120_000, len(each.data), frame_count=120, keyframe_size_bytes=4) for each in SEGMENTS
    ),
    timescale=30_000,
    codecs="avc1.64001f",
    width_px=1280,
    height_px=720,
    frame_rate=Fraction(30),
    frame_count=240,
    channels=0,
    average_bps=2_000,
    peak_bps=3_000,
)
JPEG = artifact("1200.jpg", b"jpeg", "image/jpeg")
IMAGES = ImagesOutcome((ImageOutcome("1200.jpg", 1200, 900, 1200, len(JPEG.data), "image/jpeg"),), "AAECAwQF")


def task(spec: TaskSpec = IMAGE_SPEC, *, lane: str = "image", task_id: str = "task-1") -> Task:
    return Task(
        ref=TaskRef(task_id, MEDIA_ID, 1),
        lane=lane,
        label=spec.label,
        spec_json=json.dumps(spec_to_json(spec)),
        cost_share=0.25,
        original=ORIGINAL,
        delivery_prefix="abc/media/1/token",
    )


@dataclass
class FakeStorage:
    """Both buckets in memory; write-once, conditional on the entity tag."""

    objects: dict[tuple[str, str], bytes] = field(
        default_factory=lambda: {("originals", ORIGINAL.s3_key): ORIGINAL_BYTES}
    )
    etag: str = ORIGINAL.etag
    reads: list[tuple[int, int]] = field(default_factory=list)
    put_error: Exception | None = None
    put_s: float = 0.0
    lose_put_replies: bool = False
    script: dict[str, list[Exception]] = field(default_factory=dict)

    async def read(self, bucket: str, key: str, *, etag: str, offset: int, length: int) -> bytes:
        await asyncio.sleep(0)
        self.reads.append((offset, length))
        self._scripted("read")
        if (bucket, key) not in self.objects:
            raise NotFound("no such object")
        if etag != self.etag:
            raise AlreadyExists("other bytes")
        return self.objects[bucket, key][offset : offset + length]

    async def put(self, bucket: str, key: str, data: bytes, *, content_type: str, sha256: bytes) -> None:
        await asyncio.sleep(0)
        assert hashlib.sha256(data).digest() == sha256
        await asyncio.sleep(self.put_s)
        self._scripted("put")
        if self.put_error:
            raise self.put_error
        if (bucket, key) in self.objects:
            raise AlreadyExists("taken")
        self.objects[bucket, key] = data
        if self.lose_put_replies:
            raise AlreadyExists("the repeat of a PUT whose reply was lost")

    async def get(self, bucket: str, key: str) -> bytes:
        self._scripted("get")
        return self.objects[bucket, key]

    def _scripted(self, call: str) -> None:
        if errors := self.script.get(call):
            raise errors.pop(0)


Behaviour = Callable[["Job"], Awaitable[Outcome]]


@dataclass(frozen=True)
class Job:
    """What an engine was asked to execute."""

    spec: TaskSpec
    source: ByteSource
    sink: Callable[[Artifact], Awaitable[None]]
    on_progress: Callable[[float], None]
    on_stage: Callable[[Stage], None]


async def make_image(job: Job) -> Outcome:
    """An engine that does what is expected of it."""
    assert await job.source.read(0, 16) == ORIGINAL_BYTES[:16]
    job.on_progress(0.5)
    job.on_stage(Stage("decode", 1, 2, {"pixels": 12}))
    await job.sink(JPEG)
    return IMAGES


async def make_chunk(job: Job) -> Outcome:
    for each in (INIT, *SEGMENTS):
        await job.sink(each)
        job.on_progress(0.5)
    return ChunkOutcome((TrackPiece("720p", TRACK),))


async def hang(job: Job) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


def raising(error: Exception) -> Behaviour:
    async def behave(job: Job) -> Outcome:
        raise error

    return behave


@dataclass
class FakeEngine:
    """Behaves as told; counts children that began and ended."""

    behaviour: Behaviour = make_image
    found: SourceInfo | Exception | list[SourceInfo | Exception] = IMAGE_SOURCE
    limits: list[Limits] = field(default_factory=list)
    probed: int = 0
    began: int = 0
    ended: int = 0

    async def probe(
        self, source: ByteSource, limits: Limits, *, on_stage: Callable[[Stage], None] = lambda _: None
    ) -> SourceInfo:
        self.limits.append(limits)
        await source.read(0, 16)
        self.probed += 1
        found = self.found.pop(0) if isinstance(self.found, list) else self.found
        if isinstance(found, Exception):
            raise found
        return found

    async def execute(
        self,
        spec: TaskSpec,
        source: ByteSource,
        limits: Limits,
        *,
        sink: Callable[[Artifact], Awaitable[None]],
        on_progress: Callable[[float], None] = lambda _: None,
        on_stage: Callable[[Stage], None] = lambda _: None,
    ) -> Outcome:
        self.began += 1
        try:
            return await self.behaviour(Job(spec, source, sink, on_progress, on_stage))
        finally:
            self.ended += 1


@dataclass
class FakeTasks:
    """One task with an attempt counter, as the metadata service keeps it; `script` raises on the next calls."""

    task: Task = field(default_factory=task)
    attempt: int = 0
    held_for: timedelta | None = None
    done: Result | None = None
    failures: list[tuple[Failure, bool, bool]] = field(default_factory=list)
    waits: list[timedelta] = field(default_factory=list)
    claim_ids: list[str] = field(default_factory=list)
    renewals: int = 0
    script: dict[str, list[Exception]] = field(default_factory=dict)

    async def claim(self, ref: TaskRef, *, worker: str, lease: timedelta, claim_id: str) -> Claim:
        self.claim_ids.append(claim_id)
        self._scripted("claim")
        if self.done:
            return Obsolete()
        if self.held_for is not None:
            return Held(self.held_for)
        self.attempt += 1
        return Claimed(self.task, self.attempt)

    async def renew(self, ref: TaskRef, attempt: int, *, lease: timedelta) -> None:
        self._scripted("renew")
        self._fence(attempt)
        self.renewals += 1

    async def complete(self, ref: TaskRef, attempt: int, result: Result) -> None:
        self._scripted("complete")
        self._fence(attempt)
        self.done = result

    async def fail(
        self,
        ref: TaskRef,
        attempt: int,
        failure: Failure,
        *,
        permanent: bool,
        release: bool,
        retry_after: timedelta = timedelta(0),
    ) -> None:
        self._scripted("fail")
        self._fence(attempt)
        self.failures.append((failure, permanent, release))
        self.waits.append(retry_after)

    def _fence(self, attempt: int) -> None:
        if attempt != self.attempt:
            raise Stale("overtaken")

    def _scripted(self, call: str) -> None:
        if errors := self.script.get(call):
            raise errors.pop(0)


@dataclass
class FakePlans:
    """Plans and failures as recorded."""

    recorded: list[tuple[str, int, MediaKind, str, Sequence[PlannedTask]]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    error: Exception | None = None

    async def is_wanted(self, user_id: str, media_id: str, generation: int) -> bool:
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return user_id == USER_ID and media_id not in {media_id for media_id, *_ in self.recorded}

    async def record(
        self, media_id: str, generation: int, kind: MediaKind, source_json: str, tasks: Sequence[PlannedTask]
    ) -> None:
        if self.error:
            raise self.error
        self.recorded.append((media_id, generation, kind, source_json, tasks))

    async def fail_media(self, media_id: str, generation: int, failure: Failure) -> None:
        if self.error:
            raise self.error
        self.failed.append(failure)


@dataclass
class FakeAnnouncer:
    """What was announced."""

    announced: list[Progress] = field(default_factory=list)

    async def announce(self, progress: Progress) -> None:
        self.announced.append(progress)


def planner(
    engine: FakeEngine,
    plans: FakePlans,
    storage: FakeStorage | None = None,
    *,
    verification_slots: int = 2,
    per_title: bool = False,
    output: Output = DEFAULT_OUTPUT,
    admission: Admission | None = None,
) -> Planner:
    """A planner among fakes."""
    return Planner(
        engine=engine,
        storage=storage or FakeStorage(),
        bucket="originals",
        plans=plans,
        limits=Limits(),
        probe_slots=2,
        verification_slots=verification_slots,
        fleet=FLEET,
        admission=admission or Admission(4 * memory.ORDINARY_BYTES),
        per_title=per_title,
        output=output,
        patience=SHORT_PATIENCE,
    )
