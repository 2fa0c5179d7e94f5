"""The planner's use case: an original is complete; find out what it is and decide what becomes of it.

Safe to repeat: the first plan that is recorded stands, and so does the first failure.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import structlog

from services.runtime import semconv
from services.runtime.errors import DeadlineExceeded, InvalidArgument, NotFound, Stale, Unavailable
from services.transcode import originals, spans
from services.transcode.engine.errors import EngineFailed
from services.transcode.engine.limits import Limits
from services.transcode.engine_port import Engine
from services.transcode.failures import verdict_on
from services.transcode.originals import Original, OriginalChanged, OriginalMissing, RangeReader
from services.transcode.patience import PATIENT, Patience
from services.transcode.plan import AudioSpec, ImageSpec, PosterSpec, TaskSpec, VideoSpec, plan, spec_to_json
from services.transcode.source import MediaKind, RejectedSource, SourceInfo, to_jsonable
from services.transcode.tasks import Failure

LANE_VIDEO: Final = "video"
LANE_AUDIO: Final = "audio"
LANE_IMAGE: Final = "image"

PROBE_TRIES: Final = 3
"""Tries within one delivery after which a probe that keeps failing fails the media. The broker's count of deliveries
would not do: it also counts outages and restarts, which are nobody's fault."""
_TRY_AGAIN_AFTER_S: Final = 0.25

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
    """Probes originals and records their plans."""

    def __init__(
        self,
        *,
        engine: Engine,
        storage: RangeReader,
        bucket: str,
        plans: Plans,
        limits: Limits,
        patience: Patience = PATIENT,
    ) -> None:
        """Wires the use case.

        Args:
            engine: probes.
            storage: where originals lie.
            bucket: the originals' bucket.
            plans: where plans are recorded.
            limits: bounds of a probe; `PROBE_TRIES` times its wall clock bounds how long one message is held.
            patience: how long storage may be away before a probe gives up.
        """
        self._engine = engine
        self._storage = storage
        self._bucket = bucket
        self._plans = plans
        self._limits = limits
        self._patience = patience

    async def plan_media(self, uploaded: Uploaded) -> None:
        """Records a plan, or a failure with a reason. Returns when nothing is left to do for this message.

        Raises:
            Unavailable, DeadlineExceeded, Internal: storage or the metadata service is away or out of order; the
                message shall come again.
        """
        log = _log.bind(media_id=uploaded.media_id, generation=uploaded.generation)
        try:
            await self._plan_or_fail(uploaded)
        except (Stale, NotFound) as error:
            log.info("plan_dropped", reason=error.reason)

    async def _plan_or_fail(self, uploaded: Uploaded) -> None:
        try:
            source, tasks = await self._decided(uploaded)
        except (Unavailable, DeadlineExceeded):
            raise
        except Exception as error:
            # Whatever it is, the next delivery would meet it too, and a message that stays takes the place of others.
            return await self._fail(uploaded, error)
        try:
            await self._plans.record(uploaded.media_id, uploaded.generation, _json(to_jsonable(source)), tasks)
        except InvalidArgument as error:
            return await self._fail(uploaded, error)
        _log.info("media_planned", media_id=uploaded.media_id, generation=uploaded.generation, task_count=len(tasks))

    async def _decided(self, uploaded: Uploaded) -> tuple[SourceInfo, tuple[PlannedTask, ...]]:
        """What the original is and what becomes of it; a try that failed for no lasting reason is made again."""
        tries = 1
        while True:
            try:
                source = await self._probe(uploaded)
                return source, _planned(source, uploaded.kind)
            except (RejectedSource, OriginalChanged, Unavailable, DeadlineExceeded):
                raise
            except Exception as error:
                if tries == PROBE_TRIES:
                    raise
                _log.warning("probe_failed", media_id=uploaded.media_id, tries=tries, error=str(error))
            tries += 1
            await asyncio.sleep(_TRY_AGAIN_AFTER_S)

    async def _probe(self, uploaded: Uploaded) -> SourceInfo:
        attributes = {
            semconv.MEDIA_ID: uploaded.media_id,
            semconv.MEDIA_TYPE: uploaded.kind.value,
            semconv.MEDIA_SIZE_BYTES: uploaded.original.size_bytes,
        }
        with spans.TRACER.start_as_current_span("probe", attributes=attributes):
            async with originals.opened(
                self._storage, self._bucket, uploaded.original, patience=self._patience
            ) as source:
                return await self._engine.probe(source, self._limits, on_stage=spans.stage_recorder())

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
