"""Uploads: from the intent to a pinned original; repeats, races and refusals."""

import asyncio
import base64
import itertools
from datetime import timedelta
from typing import Any

import pytest

from media.v1 import events_pb2, media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime import errors, ids
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


class TestBegunAtStorage:
    """The multipart upload was there before the record."""

    async def test_it_is_recorded_at_once(self, metadata: Metadata, user: str) -> None:
        media_id = str(ids.new_media_id(user))
        upload = await metadata.create(user, media_id=media_id, upload_id="u")
        assert (upload.media_id, upload.upload_id, upload.state) == (media_id, "u", pb.UPLOAD_STATE_OPEN)
        assert upload.s3_key == ids.original_key(ids.parse_media_id(media_id))
        assert await metadata.upload(user, media_id) == upload

    async def test_a_repeat_after_a_lost_reply_finds_itself(self, metadata: Metadata, user: str) -> None:
        media_id = str(ids.new_media_id(user))
        answers = await asyncio.gather(
            *(metadata.create(user, media_id=media_id, upload_id="u", request_id="r") for _ in range(5))
        )
        assert {(answer.media_id, answer.upload_id) for answer in answers} == {(media_id, "u")}
        assert (await metadata.quota(user)).media_count == 1

    async def test_of_many_with_the_same_request_one_is_recorded_and_all_are_told_which(
        self, metadata: Metadata, user: str
    ) -> None:
        begun = [(str(ids.new_media_id(user)), f"u{number}") for number in range(8)]
        answers = await asyncio.gather(
            *(metadata.create(user, media_id=m, upload_id=u, request_id="r") for m, u in begun)
        )
        (winner,) = {(answer.media_id, answer.upload_id) for answer in answers}
        assert winner in begun
        assert (await metadata.quota(user)).open_upload_count == 1

    async def test_an_identifier_of_anothers_shard_is_refused(self, metadata: Metadata, user: str) -> None:
        with pytest.raises(errors.InvalidArgument) as refused:
            await metadata.create(user, media_id=str(ids.new_media_id(f"{user}-2")), upload_id="u")
        assert refused.value.details["field"] == "media_id"
        with pytest.raises(errors.NotFound):
            await metadata.create(user, media_id="nonsense")

    async def test_an_identifier_of_another_owner_in_the_same_shard_is_not_taken_over(
        self, metadata: Metadata, user: str
    ) -> None:
        shard = ids.shard_of_user(user)
        neighbour = next(name for n in itertools.count() if ids.shard_of_user(name := f"{user}-{n}") == shard)
        media_id = (await metadata.create(user)).media_id
        with pytest.raises(errors.InvalidArgument) as refused:
            await metadata.create(neighbour, media_id=media_id)
        assert refused.value.details["field"] == "media_id"
        assert (await metadata.upload(user, media_id)).user_id == user
        assert (await metadata.quota(neighbour)).media_count == 0


class TestKindsAndChecksums:
    CRC = "AAAAAA=="
    SHA256 = base64.b64encode(bytes(range(32))).decode()

    @pytest.mark.parametrize(
        ("kind", "size_bytes", "part_size_bytes"),
        [
            (media_pb2.UPLOAD_KIND_MULTIPART, SIZE_BYTES, 10_000_000),
            (media_pb2.UPLOAD_KIND_MULTIPART, 0, 0),
            (media_pb2.UPLOAD_KIND_PUT, 17, 10_000_000),
            (media_pb2.UPLOAD_KIND_FORM, 0, 0),
        ],
    )
    async def test_what_was_agreed_is_kept(
        self,
        kind: "media_pb2.UploadKind.ValueType",
        size_bytes: int,
        part_size_bytes: int,
        metadata: Metadata,
        user: str,
    ) -> None:
        algorithm = media_pb2.CHECKSUM_ALGORITHM_CRC32C
        created = await metadata.create(user, kind=kind, size_bytes=size_bytes, algorithm=algorithm, checksum=self.CRC)
        assert await metadata.upload(user, created.media_id) == created
        assert (created.kind, created.size_bytes, created.part_size_bytes) == (kind, size_bytes, part_size_bytes)
        assert (created.checksum_algorithm, created.checksum) == (algorithm, self.CRC)

    @pytest.mark.parametrize(
        "changed",
        [
            {"size_bytes": SIZE_BYTES + 1},
            {"size_bytes": 0},
            {"kind": media_pb2.UPLOAD_KIND_PUT},
            {"algorithm": media_pb2.CHECKSUM_ALGORITHM_CRC32C},
        ],
        ids=str,
    )
    async def test_a_request_id_serves_one_kind_of_upload_only(
        self, changed: dict[str, Any], metadata: Metadata, user: str
    ) -> None:
        await metadata.create(user, request_id="r")
        with pytest.raises(errors.InvalidArgument) as caught:
            await metadata.create(user, request_id="r", **changed)
        assert caught.value.reason == "REQUEST_ID_REUSED"

    async def test_the_first_checksum_of_the_whole_stays(self, metadata: Metadata, user: str) -> None:
        algorithm = media_pb2.CHECKSUM_ALGORITHM_CRC32C
        media_id = (await metadata.create(user, algorithm=algorithm)).media_id
        assert (await metadata.begin_complete(user, media_id)).checksum == ""
        for given in (self.CRC, "AAAAAQ==", ""):
            assert (await metadata.begin_complete(user, media_id, checksum=given)).checksum == self.CRC

    @pytest.mark.parametrize(
        ("created", "expected"),
        [
            ({"algorithm": media_pb2.CHECKSUM_ALGORITHM_SHA256, "checksum": SHA256}, bytes(range(32))),
            ({"algorithm": media_pb2.CHECKSUM_ALGORITHM_SHA256}, b""),
            ({"algorithm": media_pb2.CHECKSUM_ALGORITHM_CRC32C, "checksum": CRC}, b""),
            (
                {
                    "algorithm": media_pb2.CHECKSUM_ALGORITHM_SHA256,
                    "checksum": SHA256,
                    "kind": media_pb2.UPLOAD_KIND_PUT,
                },
                b"",
            ),
        ],
        ids=["hash of parts", "no checksum", "CRC", "hash of a whole"],
    )
    async def test_whoever_plans_is_told_what_storage_could_not_verify(
        self, created: dict[str, Any], expected: bytes, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        upload = await metadata.create(user, **created)
        await metadata.begin_complete(user, upload.media_id)
        await metadata.begin_processing(upload)
        body = await sql.fetchval("SELECT body FROM outbox WHERE media_id = $1", upload.media_id)
        assert events_pb2.MediaUploaded.FromString(body).expected_sha256 == expected

    async def test_that_is_so_also_for_one_that_was_given_at_the_end(
        self, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        upload = await metadata.create(user, algorithm=media_pb2.CHECKSUM_ALGORITHM_SHA256)
        await metadata.begin_complete(user, upload.media_id, checksum=self.SHA256)
        await metadata.begin_processing(upload)
        body = await sql.fetchval("SELECT body FROM outbox WHERE media_id = $1", upload.media_id)
        assert events_pb2.MediaUploaded.FromString(body).expected_sha256 == bytes(range(32))

    async def test_a_checksum_is_told_once_it_was_verified(self, metadata: Metadata, user: str) -> None:
        sha256 = media_pb2.CHECKSUM_ALGORITHM_SHA256
        upload = await metadata.create(user, algorithm=sha256, checksum=self.SHA256)
        assert (await metadata.media(user, upload.media_id)).checksum == ""
        await metadata.begin_complete(user, upload.media_id)
        assert (await metadata.begin_processing(upload)).checksum == ""
        await metadata.plan(upload.media_id)
        media = await metadata.media(user, upload.media_id)
        assert (media.checksum_algorithm, media.checksum) == (sha256, self.SHA256)

    async def test_a_crc_is_told_as_soon_as_storage_joined_the_parts(self, metadata: Metadata, user: str) -> None:
        crc = media_pb2.CHECKSUM_ALGORITHM_CRC32C
        upload = await metadata.create(user, algorithm=crc, checksum=self.CRC)
        assert (await metadata.media(user, upload.media_id)).checksum == ""
        await metadata.begin_complete(user, upload.media_id)
        assert (await metadata.begin_processing(upload)).checksum == self.CRC
