"""Plans, leases, results and faults: what is recorded once, and who is refused."""

import asyncio
from datetime import timedelta

import pytest

from media.v1 import events_pb2, media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime import errors, ids
from tests.integration.metadata.calls import (
    LADDER,
    MEMORY_BYTES,
    TRACE_ID,
    TRACEPARENT,
    Metadata,
    Sql,
    result_of,
    stills_of,
    track_of,
    within,
)

GONE_AT_ONCE = timedelta(milliseconds=1)


async def test_the_first_plan_stays(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id = (await metadata.processing(user)).media_id
    counts = await asyncio.gather(
        *(metadata.plan(media_id, labels) for labels in (("480p",), LADDER, ("360p", "audio")))
    )
    assert len(set(counts)) == 1
    assert await metadata.plan(media_id, ("240p",)) == counts[0]
    assert await sql.fetchval("SELECT count(*) FROM tasks WHERE media_id = $1", media_id) == counts[0]


async def test_a_plan_corrects_the_type_by_the_bytes(metadata: Metadata, user: str) -> None:
    video, image = media_pb2.MEDIA_TYPE_VIDEO, media_pb2.MEDIA_TYPE_IMAGE
    media_id = (await metadata.processing(user, media_type=video)).media_id
    assert (await metadata.media(user, media_id)).type == video
    await metadata.plan(media_id, ("image",), found_type=image)
    assert (await metadata.media(user, media_id)).type == image
    (task,) = (await metadata.media(user, media_id)).tasks
    await metadata.complete(await metadata.claim(media_id, task.task_id))
    publication = await metadata.publication(media_id)
    assert publication.type == image
    await metadata.publish(publication, media_id)
    assert [media.type for media in (await metadata.page(user)).media] == [image]


async def test_only_the_plan_that_stays_corrects_the_type(metadata: Metadata, user: str) -> None:
    media_id = (await metadata.processing(user)).media_id
    await metadata.plan(media_id)
    await metadata.plan(media_id, found_type=media_pb2.MEDIA_TYPE_IMAGE)
    assert (await metadata.media(user, media_id)).type == media_pb2.MEDIA_TYPE_VIDEO
    with pytest.raises(errors.Stale):
        await metadata.plan(media_id, generation=2, found_type=media_pb2.MEDIA_TYPE_IMAGE)
    assert (await metadata.media(user, media_id)).type == media_pb2.MEDIA_TYPE_VIDEO


async def test_a_plan_for_another_generation_or_a_final_media_is_stale(metadata: Metadata, user: str) -> None:
    media_id = (await metadata.processing(user)).media_id
    with pytest.raises(errors.Stale):
        await metadata.plan(media_id, generation=2)
    await metadata.fail_media(media_id)
    with pytest.raises(errors.Stale):
        await metadata.plan(media_id)


async def test_a_plan_before_the_upload_is_complete_is_refused(metadata: Metadata, user: str) -> None:
    with pytest.raises(errors.FailedPrecondition):
        await metadata.plan((await metadata.create(user)).media_id)


async def test_messages_of_tasks_name_them(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, task_ids = await metadata.planned(user)
    rows = await sql.fetch("SELECT body FROM outbox WHERE media_id = $1 AND kind = 'task'", media_id)
    ready = [events_pb2.TaskReady.FromString(row["body"]) for row in rows]
    assert {message.task_id for message in ready} == set(task_ids)
    assert {(message.media_id, message.generation) for message in ready} == {(media_id, 1)}
    assert {message.memory_bytes for message in ready} == {MEMORY_BYTES}


async def test_a_task_that_was_given_back_says_its_memory_again(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    assert await metadata.fail_task(await metadata.claim(media_id, task_id), release=True)
    body = await sql.fetchval("SELECT body FROM outbox WHERE task_id = $1", task_id)
    assert events_pb2.TaskReady.FromString(body).memory_bytes == MEMORY_BYTES


async def test_of_many_claims_at_once_one_is_granted(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    answers = await asyncio.gather(*(metadata.claim(media_id, task_id, worker=f"w{n}") for n in range(12)))
    outcomes = [answer.outcome for answer in answers]
    assert outcomes.count(pb.CLAIM_OUTCOME_CLAIMED) == 1
    assert outcomes.count(pb.CLAIM_OUTCOME_HELD) == 11
    held = next(answer for answer in answers if answer.outcome == pb.CLAIM_OUTCOME_HELD)
    # Counted from when the refused claim began, which may be before the granted one did.
    assert timedelta(seconds=20) < held.retry_after.ToTimedelta() < timedelta(seconds=35)


async def test_a_claim_whose_reply_was_lost_may_be_repeated(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id, other_id) = await metadata.planned(user, ("720p", "audio"))
    await metadata.claim(media_id, task_id, claim_id="c1", lease=timedelta(seconds=1))
    again = await asyncio.gather(*(metadata.claim(media_id, task_id, claim_id="c1") for _ in range(4)))
    assert {(answer.outcome, answer.attempt) for answer in again} == {(pb.CLAIM_OUTCOME_CLAIMED, 1)}
    assert {answer.task.task_id for answer in again} == {task_id}
    lease_left = await sql.fetchval("SELECT lease_until - now() FROM tasks WHERE task_id = $1", task_id)
    assert lease_left > timedelta(seconds=20), "a fresh lease"
    assert (await metadata.claim(media_id, task_id, claim_id="c2")).outcome == pb.CLAIM_OUTCOME_HELD
    assert (await metadata.claim(media_id, task_id)).outcome == pb.CLAIM_OUTCOME_HELD
    assert (await metadata.claim(media_id, other_id, claim_id="c1")).attempt == 1
    assert await metadata.complete(again[0]) == 1
    assert (await metadata.claim(media_id, task_id, claim_id="c1")).outcome == pb.CLAIM_OUTCOME_OBSOLETE


async def test_a_claim_that_lost_its_lease_meanwhile_may_be_repeated(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    await metadata.claim(media_id, task_id, claim_id="c1")
    await sql.execute("UPDATE tasks SET state = 'queued', lease_until = NULL WHERE task_id = $1", task_id)
    again = await metadata.claim(media_id, task_id, claim_id="c1")
    assert (again.outcome, again.attempt) == (pb.CLAIM_OUTCOME_CLAIMED, 1)


async def test_an_attempt_that_has_ended_is_not_claimed_again(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    await metadata.fail_task(await metadata.claim(media_id, task_id, claim_id="c1"), release=True)
    assert (await metadata.claim(media_id, task_id, claim_id="c1")).attempt == 2


@pytest.mark.parametrize("claim_id", ["x" * 65, "a\nb"])
async def test_claims_have_short_printable_names(metadata: Metadata, user: str, claim_id: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    with pytest.raises(errors.InvalidArgument) as caught:
        await metadata.claim(media_id, task_id, claim_id=claim_id)
    assert caught.value.details["field"] == "claim_id"


async def test_a_claimed_task_says_all_that_its_worker_needs(metadata: Metadata, user: str) -> None:
    media_id, (task_id, _) = await metadata.planned(user, ("720p", "audio"))
    claimed = await metadata.claim(media_id, task_id)
    assert claimed.attempt == 1
    assert (claimed.task.label, claimed.task.lane, claimed.task.generation) == ("720p", "video", 1)
    assert claimed.task.spec_json == '{"label": "720p"}'
    shard = ids.shard_of_user(user)
    assert claimed.task.delivery_prefix.startswith(f"{shard:03x}/{media_id}/1/")
    assert claimed.task.original.etag == "0123abcd-2"


async def test_an_overtaken_attempt_is_refused_everything(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id, _) = await metadata.planned(user, ("720p", "audio"))
    zombie = await metadata.claim(media_id, task_id, worker="zombie", lease=GONE_AT_ONCE)
    await asyncio.sleep(0.01)
    second = await metadata.claim(media_id, task_id, worker="second")
    assert (second.outcome, second.attempt) == (pb.CLAIM_OUTCOME_CLAIMED, 2)
    with pytest.raises(errors.Stale):
        await metadata.renew(media_id, task_id, zombie.attempt)
    with pytest.raises(errors.Stale):
        await metadata.complete(zombie)
    with pytest.raises(errors.Stale):
        await metadata.fail_task(zombie, permanent=True)
    assert await metadata.complete(second) == 1
    with pytest.raises(errors.Stale):
        await metadata.complete(zombie)
    key = await sql.fetchval("SELECT result FROM tasks WHERE task_id = $1", task_id)
    assert "/a2/" in media_pb2.TaskResult.FromString(key).track.init_s3_key


async def test_an_attempt_that_nobody_overtook_may_finish_late(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id, lease=GONE_AT_ONCE)
    await asyncio.sleep(0.01)
    assert await metadata.complete(claimed) == 0


async def test_a_renewed_lease_holds(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id, lease=timedelta(milliseconds=200))
    await metadata.renew(media_id, task_id, claimed.attempt, lease=timedelta(seconds=30))
    await asyncio.sleep(0.25)
    assert (await metadata.claim(media_id, task_id)).outcome == pb.CLAIM_OUTCOME_HELD


async def test_an_attempt_that_never_was_or_has_ended_is_not_renewed(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    with pytest.raises(errors.Stale):
        await metadata.renew(media_id, task_id, 0)
    for release in (True, False):
        claimed = await metadata.claim(media_id, task_id)
        await metadata.fail_task(claimed, release=release)
        with pytest.raises(errors.Stale):
            await metadata.renew(media_id, task_id, claimed.attempt)


async def test_a_result_may_be_sent_twice(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (first, last) = await metadata.planned(user, ("720p", "poster"))
    for task_id, remaining in ((first, 1), (last, 0)):
        claimed = await metadata.claim(media_id, task_id)
        assert [await metadata.complete(claimed) for _ in range(3)] == [remaining] * 3
    assert (await metadata.claim(media_id, first)).outcome == pb.CLAIM_OUTCOME_OBSOLETE
    assert await sql.fetchval("SELECT count(*) FROM renditions WHERE media_id = $1", media_id) == 1
    assert await sql.fetchval("SELECT count(*) FROM thumbnails WHERE media_id = $1", media_id) == 6


@pytest.mark.parametrize(
    "meanwhile",
    [
        "generation = 2, planned_at = NULL",
        "status = 'published', published_at = now(), deadline_at = NULL",
        "status = 'failed', failure_reason = 'r', failure_message = 'm', deadline_at = NULL",
    ],
    ids=["processed once more", "published", "failed"],
)
async def test_a_result_that_is_sent_again_late_announces_nothing(
    metadata: Metadata, user: str, sql: Sql, meanwhile: str
) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    assert await metadata.complete(claimed) == 0
    await sql.execute("DELETE FROM outbox WHERE media_id = $1", media_id)  # as the reconciler does with old ones
    await sql.execute(f"UPDATE media SET {meanwhile} WHERE media_id = $1", media_id)
    assert await metadata.complete(claimed) == 0
    assert await sql.fetchval("SELECT count(*) FROM outbox WHERE media_id = $1", media_id) == 0


async def test_fifty_calls_that_end_the_last_two_tasks_announce_encoded_once(
    metadata: Metadata, user: str, sql: Sql
) -> None:
    media_id, task_ids = await metadata.planned(user)
    for task_id in task_ids[2:]:
        await metadata.complete(await metadata.claim(media_id, task_id))
    last_two = [await metadata.claim(media_id, task_id) for task_id in task_ids[:2]]
    remaining = await asyncio.gather(*(metadata.complete(last_two[number % 2]) for number in range(50)))
    assert set(remaining) <= {0, 1}
    assert 0 in remaining
    encoded = await sql.fetch("SELECT body FROM outbox WHERE media_id = $1 AND kind = 'media.encoded'", media_id)
    assert len(encoded) == 1
    assert events_pb2.MediaEncoded.FromString(encoded[0]["body"]).generation == 1


async def test_results_outside_the_delivery_prefix_are_refused(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    stray = media_pb2.TaskResult(track=track_of("720p", "somebody/elses/prefix"))
    with pytest.raises(errors.InvalidArgument) as caught:
        await metadata.complete(claimed, stray)
    assert caught.value.reason == "KEY_OUTSIDE_PREFIX"
    assert await metadata.complete(claimed) == 0


async def test_two_tasks_cannot_make_the_same_output(metadata: Metadata, user: str) -> None:
    media_id, (poster, other) = await metadata.planned(user, ("poster", "720p"))
    await metadata.complete(await metadata.claim(media_id, poster))
    claimed = await metadata.claim(media_id, other)
    same = media_pb2.TaskResult(stills=stills_of(f"{claimed.task.delivery_prefix}/720p/a1", (150,)))
    with pytest.raises(errors.InvalidArgument) as caught:
        await metadata.complete(claimed, same)
    assert caught.value.reason == "OUTPUT_REPEATED"
    assert await metadata.complete(claimed) == 0


async def test_a_fault_queues_the_task_again_after_a_wait(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    assert await metadata.fail_task(claimed)
    assert await metadata.fail_task(claimed), "a repeat answers the same"
    row = await sql.fetchrow(
        "SELECT emission, not_before > created_at AS later FROM outbox WHERE task_id = $1", task_id
    )
    assert row is not None
    assert (row["emission"], row["later"]) == (1, True)
    assert (await metadata.claim(media_id, task_id)).attempt == 2


async def test_the_last_fault_fails_the_media_and_ends_the_other_tasks(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id, other_id) = await metadata.planned(user, ("720p", "audio"))
    other = await metadata.claim(media_id, other_id)
    for will_retry in (True, True, False):
        claimed = await metadata.claim(media_id, task_id)
        assert await metadata.fail_task(claimed) is will_retry
    assert not await metadata.fail_task(claimed), "a repeat answers the same"
    media = await metadata.media(user, media_id)
    assert (media.status, media.failure.reason) == (media_pb2.MEDIA_STATUS_FAILED, "broken")
    assert (await metadata.claim(media_id, task_id)).outcome == pb.CLAIM_OUTCOME_OBSOLETE
    with pytest.raises(errors.Stale):
        await metadata.renew(media_id, other_id, other.attempt)
    with pytest.raises(errors.Stale):
        await metadata.complete(other)
    body = await sql.fetchval("SELECT body FROM outbox WHERE media_id = $1 AND kind = 'media.failed'", media_id)
    assert events_pb2.MediaFailed.FromString(body).failure.reason == "broken"


async def test_a_permanent_fault_fails_the_media_at_once(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    assert not await metadata.fail_task(await metadata.claim(media_id, task_id), permanent=True)
    assert (await metadata.media(user, media_id)).status == media_pb2.MEDIA_STATUS_FAILED


async def test_a_task_given_back_costs_no_attempt_and_no_wait(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    for _ in range(5):  # more often than attempts are allowed
        assert await metadata.fail_task(await metadata.claim(media_id, task_id), release=True)
    assert await sql.fetchval("SELECT not_before <= now() FROM outbox WHERE task_id = $1", task_id)
    claimed = await metadata.claim(media_id, task_id)
    assert claimed.attempt == 6
    with pytest.raises(errors.InvalidArgument):
        await metadata.fail_task(claimed, release=True, permanent=True)
    assert await metadata.complete(claimed) == 0


async def test_a_task_given_back_waits_as_long_as_its_worker_says(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    for _ in range(3):  # a repeat answers the same and counts no second time
        assert await metadata.fail_task(claimed, release=True, retry_after=timedelta(minutes=7))
    row = await sql.fetchrow("SELECT emission, not_before - now() AS wait FROM outbox WHERE task_id = $1", task_id)
    assert row is not None
    assert timedelta(minutes=6) < row["wait"] <= timedelta(minutes=7)
    assert row["emission"] == 1
    assert await sql.fetchval("SELECT released FROM tasks WHERE task_id = $1", task_id) == 1


@pytest.mark.parametrize(
    ("release", "retry_after"),
    [(True, timedelta(hours=2)), (True, timedelta(seconds=-1)), (False, timedelta(seconds=1))],
)
async def test_a_wait_that_nobody_may_ask_for_is_refused(
    metadata: Metadata, user: str, release: bool, retry_after: timedelta
) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    with pytest.raises(errors.InvalidArgument) as caught:
        await metadata.fail_task(claimed, release=release, retry_after=retry_after)
    assert caught.value.details["field"] == "retry_after"
    await metadata.renew(media_id, task_id, claimed.attempt)


async def test_an_attempt_that_lost_its_lease_may_still_give_back(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    await sql.execute("UPDATE tasks SET state = 'queued', lease_until = NULL WHERE task_id = $1", task_id)
    assert await metadata.fail_task(claimed, release=True, retry_after=timedelta(minutes=7))
    assert await sql.fetchval("SELECT released FROM tasks WHERE task_id = $1", task_id) == 1
    assert await sql.fetchval("SELECT not_before > now() FROM outbox WHERE task_id = $1", task_id)


async def test_attempts_that_die_without_a_word_use_up_the_allowance(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    for attempt in (1, 2, 3):
        assert (await metadata.claim(media_id, task_id, lease=GONE_AT_ONCE)).attempt == attempt
        await asyncio.sleep(0.01)
    assert (await metadata.claim(media_id, task_id)).outcome == pb.CLAIM_OUTCOME_OBSOLETE
    media = await metadata.media(user, media_id)
    assert media.failure.reason == "attempts_exhausted"


async def test_unknown_tasks_are_not_found(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    other_media_id, _ = await metadata.planned(user, ("720p",))
    for media, task in (
        (media_id, str(ids.new_id(ids.shard_of_user(user)))),
        (media_id, "nonsense"),
        (other_media_id, task_id),
        (str(ids.new_media_id(user)), task_id),
    ):
        with pytest.raises(errors.NotFound):
            await metadata.claim(media, task)


async def test_messages_and_results_carry_the_trace_of_their_cause(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id, (task_id,) = await metadata.planned(user, ("720p",))
    claimed = await metadata.claim(media_id, task_id)
    with within(TRACEPARENT):
        await metadata.complete(claimed, result_of(claimed))
    encoded = "SELECT traceparent FROM outbox WHERE media_id = $1 AND kind = 'media.encoded'"
    assert (await sql.fetchval(encoded, media_id)).split("-")[1] == TRACE_ID
    (link,) = (await metadata.publication(media_id)).task_traceparents
    assert link.split("-")[1] == TRACE_ID
