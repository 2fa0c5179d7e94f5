"""The tables `tasks`, `renditions` and `thumbnails`: work, and what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from services.metadata.records import (
    Failure,
    Media,
    PlannedTask,
    Rendition,
    Result,
    Task,
    TaskId,
    TaskState,
    TaskSummary,
    Thumbnail,
    TrackFacts,
)
from services.metadata.store import queries
from services.runtime import ids
from services.runtime.database import Connection
from services.runtime.errors import InvalidArgument
from services.runtime.ids import MediaId, Shard, shard_of_id

_SQL: Final = queries.load("tasks")


class TaskTable:
    """Tasks and their outputs, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, media: Media, planned: Sequence[tuple[TaskId, PlannedTask]]) -> None:
        """Adds the tasks of a plan, queued."""
        await self._connection.executemany(
            _SQL["insert_task"],
            [
                (
                    media.shard,
                    task_id,
                    media.media_id,
                    media.generation,
                    ordinal,
                    task.label,
                    task.lane,
                    task.spec_json,
                    task.cost_share,
                    task.memory_bytes,
                )
                for ordinal, (task_id, task) in enumerate(planned)
            ],
        )

    async def count(self, of: Media | Task) -> tuple[int, int]:
        """How many tasks the generation of a media, or of one of its tasks, has, and how many of them are not done."""
        row = await self._connection.fetchrow(_SQL["count_tasks"], of.shard, of.media_id, of.generation)
        assert row is not None
        return row["planned"], row["remaining"]

    async def summaries(self, media: Media) -> Sequence[TaskSummary]:
        """How far each task of the current generation is, in plan order."""
        rows = await self._connection.fetch(_SQL["summarise_tasks"], media.shard, media.media_id, media.generation)
        return [
            TaskSummary(TaskId(row["task_id"]), row["label"], row["state"] == TaskState.DONE, row["cost_share"])
            for row in rows
        ]

    async def lock(self, media_id: MediaId, task_id: TaskId) -> Task | None:
        """One task of one media, held until the transaction ends."""
        row = await self._connection.fetchrow(_SQL["find_task"], shard_of_id(media_id), media_id, task_id)
        return None if row is None else _task(row)

    async def claim(
        self, task: Task, *, attempt: int, claim_id: UUID, worker: str, lease: timedelta, traceparent: str
    ) -> None:
        """Leases a task to the next attempt."""
        await self._connection.execute(
            _SQL["claim_task"],
            task.shard,
            task.media_id,
            task.task_id,
            attempt,
            claim_id,
            worker,
            lease,
            traceparent,
        )

    async def renew(self, media_id: MediaId, task_id: TaskId, attempt: int, lease: timedelta) -> bool:
        """Extends the lease of the latest attempt, or leases again what it lost; False when it has ended."""
        renewed = await self._connection.fetchval(
            _SQL["renew_task"], shard_of_id(media_id), media_id, task_id, attempt, lease
        )
        return renewed is not None

    async def complete(self, task: Task, result: Result, traceparent: str) -> None:
        """Records a result with the rendition and the thumbnails that it is.

        Raises:
            InvalidArgument: the generation has such a rendition or thumbnail from another task.
        """
        await self._connection.execute(
            _SQL["complete_task"],
            task.shard,
            task.media_id,
            task.task_id,
            task.attempt,
            result.body,
            traceparent,
        )
        with _once():
            if result.track is not None:
                await self._insert_rendition(task, task.ordinal, result.track)
            await self._insert_thumbnails(task, result)

    async def insert_renditions(self, task: Task, tracks: Sequence[TrackFacts]) -> None:
        """Records the tracks that the tasks of a generation made in pieces, before all others, in their order.

        Raises:
            InvalidArgument: the generation has such a rendition from another task.
        """
        with _once():
            for ordinal, track in enumerate(tracks, start=-len(tracks)):
                await self._insert_rendition(task, ordinal, track)

    async def _insert_rendition(self, task: Task, ordinal: int, track: TrackFacts) -> None:
        await self._connection.execute(
            _SQL["insert_rendition"],
            task.shard,
            ids.new_id(task.shard),
            task.media_id,
            task.generation,
            ordinal,
            track.resolution,
            track.duration_secs,
            track.bitrate_kbps,
            track.peak_bitrate_kbps,
            track.width_px,
            track.height_px,
            *track.frame_rate,
            track.codecs,
        )

    async def _insert_thumbnails(self, task: Task, result: Result) -> None:
        for still in result.thumbnails:
            await self._connection.execute(
                _SQL["insert_thumbnail"],
                task.shard,
                task.media_id,
                task.generation,
                still.size_px,
                still.s3_key,
                still.width_px,
                still.height_px,
                still.content_type,
                still.size_bytes,
                still.thumbhash,
            )

    async def requeue(self, task: Task, failure: Failure | None, *, released: bool) -> bool:
        """Makes room for another attempt; a released one does not count. False when the attempt has ended before."""
        requeued = await self._connection.fetchval(
            _SQL["requeue_task"],
            task.shard,
            task.media_id,
            task.task_id,
            task.attempt,
            failure and failure.reason,
            failure and failure.message,
            int(released),
        )
        return requeued is not None

    async def fail(self, task: Task, failure: Failure) -> None:
        """Ends a task for good, and says why."""
        await self._connection.execute(
            _SQL["fail_task"], task.shard, task.media_id, task.task_id, failure.reason, failure.message
        )

    async def end_all(self, media: Media) -> None:
        """Ends what is not done of the current generation."""
        await self._connection.execute(_SQL["end_tasks"], media.shard, media.media_id, media.generation)

    async def results(self, media: Media | Task) -> Sequence[tuple[bytes, str]]:
        """The serialised result and the trace context of each done task of a generation, in plan order.

        Args:
            media: of the generation; or one of its tasks.
        """
        rows = await self._connection.fetch(_SQL["results"], media.shard, media.media_id, media.generation)
        return [(row["result"], row["traceparent"]) for row in rows]

    async def set_playlist(self, media: Media, resolution: str, s3_manifest_key: str) -> bool:
        """Keeps where the playlist of a rendition lies; False when there is no such rendition."""
        updated = await self._connection.fetchval(
            _SQL["set_playlist"], media.shard, media.media_id, media.generation, resolution, s3_manifest_key
        )
        return updated is not None

    async def renditions(self, media: Media) -> Sequence[Rendition]:
        """The renditions of the current generation, in plan order."""
        rows = await self._connection.fetch(_SQL["list_renditions"], media.shard, media.media_id, media.generation)
        return [_rendition(row) for row in rows]

    async def thumbnails(self, media: Media) -> Sequence[Thumbnail]:
        """The stills of the current generation, largest first, JPEG before the others of its size."""
        rows = await self._connection.fetch(_SQL["list_thumbnails"], media.shard, media.media_id, media.generation)
        return [_thumbnail(row) for row in rows]

    async def smallest_thumbnails(self, shard: Shard, media_ids: Sequence[MediaId]) -> Mapping[MediaId, Thumbnail]:
        """The smallest JPEG of each of several media of a shard; those that are not published are left out."""
        rows = await self._connection.fetch(_SQL["smallest_thumbnails"], shard, media_ids)
        return {MediaId(row["media_id"]): _thumbnail(row) for row in rows}

    async def expired_leases(self, grace: timedelta, limit: int) -> Sequence[tuple[MediaId, TaskId]]:
        """Tasks of all shards whose lease ran out that long ago, the longest first."""
        rows = await self._connection.fetch(_SQL["expired_leases"], grace, limit)
        return [(MediaId(row["media_id"]), TaskId(row["task_id"])) for row in rows]


@contextmanager
def _once() -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise InvalidArgument(
            "another task of the generation made the same output", reason="OUTPUT_REPEATED"
        ) from error


def _task(row: asyncpg.Record) -> Task:
    return Task(
        shard=Shard(row["shard"]),
        task_id=TaskId(row["task_id"]),
        media_id=MediaId(row["media_id"]),
        generation=row["generation"],
        ordinal=row["ordinal"],
        label=row["label"],
        lane=row["lane"],
        spec_json=row["spec"],
        cost_share=row["cost_share"],
        memory_bytes=row["memory_bytes"],
        state=TaskState(row["state"]),
        attempt=row["attempt"],
        released=row["released"],
        claim_id=row["claim_id"],
        lease_left=row["lease_left"],
    )


def _rendition(row: asyncpg.Record) -> Rendition:
    return Rendition(
        rendition_id=row["rendition_id"],
        ordinal=row["ordinal"],
        resolution=row["resolution"],
        s3_manifest_key=row["s3_manifest_key"],
        duration_secs=row["duration_secs"],
        bitrate_kbps=row["bitrate_kbps"],
        peak_bitrate_kbps=row["peak_bitrate_kbps"],
        width_px=row["width_px"],
        height_px=row["height_px"],
        frame_rate=(row["frame_rate_num"], row["frame_rate_den"]),
        codecs=row["codecs"],
    )


def _thumbnail(row: asyncpg.Record) -> Thumbnail:
    return Thumbnail(
        size_px=row["size_px"],
        s3_key=row["s3_key"],
        width_px=row["width_px"],
        height_px=row["height_px"],
        content_type=row["content_type"],
        size_bytes=row["size_bytes"],
        thumbhash=row["thumbhash"],
    )
