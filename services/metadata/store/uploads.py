"""The table `uploads`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from services.metadata.records import (
    Amount,
    ChecksumAlgorithm,
    MediaStatus,
    MediaType,
    NewMedia,
    Sweep,
    Upload,
    UploadKind,
    UploadState,
)
from services.metadata.store import queries
from services.runtime.database import Connection
from services.runtime.ids import MediaId, Shard, UserId, shard_of_id

_SQL: Final = queries.load("uploads")
_NO_ROOM: Final = "MR001"
"""SQLSTATE that the schema's function `refuse_without_room` raises."""


class NoRoom(Exception):
    """The owner's quota is used up."""


class UploadTable:
    """Upload sessions, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def begin(self, new: NewMedia, limits: Amount, sweep_after: timedelta | None) -> Upload | None:
        """Adds a media, its session and its room in the quota; None when its id, or its request id, is there already.

        Raises:
            NoRoom: the quota is used up, and nothing was added.
        """
        try:
            row = await self._connection.fetchrow(_SQL["begin_upload"], *_begun(new, limits, sweep_after))
        except asyncpg.PostgresError as error:
            if error.sqlstate == _NO_ROOM:
                raise NoRoom from error
            raise
        return None if row is None else _new_upload(new, row["expires_at"])

    async def find(self, media_id: MediaId) -> Upload | None:
        """The session of a media."""
        return _upload(await self._connection.fetchrow(_SQL["find_upload"], shard_of_id(media_id), media_id))

    async def find_owned(self, user_id: UserId, media_id: MediaId) -> Upload | None:
        """The session of a media of one owner."""
        shard = shard_of_id(media_id)
        return _upload(await self._connection.fetchrow(_SQL["find_owned_upload"], shard, user_id, media_id))

    async def attach(self, media_id: MediaId, upload_id: str) -> Upload | None:
        """Keeps storage's identifier if the session is open and has none; the session as it is then."""
        row = await self._connection.fetchrow(_SQL["attach_upload"], shard_of_id(media_id), media_id, upload_id)
        return _upload(row)

    async def move(self, upload: Upload, state: UploadState, sweep_after: timedelta | None) -> None:
        """Moves a session to another state, which is to be looked after in a while; None: never."""
        await self._connection.execute(
            _SQL["move_upload"], upload.shard, upload.media_id, upload.state, state, sweep_after
        )

    async def sweep_later(self, media_id: MediaId, wait: timedelta) -> None:
        """Has a session looked after in a while."""
        await self._connection.execute(_SQL["sweep_later"], shard_of_id(media_id), media_id, wait)

    async def due_sweeps(self, limit: int) -> Sequence[MediaId]:
        """Sessions of all shards that are to be looked after, the longest waiting first."""
        return [MediaId(row["media_id"]) for row in await self._connection.fetch(_SQL["due_sweeps"], limit)]

    async def claim_sweep(self, media_id: MediaId, lease: timedelta) -> Sweep | None:
        """Takes one of them for a while; None when somebody else was quicker."""
        row = await self._connection.fetchrow(_SQL["claim_sweep"], shard_of_id(media_id), media_id, lease)
        if row is None:
            return None
        return Sweep(
            upload=_from_row(row),
            media_failed=row["status"] == MediaStatus.FAILED,
            count=row["sweep_count"],
            in_state_for=row["in_state_for"],
        )

    async def finish_sweep(self, media_id: MediaId, state: UploadState, count: int, again_in: timedelta | None) -> None:
        """Says when it is to be looked after again, unless that claim was overtaken."""
        await self._connection.execute(_SQL["finish_sweep"], shard_of_id(media_id), media_id, state, count, again_in)

    async def live(self, shard: Shard, media_ids: Sequence[MediaId]) -> Mapping[MediaId, str | None]:
        """Those of some media of a shard whose session is under way, with storage's identifier of it."""
        rows = await self._connection.fetch(_SQL["live_uploads"], shard, media_ids)
        return {MediaId(row["media_id"]): row["upload_id"] for row in rows}


def _begun(new: NewMedia, limits: Amount, sweep_after: timedelta | None) -> tuple[object, ...]:
    return (
        new.shard,
        new.media_id,
        new.user_id,
        new.request_id,
        new.type,
        new.s3_key,
        new.size_bytes,
        new.filename,
        new.content_type,
        new.delivery_prefix,
        new.traceparent,
        new.time_to_live,
        new.checksum_algorithm,
        new.checksum,
        new.part_size_bytes,
        new.kind,
        limits.bytes,
        limits.media,
        limits.open_uploads,
        sweep_after,
        new.upload_id,
    )


def _new_upload(new: NewMedia, expires_at: datetime) -> Upload:
    return Upload(
        shard=new.shard,
        media_id=new.media_id,
        user_id=new.user_id,
        s3_key=new.s3_key,
        content_type=new.content_type,
        traceparent=new.traceparent,
        upload_id=new.upload_id,
        size_bytes=new.size_bytes,
        part_size_bytes=new.part_size_bytes,
        state=UploadState.OPEN,
        expires_at=expires_at,
        expired=False,
        kind=new.kind,
        type=new.type,
        checksum_algorithm=new.checksum_algorithm,
        checksum=new.checksum,
    )


def _upload(row: asyncpg.Record | None) -> Upload | None:
    return None if row is None else _from_row(row)


def _from_row(row: asyncpg.Record) -> Upload:
    algorithm = row["checksum_algorithm"]
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
        kind=UploadKind(row["kind"]),
        type=MediaType(row["type"]),
        checksum_algorithm=None if algorithm is None else ChecksumAlgorithm(algorithm),
        checksum=row["checksum"],
    )
