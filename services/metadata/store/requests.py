"""The table `requests`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from services.metadata.store import queries
from services.runtime.database import Connection
from services.runtime.ids import Shard, UserId, shard_of_user

_SQL: Final = queries.load("requests")


@dataclass(frozen=True, slots=True)
class Began:
    """A request that carries a key, as it begins.

    Attributes:
        fingerprint: of what is asked.
        operation_id: names it for all time.
        claim_id: names this attempt to carry it out.
        lease: how long the attempt keeps others out.
        keep: how long the key is remembered.
    """

    user_id: UserId
    idempotency_key: str
    fingerprint: bytes
    operation_id: UUID
    claim_id: UUID
    lease: timedelta
    keep: timedelta


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to carry a request out, as it ends; nothing changes where another one has taken its place.

    `claim_id` is None where the caller did not say it: its operation alone fences it then.
    """

    user_id: UserId
    idempotency_key: str
    operation_id: UUID
    claim_id: UUID | None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a key.

    Attributes:
        answer: what repeats are answered; None before.
        expired: whether the key was kept long enough.
        lease_left: how long its latest attempt keeps others out.
    """

    fingerprint: bytes
    operation_id: UUID
    claim_id: UUID
    answer: bytes | None
    expired: bool
    lease_left: timedelta


class RequestTable:
    """Requests with idempotency keys, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, began: Began) -> bool:
        """Adds a request; False when its key is known."""
        return await self._connection.fetchval(_SQL["begin_request"], *_values(began)) is not None

    async def lock(self, user_id: UserId, idempotency_key: str) -> Known | None:
        """What is known of a key, held until the transaction ends."""
        row = await self._connection.fetchrow(_SQL["lock_request"], *_key(user_id, idempotency_key))
        return None if row is None else Known(*row)

    async def take(self, began: Began) -> None:
        """Has another attempt carry a request out."""
        await self._connection.execute(_SQL["take_request"], *_values(began))

    async def answer(self, attempt: Attempt, answer: bytes) -> None:
        """Keeps the answer of an attempt, unless there is one."""
        await self._connection.execute(_SQL["answer_request"], *_attempt(attempt), answer)

    async def yield_(self, attempt: Attempt) -> None:
        """Lets others carry its operation out."""
        await self._connection.execute(_SQL["yield_request"], *_attempt(attempt))

    async def drop(self, attempt: Attempt) -> None:
        """Forgets an operation that took no effect."""
        await self._connection.execute(_SQL["drop_request"], *_attempt(attempt))

    async def expired_shards(self, limit: int) -> Sequence[Shard]:
        """Shards with keys that were kept long enough."""
        return [Shard(row["shard"]) for row in await self._connection.fetch(_SQL["expired_shards"], limit)]

    async def forget_expired(self, shard: Shard) -> int:
        """Forgets those of one shard; returns how many there were."""
        return len(await self._connection.fetch(_SQL["forget_expired"], shard))


def _key(user_id: UserId, idempotency_key: str) -> tuple[Shard, UserId, str]:
    return shard_of_user(user_id), user_id, idempotency_key


def _attempt(attempt: Attempt) -> tuple[object, ...]:
    return (*_key(attempt.user_id, attempt.idempotency_key), attempt.operation_id, attempt.claim_id)


def _values(began: Began) -> tuple[object, ...]:
    return (
        *_key(began.user_id, began.idempotency_key),
        began.fingerprint,
        began.operation_id,
        began.claim_id,
        began.lease,
        began.keep,
    )
