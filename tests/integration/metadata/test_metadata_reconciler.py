"""The reconciler: what was lost is set going again, and what waits too long is ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from media.v1 import events_pb2, media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.metadata import app
from services.metadata.outbox.relay import Relay
from services.metadata.reconciler import LOCK_KEY, Findings, Reconciler
from services.metadata.settings import MetadataSettings
from services.metadata.store import Store
from services.runtime import errors
from services.runtime.database import Database
from tests.integration.metadata.calls import (
    TRACE_ID,
    TRACEPARENT,
    Metadata,
    Sql,
    refusing_updates,
    until,
    within,
)

NOTHING = Findings(expired_leases=0, emitted_again=0, overdue_media=0, forgotten=0)


class Broker:
    """Takes everything."""

    async def publish(
        self, subject: str, data: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        return


class WatchedStore(Store):
    """Calls `before_a_pass` ahead of each pass of a reconciler."""

    def __init__(self, connected: Database, before_a_pass: Callable[[], Awaitable[None]]) -> None:
        super().__init__(connected)
        self._before_a_pass = before_a_pass

    @asynccontextmanager
    async def alone(self, key: int) -> AsyncIterator[bool]:
        await self._before_a_pass()
        async with super().alone(key) as is_alone:
            yield is_alone


@pytest.fixture
def reconciler(settings: MetadataSettings, store: Store) -> Reconciler:
    return app.reconciler(settings, store)


@pytest.fixture
def relay(settings: MetadataSettings, store: Store) -> Relay:
    return Relay(
        store=store,
        publisher=Broker(),
        concurrency=settings.relay_connections,
        batch=settings.relay_batch,
        poll_s=settings.relay_poll_s,
        look_again_after=timedelta(hours=1),
    )


@pytest.fixture(autouse=True)
async def nothing_else(sql: Sql) -> None:
    """Every test finds only its own media."""
    await sql.execute("DELETE FROM outbox")
    await sql.execute("DELETE FROM media")


async def publish_and_let_time_pass(relay: Relay, sql: Sql) -> None:
    """Everything is published, and its effect is due."""
    await relay.publish_due(timedelta(0))
    await sql.execute("UPDATE outbox SET look_again_at = now() WHERE look_again_at IS NOT NULL")


async def emissions(sql: Sql, media_id: str) -> dict[str, int]:
    """How often each message is wanted to be said, beyond the first time, if it waits to be published."""
    rows = await sql.fetch(
        "SELECT subject, emission FROM outbox WHERE media_id = $1 AND published_at IS NULL", media_id
    )
    return {row["subject"]: row["emission"] for row in rows}


async def test_a_lease_that_ran_out_frees_its_task(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    await relay.publish_due(timedelta(0))
    claimed = await metadata.claim(media_id, task_id)
    assert await reconciler.run_once() == NOTHING
    await sql.execute("UPDATE tasks SET lease_until = now() - interval '2 s' WHERE task_id = $1", task_id)
    findings = await reconciler.run_once()
    assert findings is not None
    assert findings.expired_leases == 1
    assert await emissions(sql, media_id) == {"tasks.video": 1}
    assert (await metadata.claim(media_id, task_id)).attempt == 2
    with pytest.raises(errors.Stale):
        await metadata.renew(media_id, task_id, claimed.attempt)
    assert await reconciler.run_once() == NOTHING


async def test_an_attempt_that_is_heard_of_again_gets_its_task_back(
    metadata: Metadata, reconciler: Reconciler, user: str, sql: Sql
) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    await sql.execute("UPDATE tasks SET lease_until = now() - interval '2 s' WHERE task_id = $1", task_id)
    await reconciler.run_once()
    await metadata.renew(media_id, task_id, claimed.attempt)
    assert (await metadata.claim(media_id, task_id, worker="other")).outcome == pb.CLAIM_OUTCOME_HELD
    assert await metadata.complete(claimed) == 0


async def test_after_a_start_and_an_outage_leases_may_be_renewed_first(
    metadata: Metadata, settings: MetadataSettings, connected: Database, user: str, sql: Sql
) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    await metadata.claim(media_id, task_id)
    stop = asyncio.Event()
    seen: list[str] = []

    async def before_a_pass() -> None:
        seen.append(await sql.fetchval("SELECT state FROM tasks"))
        if len(seen) in {1, 3}:
            await sql.execute("UPDATE tasks SET state = 'leased', lease_until = now() - interval '1 h'")
        if len(seen) == 3:
            raise errors.Unavailable("away for a while")
        if len(seen) == 6:
            stop.set()

    hurried = settings.model_copy(update={"reconciler_interval_s": 0.01, "lease_amnesty_s": 0})
    await app.reconciler(hurried, WatchedStore(connected, before_a_pass)).run(stop)
    #       a start, and a pass later;   an outage, a return, and a pass later
    assert seen == ["leased", "leased", "queued", "leased", "leased", "queued"]


async def test_the_amnesty_lasts(
    metadata: Metadata, settings: MetadataSettings, connected: Database, user: str, sql: Sql
) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    await metadata.claim(media_id, task_id)
    await sql.execute("UPDATE tasks SET lease_until = now() - interval '1 h'")
    stop = asyncio.Event()
    passes = iter(range(5))

    async def before_a_pass() -> None:
        if next(passes) == 4:
            stop.set()

    often = settings.model_copy(update={"reconciler_interval_s": 0.01})
    await app.reconciler(often, WatchedStore(connected, before_a_pass)).run(stop)
    assert await sql.fetchval("SELECT state FROM tasks") == "leased"


async def test_the_last_lease_that_runs_out_fails_the_media(
    metadata: Metadata, reconciler: Reconciler, user: str, sql: Sql
) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    for _ in range(3):
        assert (await metadata.claim(media_id, task_id)).outcome == pb.CLAIM_OUTCOME_CLAIMED
        await sql.execute("UPDATE tasks SET lease_until = now() - interval '2 s' WHERE task_id = $1", task_id)
        await reconciler.run_once()
    media = await metadata.media(user, media_id)
    assert (media.status, media.failure.reason) == (media_pb2.MEDIA_STATUS_FAILED, "attempts_exhausted")


async def test_a_media_without_a_plan_is_announced_again(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    media_id = (await metadata.processing(user)).media_id
    assert await reconciler.run_once() == NOTHING  # not published yet: the relay's business
    await relay.publish_due(timedelta(0))
    assert await reconciler.run_once() == NOTHING  # too young
    await publish_and_let_time_pass(relay, sql)
    findings = await reconciler.run_once()
    assert findings is not None
    assert findings.emitted_again == 1
    assert await emissions(sql, media_id) == {"media.uploaded": 1}
    assert await reconciler.run_once() == NOTHING


async def test_tasks_that_nobody_claims_are_announced_again(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    media_id, (first, _) = await metadata.planned(user, ("720p", "audio"))
    await relay.publish_due(timedelta(0))
    await metadata.claim(media_id, first)
    await publish_and_let_time_pass(relay, sql)
    await reconciler.run_once()
    assert await emissions(sql, media_id) == {"tasks.audio": 1}


async def test_an_encoded_media_that_nobody_publishes_is_announced_again(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    media_id = await metadata.encoded(user, ("720p",))
    await publish_and_let_time_pass(relay, sql)
    await reconciler.run_once()
    assert await emissions(sql, media_id) == {"media.encoded": 1}


async def test_what_had_its_effect_is_left_alone(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    media_id = await metadata.encoded(user)
    await metadata.publish(await metadata.publication(media_id), media_id)
    await publish_and_let_time_pass(relay, sql)
    assert await reconciler.run_once() == NOTHING
    assert await sql.fetchval("SELECT count(*) FROM outbox WHERE look_again_at IS NOT NULL") == 0


async def test_a_message_that_was_said_again_meanwhile_is_looked_at_again(
    metadata: Metadata, store: Store, relay: Relay, user: str, sql: Sql
) -> None:
    """A pass saw its task claimed; before it could settle that, the task was given back and announced once more."""
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    await publish_and_let_time_pass(relay, sql)
    seen = await store.transaction(lambda transaction: transaction.outbox.overdue(10))
    (task_ready,) = [message for message in seen if message.kind == "task" and not message.missing]
    await metadata.fail_task(claimed, release=True)
    await relay.publish_due(timedelta(0))
    await store.transaction(lambda transaction: transaction.outbox.settle(task_ready.shard, [task_ready.outbox_id]))
    look_again_at = "SELECT look_again_at > now() FROM outbox WHERE outbox_id = $1"
    assert await sql.fetchval(look_again_at, task_ready.outbox_id)


async def test_a_message_without_effect_is_repeated_ever_more_seldom(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    await metadata.planned(user, ("720p",))
    relay = replace(relay, look_again_after=timedelta(minutes=1))
    waits = []
    for _ in range(5):
        await relay.publish_due(timedelta(0))
        waits.append(await sql.fetchval("SELECT look_again_at - published_at FROM outbox WHERE kind = 'task'"))
        await publish_and_let_time_pass(relay, sql)
        await reconciler.run_once()
    assert waits == [timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 16)]


async def test_a_media_that_an_outage_held_up_goes_on_soon_after_it(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    await metadata.processing(user)
    await metadata.encoded(user, ("720p",))
    relay = replace(relay, look_again_after=timedelta(minutes=1))
    waits: dict[str, list[timedelta]] = {"media.uploaded": [], "media.encoded": []}
    for _ in range(5):
        await relay.publish_due(timedelta(0))
        for kind, of_kind in waits.items():
            of_kind.append(
                await sql.fetchval("SELECT max(look_again_at - published_at) FROM outbox WHERE subject = $1", kind)
            )
        await publish_and_let_time_pass(relay, sql)
        await reconciler.run_once()
    assert set(map(tuple, waits.values())) == {tuple(timedelta(minutes=minutes) for minutes in (1, 2, 4, 5, 5))}


async def test_a_broker_that_lost_everything_costs_a_delay(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    """Whatever stage a media is in, the message that it waits for is said again."""
    unplanned = (await metadata.processing(user)).media_id
    queued, _ = await metadata.planned(user, ("720p",))
    encoded = await metadata.encoded(user, ("720p",))
    await publish_and_let_time_pass(relay, sql)
    await reconciler.run_once()
    assert await emissions(sql, unplanned) == {"media.uploaded": 1}
    assert await emissions(sql, queued) == {"tasks.video": 1}
    assert await emissions(sql, encoded) == {"media.encoded": 1}


async def test_an_upload_past_its_deadline_fails(
    metadata: Metadata, reconciler: Reconciler, user: str, sql: Sql
) -> None:
    media_id = (await metadata.create(user, time_to_live=timedelta(milliseconds=1))).media_id
    other_id = (await metadata.create(user)).media_id
    findings = await reconciler.run_once()
    assert findings is not None
    assert findings.overdue_media == 1
    media = await metadata.media(user, media_id)
    assert (media.status, media.failure.reason) == (media_pb2.MEDIA_STATUS_FAILED, "upload_expired")
    assert (await metadata.upload(user, media_id)).state == pb.UPLOAD_STATE_ABORTED
    assert (await metadata.media(user, other_id)).status == media_pb2.MEDIA_STATUS_UPLOADING
    assert await reconciler.run_once() == NOTHING
    assert await sql.fetchval("SELECT count(*) FROM outbox WHERE kind = 'media.failed'") == 1


async def test_processing_past_its_deadline_fails_in_the_trace_of_the_upload(
    metadata: Metadata, reconciler: Reconciler, user: str, sql: Sql
) -> None:
    with within(TRACEPARENT):
        upload = await metadata.create(user)
    await metadata.begin_complete(user, upload.media_id)
    await metadata.begin_processing(upload)
    await metadata.plan(upload.media_id, ("720p",))
    await sql.execute("UPDATE media SET deadline_at = now() - interval '1 s'")
    await reconciler.run_once()
    media = await metadata.media(user, upload.media_id)
    assert media.failure.reason == "processing_timed_out"
    row = await sql.fetchrow("SELECT body, traceparent FROM outbox WHERE kind = 'media.failed'")
    assert row is not None
    assert events_pb2.MediaFailed.FromString(row["body"]).failure.reason == "processing_timed_out"
    assert row["traceparent"].split("-")[1] == TRACE_ID
    (task,) = media.tasks
    assert (await metadata.claim(upload.media_id, task.task_id)).outcome == pb.CLAIM_OUTCOME_OBSOLETE


async def test_old_messages_of_the_past_are_forgotten_and_open_ones_kept(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    done = await metadata.encoded(user, ("720p",))
    await metadata.publish(await metadata.publication(done), done)
    waiting = (await metadata.processing(user)).media_id
    await publish_and_let_time_pass(relay, sql)
    await sql.execute("UPDATE outbox SET look_again_at = NULL WHERE media_id = $1", done)
    await sql.execute("UPDATE outbox SET look_again_at = now() + interval '1 h' WHERE media_id = $1", waiting)
    await sql.execute("UPDATE outbox SET published_at = now() - interval '8 days'")
    findings = await reconciler.run_once()
    assert findings is not None
    assert findings.forgotten == 5
    assert [row["media_id"] for row in await sql.fetch("SELECT media_id::text FROM outbox")] == [waiting]


async def test_one_reconciler_at_a_time(reconciler: Reconciler, store: Store) -> None:
    async with store.alone(LOCK_KEY) as is_alone:
        assert is_alone
        assert await reconciler.run_once() is None
    assert await reconciler.run_once() == NOTHING


async def test_two_passes_at_once_do_nothing_twice(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    media_id, _ = await metadata.planned(user)
    await publish_and_let_time_pass(relay, sql)
    await asyncio.gather(*(reconciler.run_once() for _ in range(4)))
    assert set((await emissions(sql, media_id)).values()) == {1}


async def test_one_message_that_cannot_be_said_again_keeps_no_other_waiting(
    metadata: Metadata, reconciler: Reconciler, relay: Relay, user: str, sql: Sql
) -> None:
    broken, *others = [(await metadata.processing(f"{user}-{number}")).media_id for number in range(3)]
    await publish_and_let_time_pass(relay, sql)
    async with refusing_updates(sql, broken):
        findings = await reconciler.run_once()
    assert findings is not None
    assert findings.emitted_again == 2
    for media_id in others:
        assert await emissions(sql, media_id) == {"media.uploaded": 1}
    await reconciler.run_once()
    assert await emissions(sql, broken) == {"media.uploaded": 1}


async def test_it_goes_on_after_a_pass_that_failed_for_an_unknown_reason(
    metadata: Metadata, settings: MetadataSettings, connected: Database, user: str
) -> None:
    upload = await metadata.create(user, time_to_live=timedelta(milliseconds=1))
    stop = asyncio.Event()
    passes = iter(range(4))

    async def before_a_pass() -> None:
        match next(passes):
            case 0 | 1:
                raise RuntimeError("nobody thought of this")
            case 3:
                stop.set()

    often = settings.model_copy(update={"reconciler_interval_s": 0.01})
    await app.reconciler(often, WatchedStore(connected, before_a_pass)).run(stop)
    assert (await metadata.media(user, upload.media_id)).status == media_pb2.MEDIA_STATUS_FAILED


async def test_it_runs_until_it_is_told_to_stop(
    metadata: Metadata, settings: MetadataSettings, store: Store, user: str
) -> None:
    upload = await metadata.create(user, time_to_live=timedelta(milliseconds=1))
    stop = asyncio.Event()

    async def has_failed() -> bool:
        return (await metadata.media(user, upload.media_id)).status == media_pb2.MEDIA_STATUS_FAILED

    often = settings.model_copy(update={"reconciler_interval_s": 0.05})
    async with asyncio.TaskGroup() as group:
        group.create_task(app.reconciler(often, store).run(stop))
        await until(has_failed)
        stop.set()
