"""The relay: publishes the outbox to the broker, each row at least once, soon after its transaction committed.

A row is held by a row lock while it is published and marked only after the broker has it on disk, in the same
transaction; a relay that dies in between leaves it to the next one, and the broker drops the repeat by its id. Several
relays share the work by skipping what others hold. Each shard is a transaction of its own, so that locks stay within
one shard.

A published row is stamped rather than deleted: it keeps its transaction from being decided a second time (it is unique
for its media, generation, kind and task), the reconciler can say it again after the broker lost it, and it tells people
what happened when. The reconciler deletes what is old.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog
from opentelemetry.instrumentation.utils import suppress_instrumentation

from services.metadata.store import Store, Transaction
from services.metadata.store.outbox import Due
from services.runtime.errors import Unavailable
from services.runtime.ids import Shard

_SHARDS_AT_ONCE: Final = 64
"""Shards found by one look; the next look comes at once when there is more."""
_FIRST_BACKOFF: Final = timedelta(milliseconds=250)
_LAST_BACKOFF: Final = timedelta(seconds=5)
"""Short, for it is also how long messages wait on after the broker came back."""

_LOOK_AGAIN_WITHIN: Final = timedelta(minutes=5)
"""However often a media's message had no effect: what an outage held up goes on so soon after it."""

_log = structlog.get_logger(__name__)


class Publisher(Protocol):
    """The broker: returns once it has the message on disk; a repeat of a message id is dropped for a while."""

    async def publish(
        self, subject: str, data: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Stores a message.

        Raises:
            Unavailable: it was not confirmed; it may or may not be stored.
        """


@dataclass(frozen=True, slots=True)
class Relay:
    """Publishes until it is stopped.

    Attributes:
        store: where the outbox is.
        publisher: where its messages go.
        concurrency: shards worked on at once, each on a database connection of its own.
        batch: messages of one shard published at once.
        poll_s: longest time between two looks; for rows that become due without anybody saying so.
        look_again_after: when the reconciler looks whether a published message had its effect.
        publish_timeout_s: what is not confirmed within this is postponed. Shorter than a broker may take to say no, for
            the rows are locked as long, and whoever wants to say one of them again waits.
    """

    store: Store
    publisher: Publisher
    concurrency: int
    batch: int
    poll_s: float
    look_again_after: timedelta
    publish_timeout_s: float = 2.0

    async def run(self, stop: asyncio.Event) -> None:
        """Publishes what is due until `stop` is set; then finishes what it has in hand."""
        wake = asyncio.Event()
        # Its own queries are no part of any trace; the spans of publishing belong to those that the rows name.
        with suppress_instrumentation():
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(_wake_at(stop, wake))
                while not stop.is_set():
                    try:
                        await self._listen_and_publish(wake, stop)
                    except Unavailable as error:
                        _log.warning("relay_waits_for_database", error=error.message)
                    except Exception:  # whatever it is, the calls that this process answers are not to suffer
                        _log.exception("relay_failed")
                    else:
                        continue
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), self.poll_s)
                watch.cancel()

    async def _listen_and_publish(self, wake: asyncio.Event, stop: asyncio.Event) -> None:
        backoff = _FIRST_BACKOFF
        async with self.store.listening(wake) as is_connected:
            while not stop.is_set() and is_connected():
                wake.clear()
                found, refused = await self.publish_due(backoff)
                if refused:
                    backoff = min(backoff * 2, _LAST_BACKOFF)
                elif found:
                    backoff = _FIRST_BACKOFF
                if refused or not found:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(wake.wait(), self.poll_s)

    async def publish_due(self, backoff: timedelta) -> tuple[int, int]:
        """One look at the outbox: publishes what is due in the shards that wait longest.

        Args:
            backoff: how long messages wait that the broker does not confirm.

        Returns:
            How many messages were found, and how many of them the broker did not confirm.

        Raises:
            Unavailable: the database does not answer.
        """
        shards = await self.store.transaction(lambda transaction: transaction.outbox.due_shards(_SHARDS_AT_ONCE))
        slots = asyncio.Semaphore(self.concurrency)

        async def with_slot(shard: Shard) -> tuple[int, int]:
            async with slots:
                return await self._publish_shard(shard, backoff)

        async with asyncio.TaskGroup() as group:
            counts = [group.create_task(with_slot(shard)) for shard in shards]
        return sum(count.result()[0] for count in counts), sum(count.result()[1] for count in counts)

    async def _publish_shard(self, shard: Shard, backoff: timedelta) -> tuple[int, int]:
        async def work(transaction: Transaction) -> tuple[int, int]:
            due = await transaction.outbox.take_due(shard, self.batch)
            published, refused = await self._publish_all(due)
            if published:
                await transaction.outbox.mark_published(shard, published, self.look_again_after, _LOOK_AGAIN_WITHIN)
            if refused:
                await transaction.outbox.postpone(shard, refused, backoff)
            return len(due), len(refused)

        try:
            return await self.store.transaction(work)
        except Unavailable as error:
            _log.warning("relay_lost_database", shard=shard, error=error.message)
            return 1, 1
        except Exception:  # a defect that one shard brings to light does not keep the others waiting
            _log.exception("shard_not_published", shard=shard)
            return 1, 1

    async def _publish_all(self, due: Sequence[Due]) -> tuple[list[UUID], list[UUID]]:
        async with asyncio.TaskGroup() as group:
            confirmed = [(message.outbox_id, group.create_task(self._publish(message))) for message in due]
        return [key for key, ok in confirmed if ok.result()], [key for key, ok in confirmed if not ok.result()]

    async def _publish(self, message: Due) -> bool:
        headers = {"traceparent": message.traceparent} if message.traceparent else None
        try:
            async with asyncio.timeout(self.publish_timeout_s):
                await self.publisher.publish(
                    message.subject, message.body, message_id=message.message_id, headers=headers
                )
        except (Unavailable, TimeoutError) as error:
            _log.warning("publish_refused", subject=message.subject, id=message.message_id, error=repr(error))
            return False
        except Exception:  # nor does one message keep its shard waiting
            _log.exception("publish_failed", subject=message.subject, id=message.message_id)
            return False
        return True


async def _wake_at(stop: asyncio.Event, wake: asyncio.Event) -> None:
    await stop.wait()
    wake.set()
