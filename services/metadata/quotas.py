"""What an owner may keep with us: bytes, media, and uploads open at once.

Room is taken in the transaction that makes a media, and given back in the one that fails it, by conditional updates of
one row an owner: what is used is never below zero, never beyond a limit, and always the sum over the media that are.
"""

from dataclasses import dataclass
from typing import Final

from services.metadata.records import Amount, Quota
from services.metadata.store import Store, Transaction
from services.metadata.store.quotas import OwnQuota
from services.runtime.errors import ResourceExhausted
from services.runtime.ids import UserId

UNLIMITED: Final = 2**62
"""More than anybody has, and twice that still fits the column."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """The use cases of quotas.

    Attributes:
        store: where they are kept.
        limits: of owners that have none of their own; `UNLIMITED` for none.
    """

    store: Store
    limits: Amount

    async def get(self, user_id: UserId) -> Quota:
        """What an owner uses, and the limits that apply."""
        own = await self.store.transaction(lambda transaction: transaction.quotas.find(user_id))
        limits = _limits(own, self.limits)
        return Quota(own.used, _finite(limits.bytes), _finite(limits.media), _finite(limits.open_uploads))


async def reserve_bytes(transaction: Transaction, user_id: UserId, more_bytes: int, limits: Amount) -> None:
    """Takes more bytes of an owner's quota, for a media that is there.

    Raises:
        ResourceExhausted: QUOTA_EXCEEDED, there is not so much left.
    """
    if not await transaction.quotas.reserve_bytes(user_id, more_bytes, limits.bytes):
        raise await exhausted(transaction, user_id, Amount(bytes=more_bytes), limits)


async def exhausted(transaction: Transaction, user_id: UserId, amount: Amount, general: Amount) -> ResourceExhausted:
    """The refusal of an amount for which there is no room, with the limit that it meets."""
    own = await transaction.quotas.find(user_id)
    return _exhausted(own.used, amount, _limits(own, general))


def _exhausted(used: Amount, amount: Amount, limits: Amount) -> ResourceExhausted:
    if used.bytes + max(amount.bytes, 1) > limits.bytes:
        return ResourceExhausted(
            f"your quota is {limits.bytes:,} bytes, of which {used.bytes:,} are used",
            reason="QUOTA_EXCEEDED",
            details={"used_bytes": str(used.bytes), "limit_bytes": str(limits.bytes)},
        )
    if used.media + amount.media > limits.media:
        return ResourceExhausted(
            f"your quota is {limits.media:,} media, and as many are there",
            reason="QUOTA_EXCEEDED",
            details={"media_count": str(used.media), "media_limit": str(limits.media)},
        )
    return ResourceExhausted(
        f"{limits.open_uploads:,} uploads may be open at once: complete or abort one first",
        reason="TOO_MANY_OPEN_UPLOADS",
        details={"open_upload_limit": str(limits.open_uploads), "retry_after_s": "30"},
    )


def _limits(own: OwnQuota, general: Amount) -> Amount:
    return Amount(
        bytes=own.limit_bytes or general.bytes,
        media=own.media_limit or general.media,
        open_uploads=own.open_upload_limit or general.open_uploads,
    )


def _finite(limit: int) -> int | None:
    return None if limit >= UNLIMITED else limit
