"""Completing what came in parts: the one path, every crash on it, and everything that storage may answer."""

from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from services.upload import tracing
from services.upload.checksums import ChecksumAlgorithm
from services.upload.completion import Completion
from services.upload.kinds import UploadKind
from services.upload.parts import ClaimedPart, HeldPart
from services.upload.session import Session, SessionState, StoredOriginal
from services.upload.sessions import Sessions
from tests.unit.upload.fakes import TRACEPARENT, USER, Crash, Crashes, FakeRecords, FakeStorage
from tests.unit.upload.test_upload_sessions import CRC, MIB, OTHER_CRC, TERMS, initiate, parts_of

STEPS = [
    "storage.list",
    "records.begin_complete",
    "storage.complete",
    "storage.head",
    "records.begin_processing",
]
SHA256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


async def uploaded(
    algorithm: ChecksumAlgorithm | None = None, checksum: str = ""
) -> tuple[FakeStorage, FakeRecords, Completion, Session, list[ClaimedPart]]:
    """An upload whose parts are all at storage."""
    storage, records, sessions = parts_of()
    session = (await initiate(sessions, algorithm=algorithm, checksum=checksum)).session
    claimed = storage.put(session)
    storage.crashes.steps.clear()
    return storage, records, Completion(storage, records, TERMS.max_size_bytes), session, claimed


async def test_completes_in_this_order() -> None:
    storage, records, completion, session, claimed = await uploaded()
    await completion.complete(USER, session.media_id, claimed)
    assert storage.crashes.steps == STEPS
    assert records.announced == [StoredOriginal(session.s3_key, "joined-5", session.layout.size_bytes)]


@pytest.mark.parametrize("crash_after", range(1, len(STEPS) + 1))
async def test_a_crash_after_any_step_is_repaired_by_the_same_call(crash_after: int) -> None:
    storage, records, completion, session, claimed = await uploaded()
    storage.crashes.after_step = crash_after
    with pytest.raises(Crash):
        await completion.complete(USER, session.media_id, claimed)
    await completion.complete(USER, session.media_id, claimed)
    assert records.sessions[session.media_id].state is SessionState.COMPLETED
    assert len(records.announced) == 1
    assert storage.joined_count == 1


async def test_a_repeat_of_what_is_complete_asks_storage_nothing() -> None:
    storage, records, completion, session, claimed = await uploaded()
    await completion.complete(USER, session.media_id, claimed)
    storage.crashes.steps.clear()
    await completion.complete(USER, session.media_id, claimed)
    assert not storage.crashes.steps
    assert len(records.announced) == 1


@pytest.mark.parametrize("kept", [slice(1, None), slice(0, 0)])
async def test_parts_left_out_change_no_state(kept: slice) -> None:
    storage, records, completion, session, claimed = await uploaded()
    with pytest.raises(InvalidArgument):
        await completion.complete(USER, session.media_id, claimed[kept])
    assert records.sessions[session.media_id].state is SessionState.OPEN
    assert not storage.crashes.steps


async def test_a_wrong_etag_changes_no_state() -> None:
    _, records, completion, session, claimed = await uploaded()
    with pytest.raises(InvalidArgument) as refused:
        await completion.complete(USER, session.media_id, [ClaimedPart(1, "wrong"), *claimed[1:]])
    assert refused.value.details["different_parts"] == "1"
    assert records.sessions[session.media_id].state is SessionState.OPEN


async def test_what_storage_refuses_is_open_again() -> None:
    storage, records, completion, session, claimed = await uploaded()
    storage.refusal = FailedPrecondition("no", details={"storage_code": "InvalidPart"})
    with pytest.raises(InvalidArgument) as refused:
        await completion.complete(USER, session.media_id, claimed)
    assert refused.value.reason == "PARTS_REFUSED"
    assert refused.value.details["storage_code"] == "InvalidPart"
    assert records.sessions[session.media_id].state is SessionState.OPEN
    storage.refusal = None
    await completion.complete(USER, session.media_id, claimed)
    assert len(records.announced) == 1


async def test_a_refusal_after_another_call_has_joined_the_parts_is_none() -> None:
    storage, records, completion, session, claimed = await uploaded()
    storage.refusal = FailedPrecondition("already")
    storage.objects[session.s3_key] = StoredOriginal(session.s3_key, "joined", session.layout.size_bytes)
    await completion.complete(USER, session.media_id, claimed)
    assert [original.etag for original in records.announced] == ["joined"]


async def test_parts_that_vanish_because_another_call_joins_them_are_none_that_differ() -> None:
    class Joining(FakeStorage):
        async def list_parts(self, key: str, upload_id: str) -> Sequence[HeldPart]:
            """Shows the parts while they are being removed: this storage has no moment at which all of them go."""
            await self.complete(key, upload_id, claimed, None)
            return ()

    fake, records, _, session, claimed = await uploaded()
    storage = Joining(uploads=fake.uploads, keys=fake.keys, algorithms=fake.algorithms)
    await Completion(storage, records, TERMS.max_size_bytes).complete(USER, session.media_id, claimed)
    assert records.announced == [StoredOriginal(session.s3_key, "joined-5", session.layout.size_bytes)]


async def test_an_original_of_another_size_fails_the_media() -> None:
    storage, records, completion, session, claimed = await uploaded()
    storage.uploads.clear()
    storage.objects[session.s3_key] = StoredOriginal(session.s3_key, "e", 7)
    with pytest.raises(FailedPrecondition) as refused:
        await completion.complete(USER, session.media_id, claimed)
    assert refused.value.reason == "SIZE_MISMATCH"
    assert records.failures[session.media_id].reason == "size_mismatch"
    assert not records.announced


@pytest.mark.parametrize("crash_after", [2, 3, 4, 5])
async def test_a_crash_while_failing_it_is_repaired_too(crash_after: int) -> None:
    storage, records, completion, session, claimed = await uploaded()
    storage.uploads.clear()
    storage.objects[session.s3_key] = StoredOriginal(session.s3_key, "e", 7)
    storage.crashes.after_step = crash_after
    with pytest.raises((Crash, FailedPrecondition)):
        await completion.complete(USER, session.media_id, claimed)
    with pytest.raises(FailedPrecondition):
        await completion.complete(USER, session.media_id, claimed)
    assert records.failures[session.media_id].reason == "size_mismatch"


@pytest.mark.parametrize("crash_after", [None, 1, 2, 3, 4])
async def test_an_upload_that_storage_lost_fails_the_media(crash_after: int | None) -> None:
    storage, records, completion, session, claimed = await uploaded()
    storage.uploads.clear()
    if crash_after:
        storage.crashes.after_step = crash_after
        with pytest.raises(Crash):
            await completion.complete(USER, session.media_id, claimed)
    with pytest.raises(FailedPrecondition) as refused:
        await completion.complete(USER, session.media_id, claimed)
    assert refused.value.reason in {"UPLOAD_LOST", "UPLOAD_ABORTED"}
    assert records.sessions[session.media_id].state is SessionState.ABORTED
    assert records.failures[session.media_id].reason == "upload_lost"


async def test_wrong_parts_while_completing_open_the_upload_again() -> None:
    _, records, completion, session, claimed = await uploaded()
    records.set(session.media_id, state=SessionState.COMPLETING)
    with pytest.raises(InvalidArgument):
        await completion.complete(USER, session.media_id, [ClaimedPart(1, "wrong"), *claimed[1:]])
    assert records.sessions[session.media_id].state is SessionState.OPEN
    await completion.complete(USER, session.media_id, claimed)
    assert len(records.announced) == 1


async def test_an_aborted_upload_is_not_completed() -> None:
    storage, records, completion, session, claimed = await uploaded()
    await Sessions(storage, records, TERMS).abort(USER, session.media_id)
    with pytest.raises(FailedPrecondition) as refused:
        await completion.complete(USER, session.media_id, claimed)
    assert refused.value.reason == "UPLOAD_ABORTED"
    assert not storage.objects


async def test_another_users_upload_is_unknown() -> None:
    _, _, completion, session, claimed = await uploaded()
    with pytest.raises(NotFound):
        await completion.complete("bob", session.media_id, claimed)


async def test_storages_identifier_of_another_upload_completes_none() -> None:
    storage, records, completion, session, claimed = await uploaded()
    with pytest.raises(NotFound) as refused:
        await completion.complete(USER, session.media_id, claimed, upload_id="upload-of-another")
    assert refused.value.reason == "MEDIA_NOT_FOUND"
    assert (storage.crashes.steps, records.announced) == ([], [])
    await completion.complete(USER, session.media_id, claimed, upload_id=session.upload_id)
    with pytest.raises(NotFound):
        await completion.complete(USER, session.media_id, claimed, upload_id="upload-of-another")


class TestUnknownSize:
    """Parts of a file whose size nobody said."""

    @staticmethod
    async def uploaded(*sizes_bytes: int) -> tuple[FakeStorage, FakeRecords, Completion, Session, list[ClaimedPart]]:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions, size_bytes=0, kind=UploadKind.MULTIPART)).session
        claimed = storage.put_sizes(session, dict(enumerate(sizes_bytes, start=1)))
        storage.crashes.steps.clear()
        return storage, records, Completion(storage, records, TERMS.max_size_bytes), session, claimed

    async def test_what_storage_holds_is_the_size(self) -> None:
        _, records, completion, session, claimed = await self.uploaded(6 * MIB, 9 * MIB, 5)
        await completion.complete(USER, session.media_id, claimed)
        assert records.measured == [15 * MIB + 5]
        assert [original.size_bytes for original in records.announced] == [15 * MIB + 5]

    async def test_parts_that_are_not_named_do_not_count(self) -> None:
        _, records, completion, session, claimed = await self.uploaded(6 * MIB, 9 * MIB, 5)
        await completion.complete(USER, session.media_id, claimed[:2])
        assert records.measured == [15 * MIB]

    @pytest.mark.parametrize("crash_after", range(1, len(STEPS) + 1))
    async def test_a_crash_after_any_step_is_repaired_by_the_same_call(self, crash_after: int) -> None:
        storage, records, completion, session, claimed = await self.uploaded(6 * MIB, 5)
        storage.crashes.after_step = crash_after
        with pytest.raises(Crash):
            await completion.complete(USER, session.media_id, claimed)
        await completion.complete(USER, session.media_id, claimed)
        assert set(records.measured) <= {0, 6 * MIB + 5}
        assert [original.size_bytes for original in records.announced] == [6 * MIB + 5]

    async def test_more_than_its_type_allows_is_refused_and_stays_open(self) -> None:
        storage, records, completion, session, claimed = await self.uploaded(2_000 * MIB, 1)
        with pytest.raises(InvalidArgument) as refused:
            await completion.complete(USER, session.media_id, claimed)
        assert refused.value.reason == "FILE_TOO_LARGE"
        assert records.sessions[session.media_id].state is SessionState.OPEN
        assert storage.joined_count == 0
        await completion.complete(USER, session.media_id, claimed[:1])
        assert len(records.announced) == 1

    async def test_more_than_the_quota_allows_is_refused_and_stays_open(self) -> None:
        storage, records, completion, session, claimed = await self.uploaded(6 * MIB)
        records.room_bytes = 6 * MIB - 1
        with pytest.raises(ResourceExhausted):
            await completion.complete(USER, session.media_id, claimed)
        assert records.sessions[session.media_id].state is SessionState.OPEN
        assert storage.uploads
        records.room_bytes += 1
        await completion.complete(USER, session.media_id, claimed)
        assert len(records.announced) == 1

    @pytest.mark.parametrize("numbers", [[], [1, 3], [2], [1, 1], [10_001], [0, 1]])
    async def test_parts_are_named_from_the_first_on_without_a_gap(self, numbers: list[int]) -> None:
        storage, _, completion, session, _ = await self.uploaded(6 * MIB, 6 * MIB, 6 * MIB)
        claimed = [ClaimedPart(number, f"etag-{number}") for number in numbers]
        with pytest.raises(InvalidArgument) as refused:
            await completion.complete(USER, session.media_id, claimed)
        assert refused.value.reason == "PARTS_INCOMPLETE"
        assert storage.crashes.steps == []


class TestWholeFileChecksum:
    async def test_one_that_storage_confirms_is_passed(self) -> None:
        storage, records, completion, session, claimed = await uploaded(ChecksumAlgorithm.CRC32C, CRC)
        storage.joined_checksum = CRC
        await completion.complete(USER, session.media_id, claimed)
        assert len(records.announced) == 1

    async def test_it_may_be_given_at_the_end(self) -> None:
        storage, records, completion, session, claimed = await uploaded(ChecksumAlgorithm.CRC32C)
        storage.joined_checksum = CRC
        await completion.complete(USER, session.media_id, claimed, checksum=CRC)
        assert records.sessions[session.media_id].checksum == CRC

    @pytest.mark.parametrize("when", ["at the beginning", "at the end"])
    @pytest.mark.parametrize("crash_after", [None, 1, 2, 3, 4, 5, 6])
    async def test_one_that_storage_denies_fails_the_media_also_after_a_crash(
        self, when: str, crash_after: int | None
    ) -> None:
        given = CRC if when == "at the beginning" else ""
        storage, records, completion, session, claimed = await uploaded(ChecksumAlgorithm.CRC32C, given)
        storage.joined_checksum = OTHER_CRC
        if crash_after:
            storage.crashes.after_step = crash_after
            with pytest.raises(Crash):
                await completion.complete(USER, session.media_id, claimed, checksum=CRC)
        with pytest.raises(FailedPrecondition) as refused:
            await completion.complete(USER, session.media_id, claimed, checksum=CRC)
        assert refused.value.reason == ("UPLOAD_ABORTED" if crash_after == 6 else "CHECKSUM_MISMATCH")
        if crash_after != 6:
            assert refused.value.details == {"expected": CRC, "found": OTHER_CRC}
        assert records.failures[session.media_id].reason == "checksum_mismatch"
        assert not records.announced

    async def test_storage_that_knows_none_denies_it(self) -> None:
        storage, records, completion, session, claimed = await uploaded(ChecksumAlgorithm.CRC32C, CRC)
        storage.objects[session.s3_key] = StoredOriginal(session.s3_key, "e", session.layout.size_bytes)
        storage.uploads.clear()
        with pytest.raises(FailedPrecondition):
            await completion.complete(USER, session.media_id, claimed)
        assert records.failures[session.media_id].reason == "checksum_mismatch"

    async def test_a_hash_of_what_was_joined_is_left_to_whoever_reads_the_bytes(self) -> None:
        _, records, completion, session, claimed = await uploaded(ChecksumAlgorithm.SHA256, SHA256)
        await completion.complete(USER, session.media_id, claimed)
        assert len(records.announced) == 1

    @pytest.mark.parametrize(
        ("algorithm", "first", "checksum"),
        [
            (ChecksumAlgorithm.CRC32C, CRC, OTHER_CRC),
            (ChecksumAlgorithm.CRC32C, "", "nonsense"),
            (ChecksumAlgorithm.CRC32C, "", SHA256),
            (None, "", CRC),
        ],
    )
    async def test_one_that_cannot_be_right_changes_no_state(
        self, algorithm: ChecksumAlgorithm | None, first: str, checksum: str
    ) -> None:
        storage, records, completion, session, claimed = await uploaded(algorithm, first)
        with pytest.raises(InvalidArgument) as refused:
            await completion.complete(USER, session.media_id, claimed, checksum=checksum)
        assert refused.value.reason == "CHECKSUM_INVALID"
        assert records.sessions[session.media_id] == session
        assert storage.crashes.steps == []


class TestResume:
    """Going on without the client, whose list of parts nobody has."""

    async def test_what_was_joined_is_pinned(self) -> None:
        storage, records, completion, session, claimed = await uploaded()
        storage.crashes.after_step = STEPS.index("storage.complete") + 1
        with pytest.raises(Crash):
            await completion.complete(USER, session.media_id, claimed)
        await completion.resume(records.sessions[session.media_id])
        assert records.sessions[session.media_id].state is SessionState.COMPLETED
        assert [original.etag for original in records.announced] == ["joined-5"]

    @pytest.mark.parametrize("crash_after", [1, 2, None])
    async def test_what_was_not_is_opened_again(self, crash_after: int | None) -> None:
        storage, records, completion, session, claimed = await uploaded()
        session = records.set(session.media_id, state=SessionState.COMPLETING)
        if crash_after:
            storage.crashes.soon(crash_after)
            with pytest.raises(Crash):
                await completion.resume(session)
        await completion.resume(session)
        assert records.sessions[session.media_id].state is SessionState.OPEN
        await completion.complete(USER, session.media_id, claimed)
        assert len(records.announced) == 1

    async def test_what_was_joined_wrongly_fails_the_media(self) -> None:
        storage, records, completion, session, claimed = await uploaded(ChecksumAlgorithm.CRC32C, CRC)
        storage.joined_checksum = OTHER_CRC
        storage.crashes.after_step = STEPS.index("storage.complete") + 1
        with pytest.raises(Crash):
            await completion.complete(USER, session.media_id, claimed)
        with pytest.raises(FailedPrecondition):
            await completion.resume(records.sessions[session.media_id])
        assert records.failures[session.media_id].reason == "checksum_mismatch"


def test_a_call_outside_the_uploads_trace_goes_on_in_it() -> None:
    elsewhere = trace.NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1)))
    with trace.use_span(elsewhere), tracing.continuing("complete upload", TRACEPARENT):
        assert trace.get_current_span().get_span_context().trace_id == int(TRACEPARENT.split("-")[1], 16)


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-" + "0" * 31 + "1-" + "0" * 15 + "2-01"])
def test_a_call_within_it_or_without_one_stays_where_it_is(traceparent: str) -> None:
    here = trace.NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1)))
    with trace.use_span(here), tracing.continuing("complete upload", traceparent):
        assert trace.get_current_span() is here


def test_crashes_count_over_all_fakes() -> None:
    crashes = Crashes(after_step=2)
    crashes.took_effect("one")
    with pytest.raises(Crash):
        crashes.took_effect("two")
