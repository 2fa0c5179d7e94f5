"""The planner's use case: an original is complete; find out what it is and decide what becomes of it.

Safe to repeat: the first plan that is recorded stands, and so does the first failure.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import structlog

from services.runtime import semconv
from services.runtime.errors import NotFound, Stale
from services.transcode import originals, spans
from services.transcode.engine.errors import EngineFailed
from services.transcode.engine.limits import Limits
from services.transcode.engine_port import Engine
from services.transcode.failures import verdict_on
from services.transcode.originals import Original, OriginalChanged, OriginalMissing, RangeReader
from services.transcode.plan import AudioSpec, ImageSpec, PosterSpec, TaskSpec, VideoSpec, plan, spec_to_json
from services.transcode.source import MediaKind, RejectedSource, SourceInfo, to_jsonable
from services.transcode.tasks import Failure

LANE_VIDEO: Final = "video"
LANE_AUDIO: Final = "audio"
LANE_IMAGE: Final = "image"

PROBE_ATTEMPTS: Final = 4
"""Deliveries of one message after which a probe that keeps failing counts as the original's fault. The count is the
broker's and only a hint, but all it decides is when to record a failure with a reason."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A media whose original is complete."""

    media_id: str
    generation: int
    kind: MediaKind
    original: Original


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task as it is recorded. `cost_share` is its part of the whole cost; all parts add up to 1."""

    label: str
    lane: str
    spec_json: str
    cost_share: float


class Plans(Protocol):
    """Where plans are kept. Each call raises Unavailable or DeadlineExceeded when there is no answer."""

    async def record(self, media_id: str, generation: int, source_json: str, tasks: Sequence[PlannedTask]) -> None:
        """Records the plan of a generation, unless it has one, and queues its tasks.

        Raises:
            Stale: the generation was overtaken, or is final.
            NotFound: no such media.
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
    """Probes originals and records their plans."""

    def __init__(self, *, engine: Engine, storage: RangeReader, bucket: str, plans: Plans, limits: Limits) -> None:
        """Wires the use case.

        Args:
            engine: probes.
            storage: where originals lie.
            bucket: the originals' bucket.
            plans: where plans are recorded.
            limits: bounds of a probe; its wall clock bounds how long one message is held.
        """
        self._engine = engine
        self._storage = storage
        self._bucket = bucket
        self._plans = plans
        self._limits = limits

    async def plan_media(self, uploaded: Uploaded, *, delivery_count: int) -> None:
        """Records a plan, or a failure with a reason. Returns when nothing is left to do for this message.

        Args:
            uploaded: what arrived.
            delivery_count: how often this message was delivered, from 1.

        Raises:
            EngineFailed, OriginalMissing, MillraceError: not now; the message shall come again.
        """
        log = _log.bind(media_id=uploaded.media_id, generation=uploaded.generation)
        try:
            await self._plan_or_fail(uploaded, delivery_count)
        except (Stale, NotFound) as error:
            log.info("plan_dropped", reason=error.reason)

    async def _plan_or_fail(self, uploaded: Uploaded, delivery_count: int) -> None:
        try:
            source = await self._probe(uploaded)
            tasks = _planned(source, uploaded.kind)
        except (RejectedSource, OriginalChanged) as error:
            await self._fail(uploaded, error)
        except (EngineFailed, OriginalMissing) as error:
            if delivery_count < PROBE_ATTEMPTS:
                raise
            await self._fail(uploaded, error)
        else:
            await self._plans.record(uploaded.media_id, uploaded.generation, _json(to_jsonable(source)), tasks)
            _log.info(
                "media_planned", media_id=uploaded.media_id, generation=uploaded.generation, task_count=len(tasks)
            )

    async def _probe(self, uploaded: Uploaded) -> SourceInfo:
        attributes = {
            semconv.MEDIA_ID: uploaded.media_id,
            semconv.MEDIA_TYPE: uploaded.kind.value,
            semconv.MEDIA_SIZE_BYTES: uploaded.original.size_bytes,
        }
        with spans.TRACER.start_as_current_span("probe", attributes=attributes):
            async with originals.opened(self._storage, self._bucket, uploaded.original) as source:
                return await self._engine.probe(source, self._limits, on_stage=spans.stage_recorder())

    async def _fail(self, uploaded: Uploaded, error: Exception) -> None:
        failure = verdict_on(error).failure
        _log.info(
            "media_refused",
            media_id=uploaded.media_id,
            generation=uploaded.generation,
            reason=failure.reason,
            error=str(error),
        )
        await self._plans.fail_media(uploaded.media_id, uploaded.generation, failure)


def _planned(source: SourceInfo, kind: MediaKind) -> tuple[PlannedTask, ...]:
    with spans.TRACER.start_as_current_span("plan") as span:
        specs = plan(source, kind)
        span.set_attribute(semconv.TASK_COUNT, len(specs))
        return tuple(
            PlannedTask(spec.label, lane_of(spec), _json(spec_to_json(spec)), share)
            for spec, share in zip(specs, cost_shares(specs), strict=True)
        )


def lane_of(spec: TaskSpec) -> str:
    """The lane a task waits in.

    A poster is a still, but it takes the memory of a video's decoder: workers of the image lane stay small.
    """
    match spec:
        case VideoSpec() | PosterSpec():
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
