"""Uploads: from the intent to a pinned original; repeats, races and refusals."""

import asyncio
from datetime import timedelta

import pytest

from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime import errors
from tests.integration.metadata.calls import SIZE_BYTES, TRACE_ID, TRACEPARENT, Metadata, Sql, within


async def test_the_same_request_makes_one_media(metadata: Metadata, user: str, sql: Sql) -> None:
    uploads = await asyncio.gather(*(metadata.create(user, request_id="r1") for _ in range(8)))
    assert len({upload.media_id for upload in uploads}) == 1
    assert await sql.fetchval("SELECT count(*) FROM media WHERE user_id = $1", user) == 1
    assert (await metadata.create(user, request_id="r2")).media_id != uploads[0].media_id
    assert (await metadata.create(f"{user}-2", request_id="r1")).media_id != uploads[0].media_id


async def test_a_request_id_serves_one_request_only(metadata: Metadata, user: str) -> None:
    await metadata.create(user, request_id="r1")
    with pytest.raises(errors.InvalidArgument) as caught:
        await metadata.create(user, request_id="r1", filename="other.mp4")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_without_a_request_id_every_call_makes_a_media(metadata: Metadata, user: str) -> None:
    assert (await metadata.create(user)).media_id != (await metadata.create(user)).media_id


async def test_a_repeat_after_processing_began_answers_the_first_record(metadata: Metadata, user: str) -> None:
    upload = await metadata.processing(user, request_id="r1")
    again = await metadata.create(user, request_id="r1")
    assert (again.media_id, again.state) == (upload.media_id, pb.UPLOAD_STATE_COMPLETED)


async def test_the_first_multipart_upload_stays(metadata: Metadata, user: str) -> None:
    media_id = (await metadata.create(user)).media_id
    answers = await asyncio.gather(*(metadata.attach(media_id, f"upload-{number}") for number in range(8)))
    assert len({answer.upload_id for answer in answers}) == 1
    assert (await metadata.upload(user, media_id)).upload_id == answers[0].upload_id


async def test_an_aborted_upload_takes_no_multipart_upload(metadata: Metadata, user: str) -> None:
    media_id = (await metadata.create(user)).media_id
    await metadata.abort(user, media_id)
    answer = await metadata.attach(media_id)
    assert (answer.upload_id, answer.state) == ("", pb.UPLOAD_STATE_ABORTED)


async def test_completing_may_be_repeated_and_given_back(metadata: Metadata, user: str) -> None:
    upload = await metadata.create(user)
    for _ in range(2):
        assert (await metadata.begin_complete(user, upload.media_id)).state == pb.UPLOAD_STATE_COMPLETING
    for _ in range(2):
        assert (await metadata.reopen(upload.media_id)).state == pb.UPLOAD_STATE_OPEN
    await metadata.begin_complete(user, upload.media_id)
    await metadata.begin_processing(upload)
    assert (await metadata.begin_complete(user, upload.media_id)).state == pb.UPLOAD_STATE_COMPLETED
    assert (await metadata.reopen(upload.media_id)).state == pb.UPLOAD_STATE_COMPLETED


async def test_an_expired_upload_cannot_be_completed(metadata: Metadata, user: str) -> None:
    upload = await metadata.create(user, time_to_live=timedelta(milliseconds=1))
    with pytest.raises(errors.FailedPrecondition) as caught:
        await metadata.begin_complete(user, upload.media_id)
    assert caught.value.reason == "UPLOAD_EXPIRED"


async def test_an_upload_that_is_completing_gets_time_for_it(metadata: Metadata, user: str, sql: Sql) -> None:
    upload = await metadata.create(user, time_to_live=timedelta(seconds=5))
    await metadata.begin_complete(user, upload.media_id)
    query = "SELECT deadline_at - now() FROM media WHERE media_id = $1"
    assert await sql.fetchval(query, upload.media_id) > timedelta(minutes=14)
    await metadata.reopen(upload.media_id)
    assert await sql.fetchval(query, upload.media_id) <= timedelta(seconds=5)


async def test_processing_begins_once(metadata: Metadata, user: str, sql: Sql) -> None:
    upload = await metadata.create(user)
    await metadata.begin_complete(user, upload.media_id)
    answers = await asyncio.gather(*(metadata.begin_processing(upload) for _ in range(8)))
    assert {answer.status for answer in answers} == {media_pb2.MEDIA_STATUS_PROCESSING}
    assert answers[0].size_bytes == SIZE_BYTES
    assert await sql.fetchval("SELECT count(*) FROM outbox WHERE media_id = $1", upload.media_id) == 1


async def test_another_original_is_refused_once_one_is_pinned(metadata: Metadata, user: str) -> None:
    upload = await metadata.processing(user)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await metadata.begin_processing(upload, etag="ffff-2")
    assert caught.value.reason == "ORIGINAL_DIFFERS"


async def test_an_original_under_another_key_is_refused(metadata: Metadata, user: str) -> None:
    upload = await metadata.create(user)
    await metadata.begin_complete(user, upload.media_id)
    upload.s3_key = "000/somewhere/else"
    with pytest.raises(errors.InvalidArgument):
        await metadata.begin_processing(upload)


async def test_an_upload_that_another_call_gave_back_is_processed_all_the_same(metadata: Metadata, user: str) -> None:
    upload = await metadata.create(user)
    await metadata.begin_complete(user, upload.media_id)
    await metadata.reopen(upload.media_id)
    assert (await metadata.begin_processing(upload)).status == media_pb2.MEDIA_STATUS_PROCESSING
    assert (await metadata.reopen(upload.media_id)).state == pb.UPLOAD_STATE_COMPLETED
    with pytest.raises(errors.FailedPrecondition):
        await metadata.abort(user, upload.media_id)


async def test_an_aborted_upload_is_not_processed(metadata: Metadata, user: str) -> None:
    upload = await metadata.create(user)
    await metadata.abort(user, upload.media_id)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await metadata.begin_processing(upload)
    assert caught.value.reason == "UPLOAD_ABORTED"


async def test_an_abort_fails_the_media_with_its_reason(metadata: Metadata, user: str) -> None:
    media_id = (await metadata.create(user)).media_id
    for caller in (user, user, ""):  # a repeat, and the suite itself, are answered the same
        answer = await metadata.abort(caller, media_id)
        assert answer.upload.state == pb.UPLOAD_STATE_ABORTED
        assert answer.media.status == media_pb2.MEDIA_STATUS_FAILED
        assert answer.media.failure.reason == "broken"


async def test_what_is_completing_or_complete_is_not_aborted(metadata: Metadata, user: str) -> None:
    upload = await metadata.create(user)
    await metadata.begin_complete(user, upload.media_id)
    for reason in ("UPLOAD_COMPLETING", "UPLOAD_COMPLETED"):
        with pytest.raises(errors.FailedPrecondition) as caught:
            await metadata.abort(user, upload.media_id)
        assert caught.value.reason == reason
        await metadata.begin_processing(upload)


async def test_of_completing_and_aborting_at_once_one_wins(metadata: Metadata, user: str) -> None:
    for _ in range(20):
        upload = await metadata.create(user)
        completing, aborted = await asyncio.gather(
            metadata.begin_complete(user, upload.media_id),
            metadata.abort(user, upload.media_id),
            return_exceptions=True,
        )
        assert isinstance(completing, errors.FailedPrecondition) != isinstance(aborted, errors.FailedPrecondition)


async def test_an_upload_of_another_size_than_announced_fails(metadata: Metadata, user: str) -> None:
    upload = await metadata.create(user)
    await metadata.begin_complete(user, upload.media_id)
    assert await metadata.fail_media(upload.media_id) == media_pb2.MEDIA_STATUS_FAILED
    assert (await metadata.upload(user, upload.media_id)).state == pb.UPLOAD_STATE_ABORTED
    with pytest.raises(errors.FailedPrecondition):
        await metadata.begin_processing(upload)


async def test_what_cannot_be_stored_is_the_callers_fault(metadata: Metadata, user: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        await metadata.create(user, filename="a\x00b")
    upload = await metadata.processing(user)
    with pytest.raises(errors.InvalidArgument) as caught:
        await metadata.plan(upload.media_id, source_json='{"title": "\\u0000"}')
    assert caught.value.reason == "VALUE_NOT_STORABLE"


async def test_the_trace_of_the_first_call_is_kept(metadata: Metadata, user: str) -> None:
    with within(TRACEPARENT):
        upload = await metadata.create(user)
    assert upload.traceparent.split("-")[1] == TRACE_ID
    assert (await metadata.media(user, upload.media_id)).trace_id == TRACE_ID
