"""The worker's use case: claim a task, encode it in a child, store what comes, record the result.

Delivery is at least once and late copies abound, so the message is only a hint: the claim decides, and its attempt
number fences everything after it. The lease is renewed only while the work advances; a renewal that is refused ends the
child at once. Whatever ends an attempt is recorded, so that the next one is queued by the database and not by luck.

Memory is shared out before the claim, since a lease is not for waiting. Nor is a message for waiting long, since
another process may have room: it is given back, and waited for the longer, the more often it has come, so that a large
task is not passed over for ever.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog
from opentelemetry import trace

from services.runtime import semconv
from services.runtime.errors import DeadlineExceeded, NotFound, Stale, Unavailable
from services.transcode import originals, spans
from services.transcode.admission import Admission, NoRoom
from services.transcode.artifacts import ArtifactFolder, ArtifactStore, folder_of
from services.transcode.encoders import IN_SOFTWARE, Encoders
from services.transcode.engine.errors import EngineFailed
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, Outcome
from services.transcode.engine_port import Engine
from services.transcode.failures import WORKER_STOPPING, verdict_on, wait_of
from services.transcode.language import bcp47
from services.transcode.originals import RangeReader
from services.transcode.patience import PATIENT, Patience
from services.transcode.slots import Pulse, Slots
from services.transcode.specs import AudioSpec, spec_from_json
from services.transcode.tasks import Claimed, Held, Obsolete, Result, Task, TaskRef, Tasks

_BEATS: Final = 3
"""Two signs of life may be lost before a lease ends or the broker takes the message for abandoned."""
_ANNOUNCE_EVERY_S: Final = 0.25
_RECORD_AGAIN_AFTER_S: Final = 1.0
_GIVE_BACK_WITHIN_S: Final = 2.0

_log = structlog.get_logger(__name__)

Keep = Callable[[], Awaitable[None]]
"""Tells the broker that the message is being worked on."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one attempt has come: `fraction` of the task, 0 to 1."""

    task: Task
    fraction: float


class Storage(RangeReader, ArtifactStore, Protocol):
    """Object storage as a worker uses it."""


class Announcer(Protocol):
    """Whoever cares how far things are; nobody is told of a loss."""

    async def announce(self, progress: Progress) -> None:
        """Tells them."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """How a worker behaves.

    Attributes:
        lease: how long a claim lasts without renewal; also how long an unrecorded result is offered again.
        ack_wait: how long a message may go without a sign of life before the broker delivers it again.
        limits: bounds of a child, by lane.
        originals_bucket: where originals lie.
        delivery_bucket: where artifacts go.
        patience: how long storage may be away before an attempt gives up.
    """

    lease: timedelta
    ack_wait: timedelta
    limits: Mapping[str, Limits]
    originals_bucket: str
    delivery_bucket: str
    patience: Patience = PATIENT


class Worker:
    """Works off tasks of any lane; one instance serves all slots of a process."""

    def __init__(
        self,
        *,
        engine: Engine,
        storage: Storage,
        tasks: Tasks,
        announcer: Announcer,
        slots: Slots,
        admission: Admission,
        policy: WorkerPolicy,
        encoders: Encoders = IN_SOFTWARE,
    ) -> None:
        self._engine = engine
        self._storage = storage
        self._tasks = tasks
        self._announcer = announcer
        self._slots = slots
        self._admission = admission
        self._policy = policy
        self._encoders = encoders

    async def work(self, ref: TaskRef, need_bytes: int, keep: Keep, deliveries: int = 1) -> timedelta | None:
        """Does what a message asks for, if it is still to be done.

        Args:
            ref: the task.
            need_bytes: the memory that it is expected to take.
            keep: holds the message while the work advances.
            deliveries: how often the message has come, from 1.

        Returns:
            None when the message is settled; else after how long it shall come again, since another worker holds the
            task or this one has no memory for it.

        Raises:
            Unavailable, DeadlineExceeded: the task's state is out of reach; the message shall come again.
        """
        ack_wait = self._policy.ack_wait
        try:
            async with self._admission.admitted(
                need_bytes, on_wait=keep, every=ack_wait / _BEATS, within=ack_wait * deliveries
            ):
                return await self._claimed(ref, keep)
        except NoRoom:
            _log.info("no_room_in_time", task_id=ref.task_id, media_id=ref.media_id, need_bytes=need_bytes)
            return timedelta(0)

    async def _claimed(self, ref: TaskRef, keep: Keep) -> timedelta | None:
        log = _log.bind(task_id=ref.task_id, media_id=ref.media_id)
        try:
            claim = await self._tasks.claim(
                ref, worker=self._slots.worker, lease=self._policy.lease, claim_id=uuid.uuid4().hex
            )
        except NotFound:
            log.warning("task_unknown")
            return None
        match claim:
            case Obsolete():
                log.info("task_obsolete")
                return None
            case Held(retry_after):
                return retry_after
            case Claimed():
                try:
                    await self._attempt(claim, keep)
                except asyncio.CancelledError:
                    log.info("task_given_back", attempt=claim.attempt)
                    await self._give_back(claim)
                    raise
                return None

    async def _attempt(self, claimed: Claimed, keep: Keep) -> None:
        task, attempt = claimed.task, claimed.attempt
        log = _log.bind(task_id=task.ref.task_id, media_id=task.ref.media_id, label=task.label, attempt=attempt)
        with _encode_span(claimed) as span:
            try:
                await self._perform(claimed, keep)
            except Stale:
                log.warning("attempt_overtaken")
                span.add_event("attempt_overtaken")
            except Exception as error:
                await self._fail(claimed, error, span)
            else:
                log.info("task_done")

    async def _perform(self, claimed: Claimed, keep: Keep) -> None:
        """Encodes, stores and records while lease and message are held; raises the first error, alone."""
        pulse = Pulse()
        try:
            with self._slots.taken(claimed, pulse):
                async with asyncio.TaskGroup() as group:
                    background = [
                        group.create_task(self._hold(claimed, pulse, keep)),
                        group.create_task(self._announce(claimed.task, pulse)),
                    ]
                    await self._record(claimed, await self._encode(claimed, pulse, group), pulse)
                    for each in background:
                        each.cancel()
        except BaseExceptionGroup as group_error:
            raise _decisive(group_error) from group_error
        await self._announcer.announce(Progress(claimed.task, 1.0))

    async def _encode(self, claimed: Claimed, pulse: Pulse, group: asyncio.TaskGroup) -> Result:
        task = claimed.task
        spec = spec_from_json(json.loads(task.spec_json))
        self._encoders.check(spec)
        patience = self._policy.patience
        folder = ArtifactFolder(
            self._storage,
            self._policy.delivery_bucket,
            folder_of(task, claimed.attempt),
            group,
            on_life=pulse.touch,
            patience=patience,
        )

        async def store(artifact: Artifact) -> None:
            await folder.add(artifact)
            pulse.touch()

        async with originals.opened(
            self._storage, self._policy.originals_bucket, task.original, on_life=pulse.touch, patience=patience
        ) as source:
            outcome: Outcome = await self._engine.execute(
                spec,
                source,
                self._policy.limits[task.lane],
                sink=store,
                on_progress=pulse.advance,
                on_stage=spans.stage_recorder(),
            )
        stored = await folder.stored(outcome)
        trace.get_current_span().set_attributes(spans.outcome_attributes(outcome, folder.size_bytes))
        language = bcp47(spec.language) if isinstance(spec, AudioSpec) else ""
        return Result(task.label, language, outcome, stored)

    async def _record(self, claimed: Claimed, result: Result, pulse: Pulse) -> None:
        """Records the result, patiently: a database that restarts shall not cost an encode."""
        try:
            async with asyncio.timeout(self._policy.lease.total_seconds()):
                while True:
                    try:
                        return await self._tasks.complete(claimed.task.ref, claimed.attempt, result)
                    except (Unavailable, DeadlineExceeded) as error:
                        _log.warning("result_not_recorded", task_id=claimed.task.ref.task_id, error=str(error))
                    pulse.touch()
                    await asyncio.sleep(_RECORD_AGAIN_AFTER_S)
        except TimeoutError as error:
            raise DeadlineExceeded("the result could not be recorded") from error

    async def _hold(self, claimed: Claimed, pulse: Pulse, keep: Keep) -> None:
        """Renews lease and message while the work advances; raises Stale once the attempt was overtaken."""
        beat = min(self._policy.lease, self._policy.ack_wait) / _BEATS
        while True:
            await asyncio.sleep(beat.total_seconds())
            if not pulse.beat():
                _log.warning("attempt_stalls", task_id=claimed.task.ref.task_id, attempt=claimed.attempt)
                continue
            await keep()
            try:
                await self._tasks.renew(claimed.task.ref, claimed.attempt, lease=self._policy.lease)
            except (Unavailable, DeadlineExceeded) as error:
                _log.warning("lease_not_renewed", task_id=claimed.task.ref.task_id, error=str(error))

    async def _announce(self, task: Task, pulse: Pulse) -> None:
        """Tells how far the task is, at most four times a second."""
        while True:
            await pulse.changed.wait()
            pulse.changed.clear()
            await self._announcer.announce(Progress(task, pulse.fraction))
            await asyncio.sleep(_ANNOUNCE_EVERY_S)

    async def _fail(self, claimed: Claimed, error: Exception, span: trace.Span) -> None:
        verdict = verdict_on(error)
        spans.failed(span, verdict.failure.reason, error)
        expected = verdict.permanent or verdict.release or isinstance(error, EngineFailed)
        _log.warning(
            "attempt_failed",
            task_id=claimed.task.ref.task_id,
            label=claimed.task.label,
            attempt=claimed.attempt,
            reason=verdict.failure.reason,
            permanent=verdict.permanent,
            counts=not verdict.release,
            error=str(error),
            exc_info=None if expected else error,
        )
        try:
            await self._tasks.fail(
                claimed.task.ref,
                claimed.attempt,
                verdict.failure,
                permanent=verdict.permanent,
                release=verdict.release,
                retry_after=wait_of(claimed.attempt) if verdict.release else timedelta(0),
            )
        except Stale:
            span.add_event("attempt_overtaken")

    async def _give_back(self, claimed: Claimed) -> None:
        """Lets another worker begin now; if that cannot be said in time, it begins when the lease ends."""
        ref = claimed.task.ref
        try:
            async with asyncio.timeout(_GIVE_BACK_WITHIN_S):
                await self._tasks.fail(ref, claimed.attempt, WORKER_STOPPING, permanent=False, release=True)
        except Exception as error:
            _log.warning("task_not_given_back", task_id=ref.task_id, error=str(error))


def _encode_span(claimed: Claimed) -> AbstractContextManager[trace.Span]:
    return spans.TRACER.start_as_current_span(
        f"encode {claimed.task.label}",
        record_exception=False,
        set_status_on_exception=False,
        attributes={
            semconv.MEDIA_ID: claimed.task.ref.media_id,
            semconv.MEDIA_GENERATION: claimed.task.ref.generation,
            semconv.TASK_ID: claimed.task.ref.task_id,
            semconv.TASK_LABEL: claimed.task.label,
            semconv.TASK_LANE: claimed.task.lane,
            semconv.TASK_ATTEMPT: claimed.attempt,
        },
    )


def _decisive(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that decides what becomes of an attempt: Stale above all, since then nothing may be recorded."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, Stale)), leaves[0])
