"""The table `uploads`."""

from typing import Final

import asyncpg

from services.metadata.records import NewMedia, Upload, UploadState
from services.metadata.store import queries
from services.runtime.database import Connection
from services.runtime.ids import MediaId, Shard, UserId, shard_of_id

_SQL: Final = queries.load("uploads")


class UploadTable:
    """Upload sessions, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, new: NewMedia) -> None:
        """Opens the session of a new media."""
        await self._connection.execute(
            _SQL["insert_upload"], new.shard, new.media_id, new.size_bytes, new.part_size_bytes, new.time_to_live
        )

    async def find(self, media_id: MediaId) -> Upload | None:
        """The session of a media."""
        return _upload(await self._connection.fetchrow(_SQL["find_upload"], shard_of_id(media_id), media_id))

    async def find_owned(self, user_id: UserId, media_id: MediaId) -> Upload | None:
        """The session of a media of one owner."""
        shard = shard_of_id(media_id)
        return _upload(await self._connection.fetchrow(_SQL["find_owned_upload"], shard, user_id, media_id))

    async def attach(self, media_id: MediaId, upload_id: str) -> None:
        """Keeps storage's identifier if the session is open and has none."""
        await self._connection.execute(_SQL["attach_upload"], shard_of_id(media_id), media_id, upload_id)

    async def move(self, upload: Upload, state: UploadState) -> None:
        """Moves a session to another state."""
        await self._connection.execute(_SQL["move_upload"], upload.shard, upload.media_id, upload.state, state)


def _upload(row: asyncpg.Record | None) -> Upload | None:
    if row is None:
        return None
    return Upload(
        shard=Shard(row["shard"]),
        media_id=MediaId(row["media_id"]),
        user_id=UserId(row["user_id"]),
        s3_key=row["s3_key"],
        content_type=row["content_type"],
        traceparent=row["traceparent"],
        upload_id=row["upload_id"],
        size_bytes=row["size_bytes"],
        part_size_bytes=row["part_size_bytes"],
        state=UploadState(row["state"]),
        expires_at=row["expires_at"],
        expired=row["expired"],
    )
