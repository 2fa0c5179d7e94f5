"""Plans and the work they ask for: recorded once, leased to one attempt at a time, fenced by its number.

Every use case but a renewal takes the lock of the media first and of the task second, so that two last results at once
are counted one after the other, and nothing can deadlock.
"""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from media.v1 import media_pb2
from services.metadata import from_pb, state
from services.metadata.joining import joined
from services.metadata.lifecycle import fail, lock_media
from services.metadata.outbox import messages
from services.metadata.records import Failure, Media, MediaType, PlannedTask, Result, Task, TaskId, TaskState
from services.metadata.state import RetryPolicy
from services.metadata.store import Store, Transaction
from services.runtime import ids, telemetry
from services.runtime.errors import InvalidArgument, NotFound, Stale
from services.runtime.ids import MediaId

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A lease: the task, its media, and the number of the attempt that holds it."""

    task: Task
    media: Media
    attempt: int


@dataclass(frozen=True, slots=True)
class Tasks:
    """The use cases of planning and encoding."""

    store: Store
    policy: RetryPolicy

    async def record_plan(
        self,
        media_id: MediaId,
        generation: int,
        source_json: str,
        planned: Sequence[PlannedTask],
        type: MediaType | None = None,
    ) -> int:
        """Records a plan and queues its tasks; the first plan of a generation stays.

        Args:
            media_id: the media.
            generation: the one that is planned.
            source_json: what its original was found to be.
            planned: the tasks, at least one.
            type: what the bytes are; None leaves what was claimed.

        Returns:
            How many tasks the recorded plan has.

        Raises:
            Stale: the generation is not current, or it ended.
        """

        async def work(transaction: Transaction) -> int:
            media = await lock_media(transaction, media_id)
            state.check_generation(media, generation)
            if media.planned_at is not None:
                task_count, _ = await transaction.tasks.count(media)
                return task_count
            tasks = [(TaskId(ids.new_id(media.shard)), task) for task in planned]
            await transaction.media.record_plan(media, source_json, type)
            await transaction.tasks.insert(media, tasks)
            await transaction.outbox.add(
                [
                    *(messages.task_ready(media, task_id, task) for task_id, task in tasks),
                    messages.planned(media, len(tasks)),
                ]
            )
            _log.info("plan_recorded", media_id=str(media_id), labels=[task.label for task in planned])
            return len(tasks)

        return await self.store.transaction(work)

    async def claim(
        self, media_id: MediaId, task_id: TaskId, worker: str, lease: timedelta, name: str | None = None
    ) -> ClaimedTask | state.Held | state.Obsolete:
        """Leases a task to a new attempt, if it is free and still wanted.

        A task whose attempts all died without a word fails its media, and is obsolete.

        Args:
            media_id: the media.
            task_id: the task.
            worker: who claims it, for people.
            lease: how long it holds from now without renewal.
            name: the caller's own for this claim: while its attempt lives, a repeat answers it again with a fresh
                lease. None for a claim that is never repeated.
        """
        # Also recognises our own claim when the transaction runs again after a commit that was not answered.
        claim_id = uuid.uuid4() if name is None else uuid.uuid5(task_id, name)
        traceparent = telemetry.trace_headers().get("traceparent", "")

        async def work(transaction: Transaction) -> ClaimedTask | state.Held | state.Obsolete:
            media = await lock_media(transaction, media_id)
            task = await _lock_task(transaction, media_id, task_id)
            if task.claim_id == claim_id and await transaction.tasks.renew(media_id, task_id, task.attempt, lease):
                return ClaimedTask(task, media, task.attempt)
            match state.decide_claim(media, task, self.policy):
                case state.Claimed(attempt):
                    await transaction.tasks.claim(
                        task, attempt=attempt, claim_id=claim_id, worker=worker, lease=lease, traceparent=traceparent
                    )
                    return ClaimedTask(task, media, attempt)
                case state.Exhausted():
                    await self._give_up(transaction, media, task, state.ATTEMPTS_EXHAUSTED)
                    return state.Obsolete()
                case held_or_obsolete:
                    return held_or_obsolete

        return await self.store.transaction(work)

    async def renew(self, media_id: MediaId, task_id: TaskId, attempt: int, lease: timedelta) -> None:
        """Extends the lease of the latest attempt, from now; one that lost its lease to silence gets it back.

        Raises:
            Stale: it is not the latest, or has ended; the worker must stop.
        """
        renewed = await self.store.transaction(
            lambda transaction: transaction.tasks.renew(media_id, task_id, attempt, lease)
        )
        if not renewed:
            raise Stale(f"attempt {attempt} holds no lease", reason="ATTEMPT_STALE")

    async def complete(self, media_id: MediaId, task_id: TaskId, attempt: int, result: Result, traceparent: str) -> int:
        """Records a result; the last one of a generation announces `media.encoded`.

        Args:
            media_id: the media.
            task_id: the task.
            attempt: the caller's.
            result: what it made.
            traceparent: W3C trace context of the work, for links; empty if it was not recorded.

        Returns:
            How many tasks of the generation are not done yet.

        Raises:
            Stale: the attempt was overtaken, or the media moved on.
            InvalidArgument: the result refers to keys outside the delivery prefix, or its pieces fit no other ones.
        """

        async def work(transaction: Transaction) -> int:
            media = await lock_media(transaction, media_id)
            task = await _lock_task(transaction, media_id, task_id)
            if not (task.state is TaskState.DONE and task.attempt == attempt):
                state.check_attempt(media, task, attempt)
                _check_keys(media, result)
                await transaction.tasks.complete(task, result, traceparent)
                _, remaining = await transaction.tasks.count(task)
                if remaining == 0:
                    await _record_joined(transaction, task)
            _, remaining = await transaction.tasks.count(task)
            # A repeat may come when the media is long past this, or is being processed once more.
            if remaining == 0 and state.is_wanted(media, task):
                await transaction.outbox.add([messages.encoded(media)])
            return remaining

        return await self.store.transaction(work)

    async def fail(
        self,
        media_id: MediaId,
        task_id: TaskId,
        attempt: int,
        failure: Failure,
        *,
        permanent: bool,
        release: bool,
        retry_after: timedelta = timedelta(0),
    ) -> bool:
        """Records the end of an attempt without a result.

        Args:
            media_id: the media.
            task_id: the task.
            attempt: the caller's.
            failure: why.
            permanent: no other attempt can succeed either.
            release: the task is not to blame; the attempt does not count.
            retry_after: how long a released task waits; any other waits as the policy says.

        Returns:
            True when the task is queued again; False when its media failed.

        Raises:
            Stale: the attempt was overtaken, or the media moved on.
        """

        async def work(transaction: Transaction) -> bool:
            media = await lock_media(transaction, media_id)
            task = await _lock_task(transaction, media_id, task_id)
            if task.state is TaskState.FAILED and task.attempt == attempt:
                return False
            state.check_attempt(media, task, attempt)
            if permanent or (self.policy.is_spent(task) and not release):
                await self._give_up(transaction, media, task, failure)
                return False
            backoff = self.policy.backoff(task.attempt - task.released, random.random())  # noqa: S311 jitter, no secret
            wait = retry_after if release else backoff
            await self._requeue(transaction, media, task, failure, wait=wait, released=release)
            return True

        return await self.store.transaction(work)

    async def expire(self, media_id: MediaId, task_id: TaskId) -> bool:
        """Takes a lease that ran out: the task is queued again, or its media fails when no attempt is left.

        Returns:
            False when there was no such lease any more.
        """

        async def work(transaction: Transaction) -> bool:
            media = await lock_media(transaction, media_id)
            task = await _lock_task(transaction, media_id, task_id)
            if task.state is not TaskState.LEASED or task.lease_left > timedelta(0):
                return False
            if self.policy.is_spent(task):
                await self._give_up(transaction, media, task, state.ATTEMPTS_EXHAUSTED)
            else:
                await self._requeue(transaction, media, task, None, wait=timedelta(0), released=False)
            return True

        return await self.store.transaction(work)

    async def _requeue(
        self,
        transaction: Transaction,
        media: Media,
        task: Task,
        failure: Failure | None,
        *,
        wait: timedelta,
        released: bool,
    ) -> None:
        if not await transaction.tasks.requeue(task, failure, released=released):
            return  # a repeat: the attempt has ended before
        await transaction.outbox.add_again(messages.task_ready(media, task.task_id, task), wait)
        _log.info(
            "task_queued_again",
            media_id=str(media.media_id),
            task=task.label,
            attempt=task.attempt,
            cause=failure.reason if failure else "lease_expired",
            wait_s=round(wait.total_seconds(), 1),
            counts=not released,
        )

    async def _give_up(self, transaction: Transaction, media: Media, task: Task, failure: Failure) -> None:
        await transaction.tasks.fail(task, failure)
        await fail(transaction, media, failure)


async def _record_joined(transaction: Transaction, task: Task) -> None:
    """Records the tracks that were made in pieces, once the last piece is there."""
    results = [media_pb2.TaskResult.FromString(body) for body, _ in await transaction.tasks.results(task)]
    await transaction.tasks.insert_renditions(task, [from_pb.track_facts(track) for track in joined(results)])


async def _lock_task(transaction: Transaction, media_id: MediaId, task_id: TaskId) -> Task:
    task = await transaction.tasks.lock(media_id, task_id)
    if task is None:
        raise NotFound("no such task", reason="TASK_NOT_FOUND")
    return task


def _check_keys(media: Media, result: Result) -> None:
    """Whatever a result refers to was written below the prefix that its generation owns."""
    if strays := [key for key in result.s3_keys if not key.startswith(f"{media.delivery_prefix}/")]:
        raise InvalidArgument(
            f"{len(strays)} keys lie outside the delivery prefix",
            reason="KEY_OUTSIDE_PREFIX",
            details={"key": strays[0]},
        )
