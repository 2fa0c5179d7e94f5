"""Requests that carry an idempotency key (IETF draft "The Idempotency-Key HTTP Header Field").

A key belongs to one request of one owner. The first caller carries the request out, and its answer is kept; whoever
comes meanwhile is told to wait, and whoever comes with another request is refused. A caller that dies is replaced once
its lease has run out, under the same operation, by which its effects are known.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from services.metadata.store import Store, Transaction
from services.metadata.store.requests import Attempt, Began, Known
from services.runtime import ids
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.ids import UserId, shard_of_user


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a request: the answer that is kept, or None for the caller to carry it out."""

    operation_id: UUID
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class Requests:
    """The use cases of idempotency keys."""

    store: Store

    async def begin(
        self,
        user_id: UserId,
        idempotency_key: str,
        fingerprint: bytes,
        *,
        claim_id: UUID,
        lease: timedelta,
        keep: timedelta,
    ) -> Outcome:
        """Begins a request, or answers a repeat.

        Args:
            user_id: who asks.
            idempotency_key: the client's.
            fingerprint: SHA-256 of what is asked.
            claim_id: of this call; a repeat with the same one is answered as the first was.
            lease: how long the caller keeps repeats waiting.
            keep: how long the key is remembered.

        Raises:
            InvalidArgument: the key was used for another request.
            FailedPrecondition: the first request is under way.
        """
        operation_id = ids.new_id(shard_of_user(user_id))
        fresh = Began(user_id, idempotency_key, fingerprint, operation_id, claim_id, lease, keep)

        if await self.store.statement(lambda transaction: transaction.requests.insert(fresh)):
            return Outcome(fresh.operation_id, None)

        async def work(transaction: Transaction) -> Outcome:
            known = await transaction.requests.lock(user_id, idempotency_key)
            if known is None:  # dropped in between: nobody is at it
                raise _in_flight(timedelta(0))
            if known.claim_id == claim_id and known.answer is None:  # our own, of a commit or a call not answered
                return Outcome(known.operation_id, None)
            if known.expired:
                await transaction.requests.take(fresh)
                return Outcome(fresh.operation_id, None)
            if (answer := _decide(known, fingerprint)) is None:
                again = Began(user_id, idempotency_key, fingerprint, known.operation_id, fresh.claim_id, lease, keep)
                await transaction.requests.take(again)
            return Outcome(known.operation_id, answer)

        return await self.store.transaction(work)

    async def end(self, attempt: Attempt, answer: bytes | None, *, outcome_unknown: bool) -> None:
        """Keeps an answer; without one, repeats are carried out, as the same operation if it may have had effect."""

        async def work(transaction: Transaction) -> None:
            if answer is not None:
                await transaction.requests.answer(attempt, answer)
            elif outcome_unknown:
                await transaction.requests.yield_(attempt)
            else:
                await transaction.requests.drop(attempt)

        await self.store.statement(work)


def _decide(known: Known, fingerprint: bytes) -> bytes | None:
    """The answer to a repeat; None when it may be carried out.

    Raises:
        InvalidArgument, FailedPrecondition: as `Requests.begin`.
    """
    if known.fingerprint != fingerprint:
        raise InvalidArgument(
            "this Idempotency-Key was used for another request",
            reason="IDEMPOTENCY_KEY_REUSED",
            details={"field": "Idempotency-Key"},
        )
    if known.answer is None and known.lease_left > timedelta(0):
        raise _in_flight(known.lease_left)
    return known.answer


def _in_flight(lease_left: timedelta) -> FailedPrecondition:
    """Whoever waits looks again soon: most requests end long before their lease."""
    wait_s = max(1, min(2, round(lease_left.total_seconds())))
    return FailedPrecondition(
        "the first request with this Idempotency-Key is under way",
        reason="REQUEST_IN_FLIGHT",
        details={"retry_after_s": str(wait_s)},
    )
