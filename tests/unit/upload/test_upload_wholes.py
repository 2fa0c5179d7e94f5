"""Completing what came in one piece, by a PUT or by a form: every crash on the way, and what a repeat of it may do."""

import pytest

from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.upload.checksums import ChecksumAlgorithm
from services.upload.completion import Completion
from services.upload.kinds import UploadKind
from services.upload.parts import ClaimedPart
from services.upload.session import Session, SessionState, StoredOriginal
from tests.unit.upload.fakes import USER, Crash, FakeRecords, FakeStorage
from tests.unit.upload.test_upload_sessions import CRC, OTHER_CRC, TERMS, initiate, parts_of

PUT_STEPS = ["storage.head", "records.begin_complete", "storage.head", "records.begin_processing"]
FORM_STEPS = [
    "storage.head",
    "records.begin_complete",
    "storage.copy",
    "storage.head",
    "records.begin_processing",
    "storage.delete",
]
SIZE_BYTES = 1_000


async def begun(
    kind: UploadKind, *, algorithm: ChecksumAlgorithm | None = None, checksum: str = ""
) -> tuple[FakeStorage, FakeRecords, Completion, Session]:
    """An upload of which nothing has arrived."""
    storage, records, sessions = parts_of()
    size_bytes = SIZE_BYTES if kind is UploadKind.PUT else 0
    window = await initiate(sessions, size_bytes=size_bytes, kind=kind, algorithm=algorithm, checksum=checksum)
    storage.crashes.steps.clear()
    return storage, records, Completion(storage, records, TERMS.max_size_bytes), window.session


class TestPut:
    async def test_completes_in_this_order(self) -> None:
        storage, records, completion, session = await begun(UploadKind.PUT)
        await completion.complete(USER, session.media_id, storage.put(session))
        assert storage.crashes.steps == PUT_STEPS
        assert records.announced == [StoredOriginal(session.s3_key, "etag-1", SIZE_BYTES)]
        assert records.measured == [0]

    @pytest.mark.parametrize("crash_after", range(1, len(PUT_STEPS) + 1))
    async def test_a_crash_after_any_step_is_repaired_by_the_same_call(self, crash_after: int) -> None:
        storage, records, completion, session = await begun(UploadKind.PUT)
        claimed = storage.put(session)
        storage.crashes.after_step = crash_after
        with pytest.raises(Crash):
            await completion.complete(USER, session.media_id, claimed)
        await completion.complete(USER, session.media_id, claimed)
        assert records.sessions[session.media_id].state is SessionState.COMPLETED
        assert len(records.announced) == 1

    @pytest.mark.parametrize("state", [SessionState.OPEN, SessionState.COMPLETING])
    async def test_before_it_arrived_it_is_incomplete_and_stays_open(self, state: SessionState) -> None:
        storage, records, completion, session = await begun(UploadKind.PUT)
        records.set(session.media_id, state=state)
        with pytest.raises(InvalidArgument) as refused:
            await completion.complete(USER, session.media_id, [ClaimedPart(1, "etag-1")])
        assert refused.value.details == {"field": "parts", "missing_parts": "1"}
        assert records.sessions[session.media_id].state is SessionState.OPEN
        await completion.complete(USER, session.media_id, storage.put(session))
        assert len(records.announced) == 1

    @pytest.mark.parametrize(
        ("arrived", "details"),
        [
            (("other", SIZE_BYTES), "different_parts"),
            (("etag-1", SIZE_BYTES - 1), "wrong_size_parts"),
        ],
    )
    async def test_what_differs_is_refused_and_changes_no_state(self, arrived: tuple[str, int], details: str) -> None:
        storage, records, completion, session = await begun(UploadKind.PUT)
        storage.objects[session.s3_key] = StoredOriginal(session.s3_key, *arrived)
        with pytest.raises(InvalidArgument) as refused:
            await completion.complete(USER, session.media_id, [ClaimedPart(1, "etag-1")])
        assert refused.value.details == {"field": "parts", details: "1"}
        assert records.sessions[session.media_id].state is SessionState.OPEN

    @pytest.mark.parametrize("algorithm", list(ChecksumAlgorithm))
    async def test_storage_tells_either_checksum_of_a_whole(self, algorithm: ChecksumAlgorithm) -> None:
        checksum = CRC if algorithm is ChecksumAlgorithm.CRC32C else "A" * 43 + "="
        storage, records, completion, session = await begun(UploadKind.PUT, algorithm=algorithm, checksum=checksum)
        storage.objects[session.s3_key] = StoredOriginal(session.s3_key, "e", SIZE_BYTES, {algorithm: checksum})
        await completion.complete(USER, session.media_id, [ClaimedPart(1, "e")])
        assert len(records.announced) == 1

    async def test_another_checksum_fails_the_media(self) -> None:
        algorithm = ChecksumAlgorithm.CRC32C
        storage, records, completion, session = await begun(UploadKind.PUT, algorithm=algorithm, checksum=CRC)
        storage.objects[session.s3_key] = StoredOriginal(session.s3_key, "e", SIZE_BYTES, {algorithm: OTHER_CRC})
        with pytest.raises(FailedPrecondition) as refused:
            await completion.complete(USER, session.media_id, [ClaimedPart(1, "e")])
        assert refused.value.reason == "CHECKSUM_MISMATCH"
        assert records.failures[session.media_id].reason == "checksum_mismatch"

    @pytest.mark.parametrize("has_arrived", [True, False])
    async def test_it_is_resumed_where_it_has_arrived(self, has_arrived: bool) -> None:
        storage, records, completion, session = await begun(UploadKind.PUT)
        if has_arrived:
            storage.put(session)
        await completion.resume(records.set(session.media_id, state=SessionState.COMPLETING))
        expected = SessionState.COMPLETED if has_arrived else SessionState.OPEN
        assert records.sessions[session.media_id].state is expected


class TestForm:
    async def test_it_is_taken_in_in_this_order(self) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        storage.post(session, "posted", SIZE_BYTES)
        assert await completion.take_in(session)
        assert storage.crashes.steps == FORM_STEPS
        assert records.announced == [StoredOriginal(session.s3_key, "posted", SIZE_BYTES)]
        assert records.measured == [SIZE_BYTES]
        assert list(storage.objects) == [session.s3_key]

    @pytest.mark.parametrize("crash_after", range(1, len(FORM_STEPS) + 1))
    async def test_a_crash_after_any_step_is_repaired_by_the_same_call(self, crash_after: int) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        storage.post(session, "posted", SIZE_BYTES)
        storage.crashes.after_step = crash_after
        with pytest.raises(Crash):
            await completion.take_in(session)
        # Where its file is gone already, nothing was left to do.
        assert await completion.take_in(records.sessions[session.media_id]) or crash_after == len(FORM_STEPS)
        assert records.sessions[session.media_id].state is SessionState.COMPLETED
        assert records.announced == [StoredOriginal(session.s3_key, "posted", SIZE_BYTES)]
        assert list(storage.objects) == [session.s3_key]

    async def test_what_has_not_arrived_changes_nothing(self) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        assert not await completion.take_in(session)
        assert storage.crashes.steps == ["storage.head"]
        assert records.sessions[session.media_id] == session

    async def test_a_client_may_complete_it_too_without_naming_parts(self) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        with pytest.raises(InvalidArgument) as refused:
            await completion.complete(USER, session.media_id, [])
        assert refused.value.reason == "PARTS_INCOMPLETE"
        assert records.sessions[session.media_id].state is SessionState.OPEN
        storage.post(session)
        for _ in range(2):
            await completion.complete(USER, session.media_id, [])
        assert len(records.announced) == 1

    @pytest.mark.parametrize("crash_after", range(2, len(FORM_STEPS) + 1))
    async def test_a_form_sent_again_after_a_crash_changes_no_byte_of_what_is_pinned(self, crash_after: int) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        storage.post(session, "first", SIZE_BYTES)
        storage.crashes.after_step = crash_after
        with pytest.raises(Crash):
            await completion.take_in(session)
        storage.post(session, "second", 2 * SIZE_BYTES)
        assert await completion.take_in(records.sessions[session.media_id])
        (original,) = records.announced
        assert original == storage.objects[session.s3_key]
        # Copied, the first one stays; before that, the second is as good.
        assert original.etag == ("second" if crash_after < FORM_STEPS.index("storage.copy") + 1 else "first")
        assert session.incoming_key not in storage.objects

    async def test_a_form_sent_again_between_the_look_and_the_copy_is_looked_at_again(self) -> None:
        class Hasty(FakeStorage):
            async def copy(self, source_key: str, etag: str, key: str) -> None:
                if self.objects[source_key].etag == "first":
                    self.post(session, "second", 2 * SIZE_BYTES)
                await super().copy(source_key, etag, key)

        fake, records, _, session = await begun(UploadKind.FORM)
        storage = Hasty(fake.crashes)
        completion = Completion(storage, records, TERMS.max_size_bytes)
        storage.post(session, "first", SIZE_BYTES)
        assert not await completion.take_in(session)
        assert records.sessions[session.media_id].state is SessionState.OPEN
        assert await completion.take_in(session)
        assert [original.etag for original in records.announced] == ["second"]
        assert records.measured == [SIZE_BYTES, 2 * SIZE_BYTES]

    async def test_what_the_quota_does_not_allow_fails_the_media(self) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        records.room_bytes = SIZE_BYTES - 1
        storage.post(session, "posted", SIZE_BYTES)
        assert await completion.take_in(session)
        assert records.sessions[session.media_id].state is SessionState.ABORTED
        assert records.failures[session.media_id].reason == "quota_exceeded"
        assert not records.announced

    async def test_also_where_a_completion_of_a_smaller_one_had_begun(self) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        records.room_bytes = SIZE_BYTES - 1
        storage.post(session, "posted", SIZE_BYTES)
        assert await completion.take_in(records.set(session.media_id, state=SessionState.COMPLETING))
        assert records.failures[session.media_id].reason == "quota_exceeded"

    async def test_a_client_that_completes_it_hears_of_the_quota_and_it_stays_open(self) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        records.room_bytes = SIZE_BYTES - 1
        storage.post(session, "posted", SIZE_BYTES)
        with pytest.raises(Exception, match="no room"):
            await completion.complete(USER, session.media_id, [])
        assert records.sessions[session.media_id].state is SessionState.OPEN

    async def test_one_that_was_given_up_is_not_taken_in(self) -> None:
        storage, records, completion, session = await begun(UploadKind.FORM)
        storage.post(session)
        records.set(session.media_id, state=SessionState.ABORTED)
        with pytest.raises(FailedPrecondition):
            await completion.take_in(session)
        assert session.s3_key not in storage.objects
