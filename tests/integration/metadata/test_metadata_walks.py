"""Whatever is called, in whatever order, from however many sides: no state ever regresses, nothing is said twice, and
quotas are the sum of what is there.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.metadata import app
from services.metadata.settings import MetadataSettings
from services.metadata.store import Store
from services.runtime.errors import MillraceError
from tests.integration.metadata.calls import SIZE_BYTES, Metadata, Sql
from tests.integration.metadata.invariants import holding_throughout, quotas_hold

CALLS_A_WALK = 30
AT_ONCE = 3
RANK = {
    media_pb2.MEDIA_STATUS_UPLOADING: 0,
    media_pb2.MEDIA_STATUS_PROCESSING: 1,
    media_pb2.MEDIA_STATUS_PUBLISHED: 2,
    media_pb2.MEDIA_STATUS_FAILED: 2,
}


class Walk:
    """One media, and all that may be asked of it, with good and with stale arguments."""

    def __init__(self, metadata: Metadata, user: str, upload: pb.Upload, seed: int) -> None:
        self.metadata = metadata
        self.user = user
        self.upload = upload
        self.random = random.Random(seed)
        self.claims: list[pb.ClaimTaskResponse] = []

    async def step(self) -> None:
        """Some call; that it is refused is fine."""
        media_id = self.upload.media_id
        # Forward calls come more often than those that end the walk early.
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: self.metadata.attach(media_id),
            self._begin_complete,
            self._begin_complete,
            lambda: self.metadata.reopen(media_id),
            self._begin_processing,
            self._sweep,
            lambda: self.metadata.plan(media_id, ("720p", "audio"), generation=self.random.choice([1, 1, 1, 2])),
            self._claim,
            self._claim,
            self._complete,
            self._complete,
            self._fail_task,
            self._publish,
            self._publish,
        ]
        if self.random.random() < 0.03:
            calls = [lambda: self.metadata.abort(self.user, media_id), lambda: self.metadata.fail_media(media_id)]
        with suppress(MillraceError):
            await self.random.choice(calls)()

    async def _begin_complete(self) -> None:
        measured_bytes = self.random.choice([0, 700, 900, 10**15])  # the last is more than there is room for
        await self.metadata.begin_complete(self.user, self.upload.media_id, size_bytes=measured_bytes)

    async def _begin_processing(self) -> None:
        size_bytes = self.upload.size_bytes or self.random.choice([700, 900])
        await self.metadata.begin_processing(self.upload, size_bytes=size_bytes)

    async def _sweep(self) -> None:
        sweeps = await self.metadata.claim_sweeps(limit=3, lease=timedelta(milliseconds=1))
        for sweep in sweeps:
            await self.metadata.finish_sweep(sweep, self.random.choice([None, timedelta(0)]))

    async def _claim(self) -> None:
        tasks = (await self.metadata.media(self.user, self.upload.media_id)).tasks
        if tasks:
            lease = self.random.choice([timedelta(milliseconds=1), timedelta(seconds=30)])
            task_id = self.random.choice(tasks).task_id
            claimed = await self.metadata.claim(self.upload.media_id, task_id, lease=lease)
            if claimed.outcome == pb.CLAIM_OUTCOME_CLAIMED:
                self.claims.append(claimed)

    async def _complete(self) -> None:
        if self.claims:
            await self.metadata.complete(self.random.choice(self.claims))

    async def _fail_task(self) -> None:
        if self.claims:
            release = self.random.random() < 0.7
            await self.metadata.fail_task(self.random.choice(self.claims), release=release)

    async def _publish(self) -> None:
        publication = await self.metadata.publication(self.upload.media_id)
        await self.metadata.publish(publication, self.upload.media_id)


@pytest.mark.parametrize("seed", range(12))
async def test_no_sequence_of_calls_takes_a_media_back(
    seed: int, metadata: Metadata, settings: MetadataSettings, store: Store, sql: Sql
) -> None:
    user = f"walker-{seed}"
    kind = [media_pb2.UPLOAD_KIND_MULTIPART, media_pb2.UPLOAD_KIND_PUT, media_pb2.UPLOAD_KIND_FORM][seed % 3]
    is_known = kind == media_pb2.UPLOAD_KIND_PUT or seed % 2 == 0
    upload = await metadata.create(user, kind=kind, size_bytes=SIZE_BYTES if is_known else 0)
    walk = Walk(metadata, user, upload, seed)
    media_id = walk.upload.media_id
    done: set[str] = set()
    last = await metadata.media(user, media_id)
    for number in range(CALLS_A_WALK // AT_ONCE):
        async with holding_throughout(lambda: quotas_hold(sql)):
            await asyncio.gather(*(walk.step() for _ in range(AT_ONCE)))
        if number % 5 == 4:
            await app.reconciler(settings, store).run_once()
        media = await metadata.media(user, media_id)
        assert RANK[media.status] >= RANK[last.status]
        assert last.status == media.status or RANK[media.status] > RANK[last.status]
        assert done <= (done := {task.task_id for task in media.tasks if task.done})
        assert (media.status == media_pb2.MEDIA_STATUS_FAILED) == media.HasField("failure")
        assert bool(media.renditions) == (media.status == media_pb2.MEDIA_STATUS_PUBLISHED)
        last = media
    said = await sql.fetch("SELECT kind, count(*) AS n FROM outbox WHERE media_id = $1 GROUP BY kind", media_id)
    times = {row["kind"]: row["n"] for row in said}
    assert times.get("media.published", 0) + times.get("media.failed", 0) == (RANK[last.status] == 2)
    assert all(n == 1 for kind, n in times.items() if kind != "task")


@pytest.mark.parametrize("seed", range(6))
async def test_quotas_are_the_sum_of_what_is_there_whatever_is_called(
    seed: int, metadata: Metadata, settings: MetadataSettings, store: Store, sql: Sql
) -> None:
    """Two owners, several media each at once, and time that runs out for some of them."""
    chance = random.Random(seed)

    async def one(user: str) -> None:
        size_bytes = chance.choice([0, SIZE_BYTES, 1])
        upload = await metadata.create(user, size_bytes=size_bytes, request_id=chance.choice(["", "same"]))
        walk = Walk(metadata, user, upload, chance.randrange(10**6))
        for _ in range(8):
            await asyncio.gather(walk.step(), walk.step())
            if chance.random() < 0.1:
                overdue = "UPDATE media SET deadline_at = now() WHERE media_id = $1 AND deadline_at IS NOT NULL"
                async with lock:
                    await sql.execute(overdue, upload.media_id)

    lock = asyncio.Lock()  # one connection, one statement at a time

    async def check() -> None:
        async with lock:
            await quotas_hold(sql)

    users = [f"crowd-{seed}-{number}" for number in range(2)]
    async with holding_throughout(check):
        results = await asyncio.gather(*(one(user) for user in users for _ in range(4)), return_exceptions=True)
        await app.reconciler(settings, store).run_once()
    assert all(result is None or isinstance(result, MillraceError) for result in results), results
    assert await sql.fetchval("SELECT count(*) FROM media WHERE user_id = ANY($1)", users) > 0
