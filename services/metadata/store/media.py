"""The table `media`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from services.metadata.pages import Position
from services.metadata.records import ChecksumAlgorithm, Failure, Media, MediaStatus, MediaType
from services.metadata.store import queries
from services.runtime.database import Connection
from services.runtime.ids import MediaId, Shard, UserId, shard_of_id

_SQL: Final = queries.load("media")


class MediaTable:
    """Media, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def by_request(self, shard: Shard, user_id: UserId, request_id: str) -> Media | None:
        """The media that an owner's idempotency key made."""
        return _media(await self._connection.fetchrow(_SQL["media_by_request"], shard, user_id, request_id))

    async def lock(self, media_id: MediaId) -> Media | None:
        """One media, held until the transaction ends."""
        return _media(await self._connection.fetchrow(_SQL["lock_media"], shard_of_id(media_id), media_id))

    async def find(self, media_id: MediaId) -> Media | None:
        """One media, as it is."""
        return _media(await self._connection.fetchrow(_SQL["find_media"], shard_of_id(media_id), media_id))

    async def find_owned(self, user_id: UserId, media_id: MediaId) -> Media | None:
        """One media of one owner, as it is."""
        shard = shard_of_id(media_id)
        return _media(await self._connection.fetchrow(_SQL["find_owned_media"], shard, user_id, media_id))

    async def list_owned(
        self, shard: Shard, user_id: UserId, status: MediaStatus | None, after: Position | None, limit: int
    ) -> Sequence[Media]:
        """An owner's media, newest first, from below a position on."""
        if after is None:
            rows = await self._connection.fetch(_SQL["list_media"], shard, user_id, status, limit)
        else:
            rows = await self._connection.fetch(
                _SQL["list_media_after"], shard, user_id, status, after.created_at, after.media_id, limit
            )
        return [_from_row(row) for row in rows]

    async def set_deadline(self, media: Media, *, wait: timedelta, not_before: datetime) -> None:
        """Lets an upload wait so much longer, and at least until a time."""
        await self._connection.execute(_SQL["set_deadline"], media.shard, media.media_id, wait, not_before)

    async def measure(self, media: Media, size_bytes: int, checksum: str | None) -> None:
        """Keeps what became known of an upload after it began."""
        await self._connection.execute(_SQL["measure"], media.shard, media.media_id, size_bytes, checksum)

    async def begin_processing(self, media: Media, etag: str, size_bytes: int, time_limit: timedelta) -> None:
        """Pins the original and moves the media to processing, which must end within a time."""
        await self._connection.execute(
            _SQL["begin_processing"], media.shard, media.media_id, etag, size_bytes, time_limit
        )

    async def record_plan(self, media: Media, source_json: str, type: MediaType | None) -> None:
        """Keeps what the original was found to be."""
        await self._connection.execute(
            _SQL["record_plan"], media.shard, media.media_id, media.generation, source_json, type
        )

    async def fail(self, media: Media, failure: Failure) -> None:
        """Moves the media to failed."""
        await self._connection.execute(
            _SQL["fail_media"], media.shard, media.media_id, media.generation, failure.reason, failure.message
        )

    async def publish(self, media: Media, s3_manifest_key: str | None) -> datetime:
        """Moves the media to published, and says when that is."""
        published_at: datetime = await self._connection.fetchval(
            _SQL["publish_media"], media.shard, media.media_id, media.generation, s3_manifest_key
        )
        return published_at

    async def overdue(self, limit: int) -> Sequence[MediaId]:
        """Media of all shards that are past their deadline, the longest first."""
        return [MediaId(row["media_id"]) for row in await self._connection.fetch(_SQL["overdue_media"], limit)]

    async def is_overdue(self, media: Media) -> bool:
        """Whether a media is past its deadline."""
        return bool(await self._connection.fetchval(_SQL["is_overdue"], media.shard, media.media_id))


def _media(row: asyncpg.Record | None) -> Media | None:
    return None if row is None else _from_row(row)


def _from_row(row: asyncpg.Record) -> Media:
    reason = row["failure_reason"]
    algorithm = row["checksum_algorithm"]
    return Media(
        shard=Shard(row["shard"]),
        media_id=MediaId(row["media_id"]),
        user_id=UserId(row["user_id"]),
        type=MediaType(row["type"]),
        status=MediaStatus(row["status"]),
        generation=row["generation"],
        s3_key=row["s3_key"],
        size_bytes=row["size_bytes"],
        filename=row["filename"],
        content_type=row["content_type"],
        original_etag=row["original_etag"],
        delivery_prefix=row["delivery_prefix"],
        source_json=row["source"],
        s3_manifest_key=row["s3_manifest_key"],
        failure=None if reason is None else Failure(reason, row["failure_message"]),
        traceparent=row["traceparent"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        planned_at=row["planned_at"],
        published_at=row["published_at"],
        checksum_algorithm=None if algorithm is None else ChecksumAlgorithm(algorithm),
        checksum=row["checksum"],
    )
