"""The table `quotas`."""

from dataclasses import dataclass
from typing import Final

import asyncpg

from services.metadata.records import Amount
from services.metadata.store import queries
from services.runtime.database import Connection
from services.runtime.ids import UserId, shard_of_user

_SQL: Final = queries.load("quotas")


@dataclass(frozen=True, slots=True)
class OwnQuota:
    """What an owner uses, and the limits that are theirs alone; None where the service's apply."""

    used: Amount
    limit_bytes: int | None
    media_limit: int | None
    open_upload_limit: int | None


class QuotaTable:
    """Quotas, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def reserve_bytes(self, user_id: UserId, more_bytes: int, limit_bytes: int) -> bool:
        """Takes bytes for a media that is there; False, and nothing is taken, when that is beyond the limit."""
        reserved = await self._connection.fetchval(
            _SQL["reserve_bytes"], shard_of_user(user_id), user_id, more_bytes, limit_bytes
        )
        return reserved is not None

    async def release(self, user_id: UserId, amount: Amount) -> None:
        """Gives an amount back."""
        await self._connection.execute(
            _SQL["release"], shard_of_user(user_id), user_id, amount.bytes, amount.media, amount.open_uploads
        )

    async def find(self, user_id: UserId) -> OwnQuota:
        """What an owner uses; nothing, for one who never uploaded."""
        row = await self._connection.fetchrow(_SQL["find_quota"], shard_of_user(user_id), user_id)
        return OwnQuota(Amount(), None, None, None) if row is None else _own(row)


def _own(row: asyncpg.Record) -> OwnQuota:
    return OwnQuota(
        used=Amount(row["used_bytes"], row["media_count"], row["open_upload_count"]),
        limit_bytes=row["limit_bytes"],
        media_limit=row["media_limit"],
        open_upload_limit=row["open_upload_limit"],
    )
