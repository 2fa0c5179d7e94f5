"""The table `outbox`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from services.metadata.records import Message
from services.metadata.store import queries
from services.runtime import ids
from services.runtime.database import Connection
from services.runtime.ids import MediaId, Shard

CHANNEL: Final = "millrace_outbox"
"""What a relay listens on; `announce` in `sql/outbox.sql` notifies it."""

_SQL: Final = queries.load("outbox")


@dataclass(frozen=True, slots=True)
class Due:
    """A message to be published; `emission` counts from 0 how often it was said before."""

    outbox_id: UUID
    subject: str
    body: bytes
    traceparent: str
    emission: int

    @property
    def message_id(self) -> str:
        """The broker drops a repeat of it; another emission is another message."""
        return f"{self.outbox_id}:{self.emission}"


@dataclass(frozen=True, slots=True)
class Overdue:
    """A published message whose effect is due; `missing` says that it has not come."""

    shard: Shard
    outbox_id: UUID
    media_id: MediaId
    kind: str
    emission: int
    missing: bool


class OutboxTable:
    """The outbox, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, messages: Sequence[Message]) -> None:
        """Messages that this transaction decided; those that were added before stay as they were."""
        await self._connection.executemany(_SQL["insert_message"], [_values(message) for message in messages])
        await self._connection.execute(_SQL["announce"])

    async def add_again(self, message: Message, wait: timedelta) -> None:
        """A message once more, after a wait; its trace context is replaced unless the new one is empty."""
        await self._connection.execute(_SQL["emit_again"], *_values(message), wait)
        await self._connection.execute(_SQL["announce"])

    async def due_shards(self, limit: int) -> Sequence[Shard]:
        """Shards that have something to publish, the longest waiting first."""
        return [Shard(row["shard"]) for row in await self._connection.fetch(_SQL["due_shards"], limit)]

    async def take_due(self, shard: Shard, limit: int) -> Sequence[Due]:
        """What is due in a shard and in nobody else's hands, held until the transaction ends."""
        rows = await self._connection.fetch(_SQL["take_due"], shard, limit)
        return [Due(row["outbox_id"], row["subject"], row["body"], row["traceparent"], row["emission"]) for row in rows]

    async def mark_published(
        self, shard: Shard, outbox_ids: Sequence[UUID], look_again_after: timedelta, at_most: timedelta
    ) -> None:
        """The broker confirmed them; those that must have an effect are looked at again after a while."""
        await self._connection.execute(_SQL["mark_published"], shard, outbox_ids, look_again_after, at_most)

    async def postpone(self, shard: Shard, outbox_ids: Sequence[UUID], wait: timedelta) -> None:
        """The broker did not confirm them."""
        await self._connection.execute(_SQL["postpone"], shard, outbox_ids, wait)

    async def overdue(self, limit: int) -> Sequence[Overdue]:
        """Published messages whose effect is due."""
        return [
            Overdue(
                Shard(row["shard"]),
                row["outbox_id"],
                MediaId(row["media_id"]),
                row["kind"],
                row["emission"],
                row["missing"],
            )
            for row in await self._connection.fetch(_SQL["overdue"], limit)
        ]

    async def emit_overdue(self, overdue: Overdue) -> bool:
        """Says it again; False when somebody did already."""
        emitted = await self._connection.fetchval(
            _SQL["emit_overdue"], overdue.shard, overdue.outbox_id, overdue.emission
        )
        await self._connection.execute(_SQL["announce"])
        return emitted is not None

    async def settle(self, shard: Shard, outbox_ids: Sequence[UUID]) -> None:
        """Their effect came."""
        await self._connection.execute(_SQL["settle"], shard, outbox_ids)

    async def settled_before(self, age: timedelta, limit: int) -> Sequence[tuple[Shard, UUID]]:
        """Messages that are of no more use and older than that."""
        rows = await self._connection.fetch(_SQL["settled_before"], age, limit)
        return [(Shard(row["shard"]), row["outbox_id"]) for row in rows]

    async def forget(self, shard: Shard, outbox_ids: Sequence[UUID]) -> None:
        """Deletes settled messages."""
        await self._connection.execute(_SQL["forget"], shard, outbox_ids)


def _values(message: Message) -> tuple[object, ...]:
    return (
        message.shard,
        ids.new_id(message.shard),
        message.media_id,
        message.generation,
        message.kind,
        message.task_id,
        message.subject,
        message.body,
        message.traceparent,
    )
