"""Completing: the one path, every crash on it, and everything that storage may answer."""

from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from services.upload import tracing
from services.upload.completion import Completion
from services.upload.parts import ClaimedPart
from services.upload.sessions import Session, SessionState, StoredOriginal
from tests.unit.upload.fakes import TRACEPARENT, USER, Crash, Crashes, FakeRecords, FakeStorage
from tests.unit.upload.test_upload_sessions import initiate, parts_of

STEPS = [
    "storage.list",
    "records.begin_complete",
    "storage.complete",
    "storage.head",
    "records.begin_processing",
]


async def uploaded() -> tuple[FakeStorage, FakeRecords, Completion, Session, list[ClaimedPart]]:
    """An upload whose parts are all at storage."""
    storage, records, sessions = parts_of()
    session = (await initiate(sessions)).session
    claimed = storage.put(session)
    storage.crashes.steps.clear()
    return storage, records, Completion(storage, records), session, claimed


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
    records.sessions[session.media_id] = replace(session, state=SessionState.COMPLETING)
    with pytest.raises(InvalidArgument):
        await completion.complete(USER, session.media_id, [ClaimedPart(1, "wrong"), *claimed[1:]])
    assert records.sessions[session.media_id].state is SessionState.OPEN
    await completion.complete(USER, session.media_id, claimed)
    assert len(records.announced) == 1


async def test_an_aborted_upload_is_not_completed() -> None:
    storage, records, completion, session, claimed = await uploaded()
    _, _, sessions = parts_of()
    sessions = type(sessions)(storage, records, sessions._terms)
    await sessions.abort(USER, session.media_id)
    with pytest.raises(FailedPrecondition) as refused:
        await completion.complete(USER, session.media_id, claimed)
    assert refused.value.reason == "UPLOAD_ABORTED"
    assert not storage.objects


async def test_another_users_upload_is_unknown() -> None:
    _, _, completion, session, claimed = await uploaded()
    with pytest.raises(NotFound):
        await completion.complete("bob", session.media_id, claimed)


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
