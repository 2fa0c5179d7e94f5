"""The reconciler: finds what should be under way and is not, and sets it going again, or ends it.

It holds the promise that nothing waits for ever: whatever a worker, a message or a broker lost is found here by its age
in PostgreSQL alone. One runs at a time, under an advisory lock; two would do no harm, for each step looks again under
the lock of the media and is idempotent. Each pass takes bounded batches, the oldest first.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter
from typing import Final
from uuid import UUID

import structlog
from opentelemetry.instrumentation.utils import suppress_instrumentation

from services.metadata import state
from services.metadata.lifecycle import fail, lock_media
from services.metadata.records import MediaStatus
from services.metadata.store import Store, Transaction
from services.metadata.store.outbox import Overdue
from services.metadata.tasks import Tasks
from services.runtime.errors import Unavailable
from services.runtime.ids import MediaId, Shard

LOCK_KEY: Final = 0x7265636F_6E63696C
"""Key of the advisory lock; any constant that nothing else uses."""

_LEASE_GRACE: Final = timedelta(seconds=1)
"""Age floor of a lease that ran out: a renewal that is under way may still come."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Findings:
    """What one pass did, in counts.

    Attributes:
        expired_leases: tasks taken from workers that were not heard of.
        emitted_again: messages whose effect did not come.
        overdue_media: media that were past their deadline, and failed.
        forgotten: old messages and idempotency keys that were deleted.
    """

    expired_leases: int
    emitted_again: int
    overdue_media: int
    forgotten: int


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Looks at the tables until it is stopped.

    Attributes:
        store: the tables.
        tasks: the use cases that leases belong to.
        interval_s: time between two passes.
        lease_amnesty_s: after a start, and after the database was away, leases that ran out are left alone for so long:
            whoever is alive renews its own first. Longer than workers let pass between two renewals.
        batch: rows of each kind in one pass.
        outbox_keep: how long published messages are kept.
    """

    store: Store
    tasks: Tasks
    interval_s: float
    lease_amnesty_s: float
    batch: int
    outbox_keep: timedelta

    async def run(self, stop: asyncio.Event) -> None:
        """A pass every interval until `stop` is set."""
        # Its queries are no part of any trace; what it announces continues the trace of the media.
        with suppress_instrumentation():
            reached_since_s: float | None = None
            while not stop.is_set():
                is_settled = reached_since_s is not None and time.monotonic() - reached_since_s >= self.lease_amnesty_s
                try:
                    await self.run_once(take_leases=is_settled)
                    reached_since_s = time.monotonic() if reached_since_s is None else reached_since_s
                except Unavailable as error:
                    reached_since_s = None
                    _log.warning("reconciler_waits_for_database", error=error.message)
                except Exception:  # whatever it is, the calls that this process answers are not to suffer
                    _log.exception("pass_failed")
                wait_s = self.interval_s * random.uniform(0.8, 1.2)  # noqa: S311 jitter, no secret
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait_s)

    async def run_once(self, *, take_leases: bool = True) -> Findings | None:
        """One pass; None when another reconciler is at it.

        Args:
            take_leases: whether leases that ran out are taken from their workers.

        Raises:
            Unavailable: the database does not answer.
        """
        async with self.store.alone(LOCK_KEY) as is_alone:
            if not is_alone:
                return None
            findings = Findings(
                expired_leases=await self._take_expired_leases() if take_leases else 0,
                emitted_again=await self._emit_overdue_messages(),
                overdue_media=await self._end_overdue_media(),
                forgotten=await self._forget_old_messages() + await self._forget_old_requests(),
            )
        if any((findings.expired_leases, findings.emitted_again, findings.overdue_media)):
            _log.info(
                "reconciled",
                expired_leases=findings.expired_leases,
                emitted_again=findings.emitted_again,
                overdue_media=findings.overdue_media,
            )
        return findings

    async def _take_expired_leases(self) -> int:
        expired = await self.store.transaction(
            lambda transaction: transaction.tasks.expired_leases(_LEASE_GRACE, self.batch)
        )
        return sum([await _isolated(self.tasks.expire(media_id, task_id), media_id) for media_id, task_id in expired])

    async def _emit_overdue_messages(self) -> int:
        """Says again what had no effect; of what had one, remembers that it need not be looked at again."""
        overdue = await self.store.transaction(lambda transaction: transaction.outbox.overdue(self.batch))
        missing = [message for message in overdue if message.missing]
        emitted = sum([await _isolated(self._emit_again(message), message.media_id) for message in missing])
        settled = [(message.shard, message.outbox_id) for message in overdue if not message.missing]
        for shard, outbox_ids in _by_shard(settled):
            await self._settle(shard, outbox_ids)
        return emitted

    async def _emit_again(self, message: Overdue) -> bool:
        _log.info("message_had_no_effect", media_id=str(message.media_id), kind=message.kind, emission=message.emission)
        return await self.store.transaction(lambda transaction: transaction.outbox.emit_overdue(message))

    async def _settle(self, shard: Shard, outbox_ids: Sequence[UUID]) -> None:
        await self.store.transaction(lambda transaction: transaction.outbox.settle(shard, outbox_ids))

    async def _end_overdue_media(self) -> int:
        overdue = await self.store.transaction(lambda transaction: transaction.media.overdue(self.batch))
        return sum([await _isolated(self._end(media_id), media_id) for media_id in overdue])

    async def _end(self, media_id: MediaId) -> bool:
        async def work(transaction: Transaction) -> bool:
            media = await lock_media(transaction, media_id)
            if not await transaction.media.is_overdue(media):
                return False
            is_upload = media.status is MediaStatus.UPLOADING
            await fail(transaction, media, state.UPLOAD_EXPIRED if is_upload else state.PROCESSING_TIMED_OUT)
            return True

        return await self.store.transaction(work)

    async def _forget_old_messages(self) -> int:
        old = await self.store.transaction(
            lambda transaction: transaction.outbox.settled_before(self.outbox_keep, self.batch)
        )
        for shard, outbox_ids in _by_shard(old):
            await self._forget(shard, outbox_ids)
        return len(old)

    async def _forget_old_requests(self) -> int:
        shards = await self.store.transaction(lambda transaction: transaction.requests.expired_shards(self.batch))
        return sum([await self._forget_requests_of(shard) for shard in shards])

    async def _forget_requests_of(self, shard: Shard) -> int:
        return await self.store.transaction(lambda transaction: transaction.requests.forget_expired(shard))

    async def _forget(self, shard: Shard, outbox_ids: Sequence[UUID]) -> None:
        await self.store.transaction(lambda transaction: transaction.outbox.forget(shard, outbox_ids))


async def _isolated(step: Awaitable[bool], media_id: MediaId) -> bool:
    """One step of a pass: a defect that one media brings to light does not keep the others waiting."""
    try:
        return await step
    except Unavailable:
        raise
    except Exception:
        _log.exception("not_reconciled", media_id=str(media_id))
        return False


def _by_shard(rows: Sequence[tuple[Shard, UUID]]) -> Iterator[tuple[Shard, list[UUID]]]:
    for shard, group in itertools.groupby(sorted(rows), key=itemgetter(0)):
        yield shard, [outbox_id for _, outbox_id in group]
