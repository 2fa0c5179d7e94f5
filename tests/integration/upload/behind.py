"""What lies behind the upload service: its records, what storage holds, and time, which passes on command."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime import ids
from services.runtime.blobs import Blobs
from services.runtime.grpc_client import call
from tests.integration.upload.calls import key_of

if TYPE_CHECKING:
    from media.v1.metadata_service_pb2_grpc import MetadataServiceAsyncStub

BUCKET = "originals"
SOON_S = 30.0
ALL_URLS_DEAD = timedelta(hours=2, minutes=1)
"""With an hour to live, and an hour for requests that began before."""

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Behind:
    """Asked directly."""

    sql: Sql
    storage: Blobs
    metadata: "MetadataServiceAsyncStub"

    async def state(self, media_id: str) -> str:
        """Where an upload stands."""
        return str(await self.sql.fetchval("SELECT state FROM uploads WHERE media_id = $1", media_id))

    async def failure(self, media_id: str) -> str | None:
        """Why a media failed; None while it did not."""
        reason: str | None = await self.sql.fetchval("SELECT failure_reason FROM media WHERE media_id = $1", media_id)
        return reason

    async def announced(self, media_id: str) -> list[str]:
        """What is said of a media."""
        rows = await self.sql.fetch("SELECT kind FROM outbox WHERE media_id = $1 ORDER BY created_at", media_id)
        return [row["kind"] for row in rows]

    async def used(self, user_id: str) -> tuple[int, int, int]:
        """Bytes, media and open uploads in the owner's quota."""
        row = await self.sql.fetchrow(
            "SELECT used_bytes, media_count, open_upload_count FROM quotas WHERE user_id = $1", user_id
        )
        return (0, 0, 0) if row is None else tuple(row)

    async def limit_bytes(self, user_id: str, limit_bytes: int) -> None:
        """Gives an owner a limit of their own."""
        await self.sql.execute(
            "INSERT INTO quotas (shard, user_id, used_bytes, media_count, open_upload_count, limit_bytes) "
            "VALUES ($1, $2, 0, 0, 0, $3)",
            ids.shard_of_user(user_id),
            user_id,
            limit_bytes,
        )

    async def keys(self, media_id: str) -> set[str]:
        """The last components of all keys of a media."""
        blobs = await self.storage.list(BUCKET, key_of(media_id).removesuffix("original"))
        return {blob.key.rpartition("/")[2] for blob in blobs}

    async def original(self, media_id: str) -> bytes:
        """The bytes of the original."""
        return await self.storage.get(BUCKET, key_of(media_id))

    async def begin_complete(self, user_id: str, media_id: str, size_bytes: int = 0) -> None:
        """What a complete call does before it dies."""
        request = pb.BeginCompleteRequest(user_id=user_id, media_id=media_id, size_bytes=size_bytes)
        await call(self.metadata.BeginComplete, request)

    async def fail(self, media_id: str) -> None:
        """What a planner does with an original that is broken."""
        failure = media_pb2.Failure(reason="broken", message="It is broken.")
        await call(self.metadata.FailMedia, pb.FailMediaRequest(media_id=media_id, generation=1, failure=failure))

    async def let_pass(self, media_id: str, span: timedelta) -> None:
        """As if an upload had been as it is for so much longer."""
        await self.sql.execute(
            "UPDATE uploads SET state_since = state_since - $2::interval, sweep_at = sweep_at - $2::interval "
            "WHERE media_id = $1",
            media_id,
            span,
        )

    async def let_time_run_out(self, *media_ids: str) -> None:
        """As if uploads had been open for too long."""
        await self.sql.execute(
            "UPDATE uploads SET expires_at = now() - interval '1 s' WHERE media_id = ANY ($1::uuid[])", list(media_ids)
        )
        await self.sql.execute(
            "UPDATE media SET deadline_at = now() - interval '1 s' WHERE media_id = ANY ($1::uuid[])", list(media_ids)
        )

    async def next_look(self, media_id: str) -> timedelta | None:
        """How long until the objects of an upload are looked after; None for never again."""
        wait: timedelta | None = await self.sql.fetchval(
            "SELECT sweep_at - now() FROM uploads WHERE media_id = $1", media_id
        )
        return wait

    async def has_state(self, media_id: str, state: str) -> None:
        """Waits until an upload stands there."""

        async def has_it() -> bool:
            return await self.state(media_id) == state

        await eventually(has_it, f"{media_id} is {state}")

    async def has_keys(self, media_id: str, *keys: str) -> None:
        """Waits until storage holds these of a media, and no others."""

        async def has_them() -> bool:
            return await self.keys(media_id) == set(keys)

        await eventually(has_them, f"{media_id} has {keys or 'nothing'} at storage")

    async def was_looked_after(self, media_id: str) -> None:
        """Waits until nobody is to look after an upload for a while."""

        async def is_quiet() -> bool:
            wait = await self.next_look(media_id)
            return wait is None or wait > timedelta(minutes=5)

        await eventually(is_quiet, f"{media_id} was looked after")


async def eventually(holds: Callable[[], Awaitable[bool]], what: str, within_s: float = SOON_S) -> None:
    """Waits until something holds that nobody announces."""
    try:
        async with asyncio.timeout(within_s):
            while not await holds():  # noqa: ASYNC110 nothing announces it
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise AssertionError(f"not within {within_s} s: {what}") from error
