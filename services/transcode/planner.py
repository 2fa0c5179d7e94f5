"""The planner's use case: an original is complete; find out what it is and decide what becomes of it.

Nothing that a client claimed is believed: the bytes say whether they are an image or a video, and a checksum that
storage could not verify is verified here, first, so that damage is called damage and not a bad format.

Safe to repeat: the first plan that is recorded stands, and so does the first failure.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog

from services.runtime import semconv
from services.runtime.errors import DeadlineExceeded, InvalidArgument, NotFound, Stale, Unavailable
from services.transcode import checksums, memory, originals, per_title, sampling, spans
from services.transcode.admission import Admission, NoRoom
from services.transcode.engine.errors import EngineFailed, EngineUnready
from services.transcode.engine.limits import Limits
from services.transcode.engine_port import Engine
from services.transcode.failures import verdict_on
from services.transcode.ladder import Step
from services.transcode.originals import Original, OriginalChanged, OriginalMissing, OriginalReader, RangeReader
from services.transcode.patience import PATIENT, Patience
from services.transcode.plan import DEFAULT_OUTPUT, Fleet, Output, plan
from services.transcode.source import MediaKind, RejectedSource, SourceInfo, to_jsonable
from services.transcode.specs import (
    AudioSpec,
    ChunkSpec,
    ImageSpec,
    PassThroughSpec,
    PosterSpec,
    TaskSpec,
    spec_to_json,
)
from services.transcode.tasks import Failure

LANE_VIDEO: Final = "video"
LANE_AUDIO: Final = "audio"
LANE_IMAGE: Final = "image"

TRIES: Final = 3
"""Tries within one delivery after which a probe that keeps failing fails the media; likewise a verification. The
broker's count of deliveries would not do: it also counts outages and restarts, which are nobody's fault."""
_TRY_AGAIN_AFTER_S: Final = 0.25
_ROOM_WITHIN: Final = timedelta(seconds=10)
"""A video does without samples where memory for them is not free by then."""
_BUSY: Final = timedelta(seconds=5)
"""Until a message for which there is no slot comes again, times its deliveries: another process may have one then."""
_LONGEST_BUSY: Final = timedelta(seconds=30)
_MAX_BUSY_DELIVERIES: Final = 12
"""Not quite five minutes of waits. By then the outbox of metadata has said the message again, and goes on to do so
every five minutes: without an end, the copies that wait would become ever more."""

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A media whose original is complete.

    Attributes:
        user_id: its owner.
        media_id: the media.
        generation: to be made.
        original: the pinned bytes.
        expected_sha256: what the whole original must have, where storage could not verify that; else None.
    """

    user_id: str
    media_id: str
    generation: int
    original: Original
    expected_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task as it is recorded.

    Attributes:
        label: as in its spec.
        lane: of the work queue.
        spec_json: the engine's specification.
        cost_share: its part of the whole cost; all parts add up to 1.
        memory_bytes: the most that its child is expected to hold.
    """

    label: str
    lane: str
    spec_json: str
    cost_share: float
    memory_bytes: int


class Plans(Protocol):
    """Where plans are kept. Each call raises Unavailable or DeadlineExceeded when there is no answer."""

    async def is_wanted(self, user_id: str, media_id: str, generation: int) -> bool:
        """Whether the generation is still to be planned.

        Raises:
            NotFound: no such media.
        """
        ...

    async def record(
        self, media_id: str, generation: int, kind: MediaKind, source_json: str, tasks: Sequence[PlannedTask]
    ) -> None:
        """Records the plan of a generation, unless it has one, and queues its tasks.

        Args:
            media_id: the media.
            generation: its generation.
            kind: what the bytes are; takes the place of what was claimed.
            source_json: what the probe found.
            tasks: at least one.

        Raises:
            Stale: the generation was overtaken, or is final.
            NotFound: no such media.
            InvalidArgument: the plan can never be recorded.
        """
        ...

    async def fail_media(self, media_id: str, generation: int, failure: Failure) -> None:
        """Fails the media for good, unless it is final.

        Raises:
            Stale: the generation was overtaken.
            NotFound: no such media.
        """
        ...


class Planner:
    """Verifies and probes originals, and records their plans; one instance serves all slots of a process."""

    def __init__(
        self,
        *,
        engine: Engine,
        storage: RangeReader,
        bucket: str,
        plans: Plans,
        limits: Limits,
        probe_slots: int,
        verification_slots: int,
        fleet: Fleet,
        admission: Admission,
        output: Output = DEFAULT_OUTPUT,
        per_title: bool = False,
        patience: Patience = PATIENT,
    ) -> None:
        """Wires the use case.

        Args:
            engine: probes.
            storage: where originals lie.
            bucket: the originals' bucket.
            plans: where plans are recorded.
            limits: bounds of a probe. Its wall clock is for the smallest original and grows with the size: where a file
                has no index, all of it is read. `TRIES` times that, and what storage loses, is the most one takes.
            probe_slots: probes at once: each is a child that may fill a core.
            verification_slots: verifications at once. Each may take minutes, and mostly waits for storage: with slots
                of their own, they keep no image waiting.
            fleet: who will encode.
            admission: the memory of this process, for encodes of samples.
            output: what originals shall become.
            per_title: whether to leave out steps that a video does not need.
            patience: how long storage may be away before a probe gives up.
        """
        self._engine = engine
        self._storage = storage
        self._bucket = bucket
        self._plans = plans
        self._limits = limits
        self._fleet = fleet
        self._output = output
        self._per_title = per_title
        self._admission = admission
        self._patience = patience
        self._probes = asyncio.Semaphore(probe_slots)
        # One at a time: each takes seconds of a core, while probes of others go on.
        self._sampling = asyncio.Semaphore(1)
        self._verifications = asyncio.Semaphore(verification_slots)
        self._in_hand: set[tuple[str, int]] = set()

    async def plan_media(self, uploaded: Uploaded, deliveries: int = 1) -> timedelta | None:
        """Records a plan, or a failure with a reason.

        Whoever waits for the plan may say the message again before a long verification has ended. A copy that comes
        meanwhile is done with at once: should the first one come to nothing, it comes again itself. One that comes
        later reads no original: whether it is still wanted is asked first.

        Args:
            uploaded: the media.
            deliveries: how often the message has come, from 1.

        Returns:
            None when nothing is left to do for this message; else after how long it shall come again, since all slots
            for verifications are taken, or this machine has no child for a probe.

        Raises:
            Unavailable, DeadlineExceeded, Internal: storage or the metadata service is away or out of order; the
                message shall come again.
        """
        log = _log.bind(media_id=uploaded.media_id, generation=uploaded.generation)
        name = (uploaded.media_id, uploaded.generation)
        if name in self._in_hand:
            log.info("plan_under_way")
            return None
        self._in_hand.add(name)
        try:
            # First: those who wait come often, and are to cost nobody else a question.
            if self._has_no_slot_for(uploaded):
                return _busy(deliveries)
            if not await self._plans.is_wanted(uploaded.user_id, uploaded.media_id, uploaded.generation):
                log.info("plan_no_longer_wanted")
                return None
            if self._has_no_slot_for(uploaded):  # any more
                return _busy(deliveries)
            await self._plan_or_fail(uploaded)
        except EngineUnready as error:
            log.warning("planner_unready", error=str(error))
            return _busy(deliveries)
        except (Stale, NotFound) as error:
            log.info("plan_dropped", reason=error.reason)
        finally:
            self._in_hand.discard(name)
        return None

    def _has_no_slot_for(self, uploaded: Uploaded) -> bool:
        return uploaded.expected_sha256 is not None and self._verifications.locked()

    async def _plan_or_fail(self, uploaded: Uploaded) -> None:
        try:
            source, tasks = await self._decided(uploaded)
        except (Unavailable, DeadlineExceeded, EngineUnready):
            raise
        except Exception as error:
            # Whatever it is, the next delivery would meet it too, and a message that stays takes the place of others.
            return await self._fail(uploaded, error)
        try:
            await self._plans.record(
                uploaded.media_id, uploaded.generation, source.kind, _json(to_jsonable(source)), tasks
            )
        except InvalidArgument as error:
            return await self._fail(uploaded, error)
        _log.info("media_planned", media_id=uploaded.media_id, generation=uploaded.generation, task_count=len(tasks))

    async def _decided(self, uploaded: Uploaded) -> tuple[SourceInfo, tuple[PlannedTask, ...]]:
        """What the original is, and what becomes of it."""
        await self._tried(self._verify, uploaded)
        source = await self._tried(self._probe, uploaded)
        output = self._output
        if self._per_title:
            output = replace(output, ladder=await self._tried(partial(self._worthwhile, source), uploaded))
        with spans.TRACER.start_as_current_span("plan") as span:
            specs = plan(source, output=output, fleet=self._fleet)
            span.set_attribute(semconv.TASK_COUNT, len(specs))
        return source, _recorded(source, specs)

    async def _tried(self, reading: Callable[[Uploaded], Awaitable[_T]], uploaded: Uploaded) -> _T:
        """What reading the original gave; a try that failed for no lasting reason is made again."""
        tries = 1
        while True:
            try:
                return await reading(uploaded)
            except (RejectedSource, OriginalChanged, Unavailable, DeadlineExceeded, EngineUnready):
                raise
            except Exception as error:
                if tries == TRIES:
                    raise
                _log.warning("reading_failed", media_id=uploaded.media_id, tries=tries, error=str(error))
            tries += 1
            await asyncio.sleep(_TRY_AGAIN_AFTER_S)

    async def _verify(self, uploaded: Uploaded) -> None:
        if uploaded.expected_sha256 is None:
            return
        within = checksums.longest(uploaded.original.size_bytes)
        async with self._verifications, self._opened(uploaded) as source:
            with spans.TRACER.start_as_current_span("verify checksum", attributes=_attributes(uploaded)):
                await checksums.verify(source, uploaded.expected_sha256, within=within)

    async def _probe(self, uploaded: Uploaded) -> SourceInfo:
        async with self._probes, self._opened(uploaded) as source:
            with spans.TRACER.start_as_current_span("probe", attributes=_attributes(uploaded)) as span:
                limits = self._limits_of(uploaded)
                found = await self._engine.probe(source, limits, on_stage=spans.stage_recorder())
                span.set_attribute(semconv.MEDIA_TYPE, found.kind.value)
                return found

    async def _worthwhile(self, source: SourceInfo, uploaded: Uploaded) -> tuple[Step, ...]:
        """The steps that the video needs; all of them, where that cannot be found out."""
        ladder = self._output.ladder
        samples = per_title.samples(plan(source, output=Output(ladder, pass_through=False), fleet=Fleet(1)))
        if not samples:
            return ladder
        need_bytes = max(memory.need_of(sample, source) for sample in samples)
        limits = self._limits_of(uploaded)
        async with self._sampling, self._opened(uploaded) as original:
            with spans.TRACER.start_as_current_span("sample", attributes=_attributes(uploaded)) as span:
                try:
                    async with self._admission.admitted(need_bytes, within=_ROOM_WITHIN):
                        needs_bps = await sampling.needs_bps(self._engine, samples, original, limits)
                except EngineUnready:
                    raise
                except (RejectedSource, EngineFailed, NoRoom) as error:
                    _log.warning("sampling_failed", media_id=uploaded.media_id, error=str(error))
                    return ladder
                needs_bps = {**needs_bps, **self._passed_bps(source)}
                kept = per_title.worthwhile(ladder, samples[0].renditions, needs_bps)
                span.set_attribute(semconv.STEPS, [step.label for step in kept])
                return kept

    def _passed_bps(self, source: SourceInfo) -> dict[str, int]:
        """What the largest rendition takes where it is not encoded, by its label."""
        first = plan(source, output=self._output, fleet=self._fleet)[0]
        if not isinstance(first, PassThroughSpec) or source.video is None or source.video.h264 is None:
            return {}
        return {first.rendition.label: source.video.h264.peak_bps}

    def _limits_of(self, uploaded: Uploaded) -> Limits:
        reading_s = originals.longest_reading(uploaded.original.size_bytes).total_seconds()
        return replace(self._limits, wall_clock_s=self._limits.wall_clock_s + reading_s)

    def _opened(self, uploaded: Uploaded) -> AbstractAsyncContextManager[OriginalReader]:
        return originals.opened(self._storage, self._bucket, uploaded.original, patience=self._patience)

    async def _fail(self, uploaded: Uploaded, error: Exception) -> None:
        failure = verdict_on(error).failure
        expected = isinstance(error, RejectedSource | OriginalChanged | OriginalMissing | EngineFailed)
        _log.log(
            logging.INFO if expected else logging.ERROR,
            "media_refused",
            media_id=uploaded.media_id,
            generation=uploaded.generation,
            reason=failure.reason,
            error=str(error),
            exc_info=None if expected else error,
        )
        await self._plans.fail_media(uploaded.media_id, uploaded.generation, failure)


def _busy(deliveries: int) -> timedelta | None:
    """After how long a message without a slot comes again; None where its next copy takes over."""
    return min(deliveries * _BUSY, _LONGEST_BUSY) if deliveries <= _MAX_BUSY_DELIVERIES else None


def _attributes(uploaded: Uploaded) -> dict[str, str | int]:
    return {semconv.MEDIA_ID: uploaded.media_id, semconv.MEDIA_SIZE_BYTES: uploaded.original.size_bytes}


def _recorded(source: SourceInfo, specs: Sequence[TaskSpec]) -> tuple[PlannedTask, ...]:
    return tuple(
        PlannedTask(spec.label, lane_of(spec), _json(spec_to_json(spec)), share, memory.need_of(spec, source))
        for spec, share in zip(specs, cost_shares(specs), strict=True)
    )


def lane_of(spec: TaskSpec) -> str:
    """The lane a task waits in.

    A poster is a still, but it takes the memory of a video's decoder: workers of the image lane stay small.
    """
    match spec:
        case ChunkSpec() | PassThroughSpec() | PosterSpec():
            return LANE_VIDEO
        case AudioSpec():
            return LANE_AUDIO
        case ImageSpec():
            return LANE_IMAGE


def cost_shares(specs: Sequence[TaskSpec]) -> tuple[float, ...]:
    """Each task's part of the whole cost; they add up to 1 exactly, the last one taking what rounding left."""
    total = sum(spec.cost for spec in specs)
    first = [float(Fraction(spec.cost, total)) for spec in specs[:-1]]
    return (*first, 1.0 - sum(first))


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
