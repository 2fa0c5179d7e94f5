"""Beginning, signing, listing and giving up, each also after a crash at any step."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from services.upload.claims import MediaType
from services.upload.sessions import Sessions, SessionState, SignedWindow, Terms
from tests.unit.upload.fakes import USER, Crash, Crashes, FakeRecords, FakeStorage

MIB = 1024 * 1024
TERMS = Terms(
    part_size_bytes=10 * MIB,
    window_parts=3,
    url_ttl=timedelta(hours=1),
    session_ttl=timedelta(days=1),
    max_size_bytes={MediaType.IMAGE: 200 * MIB, MediaType.VIDEO: 2_000 * MIB},
)


def parts_of(crashes: Crashes | None = None) -> tuple[FakeStorage, FakeRecords, Sessions]:
    shared = crashes or Crashes()
    storage, records = FakeStorage(shared), FakeRecords(shared)
    return storage, records, Sessions(storage, records, TERMS)


async def initiate(sessions: Sessions, *, size_bytes: int = 45 * MIB, request_id: str = "") -> SignedWindow:
    return await sessions.initiate(
        USER, filename="a.mp4", content_type="video/mp4", size_bytes=size_bytes, request_id=request_id
    )


async def test_the_record_comes_before_anything_at_storage() -> None:
    storage, _, sessions = parts_of()
    await initiate(sessions)
    assert storage.crashes.steps == ["records.create", "storage.create", "records.attach"]


async def test_initiate_signs_the_first_window_with_exact_lengths() -> None:
    _, _, sessions = parts_of()
    before = datetime.now(UTC)
    window = await initiate(sessions)
    assert [(part.number, part.size_bytes) for part in window.parts] == [(1, 10 * MIB), (2, 10 * MIB), (3, 10 * MIB)]
    assert before + TERMS.url_ttl <= window.expires_at <= datetime.now(UTC) + TERMS.url_ttl
    assert window.session.layout.part_count == 5


async def test_a_small_file_is_one_part() -> None:
    _, _, sessions = parts_of()
    window = await initiate(sessions, size_bytes=17)
    assert [(part.number, part.size_bytes) for part in window.parts] == [(1, 17)]


async def test_refused_claims_leave_nothing_behind() -> None:
    storage, records, sessions = parts_of()
    with pytest.raises(InvalidArgument):
        await initiate(sessions, size_bytes=0)
    assert not storage.uploads
    assert not records.sessions


async def test_whoever_attaches_second_gives_its_own_upload_up() -> None:
    storage, records, sessions = parts_of()
    records.attach_first = "upload-of-another-call"
    window = await initiate(sessions)
    assert window.session.upload_id == "upload-of-another-call"
    assert not storage.uploads


@pytest.mark.parametrize("crash_after", [1, 2, 3])
async def test_a_repeat_after_a_crash_finishes_what_was_begun(crash_after: int) -> None:
    crashes = Crashes(after_step=crash_after)
    _, records, sessions = parts_of(crashes)
    with pytest.raises(Crash):
        await initiate(sessions, request_id="r")
    window = await initiate(sessions, request_id="r")
    assert len(records.sessions) == 1
    assert window.session.upload_id
    assert len(window.parts) == 3


async def test_a_call_without_a_request_id_gets_one_of_its_own() -> None:
    _, records, sessions = parts_of()
    await initiate(sessions)
    await initiate(sessions)
    assert len(records.by_request) == len(records.sessions) == 2


async def test_a_repeat_of_a_finished_upload_has_nothing_to_sign() -> None:
    _, records, sessions = parts_of()
    first = await initiate(sessions, request_id="r")
    media_id = first.session.media_id
    records.sessions[media_id] = replace(records.sessions[media_id], state=SessionState.COMPLETED)
    repeat = await initiate(sessions, request_id="r")
    assert repeat.session.media_id == media_id
    assert not repeat.parts


async def test_signs_what_is_asked_for_in_that_order() -> None:
    _, _, sessions = parts_of()
    media_id = (await initiate(sessions)).session.media_id
    window = await sessions.sign(USER, media_id, [5, 4])
    assert [(part.number, part.size_bytes) for part in window.parts] == [(5, 5 * MIB), (4, 10 * MIB)]


async def test_lists_what_storage_holds() -> None:
    storage, _, sessions = parts_of()
    session = (await initiate(sessions)).session
    storage.put(session, 2, 1)
    _, held = await sessions.held(USER, session.media_id)
    assert [part.number for part in held] == [1, 2]


async def test_lists_what_storage_holds_also_while_completing() -> None:
    storage, records, sessions = parts_of()
    session = (await initiate(sessions)).session
    storage.put(session)
    records.sessions[session.media_id] = replace(session, state=SessionState.COMPLETING)
    _, held = await sessions.held(USER, session.media_id)
    assert [part.etag for part in held] == [f"etag-{number}" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("state", "reason"), [(SessionState.OPEN, "UPLOAD_LOST"), (SessionState.COMPLETING, "UPLOAD_COMPLETING")]
)
async def test_what_storage_no_longer_knows_is_no_unknown_media(state: SessionState, reason: str) -> None:
    storage, records, sessions = parts_of()
    session = (await initiate(sessions)).session
    storage.uploads.clear()
    records.sessions[session.media_id] = replace(session, state=state)
    with pytest.raises(FailedPrecondition) as refused:
        await sessions.held(USER, session.media_id)
    assert refused.value.reason == reason


@pytest.mark.parametrize("state", [SessionState.COMPLETING, SessionState.COMPLETED, SessionState.ABORTED])
async def test_only_an_open_upload_is_signed(state: SessionState) -> None:
    _, records, sessions = parts_of()
    media_id = (await initiate(sessions)).session.media_id
    records.sessions[media_id] = replace(records.sessions[media_id], state=state)
    with pytest.raises(FailedPrecondition) as refused:
        await sessions.sign(USER, media_id, [1])
    assert refused.value.details == {"state": state.value}


@pytest.mark.parametrize("state", [SessionState.COMPLETED, SessionState.ABORTED])
async def test_an_upload_that_ended_is_not_listed(state: SessionState) -> None:
    _, records, sessions = parts_of()
    media_id = (await initiate(sessions)).session.media_id
    records.sessions[media_id] = replace(records.sessions[media_id], state=state)
    with pytest.raises(FailedPrecondition) as refused:
        await sessions.held(USER, media_id)
    assert refused.value.details == {"state": state.value}


async def test_another_users_upload_is_unknown() -> None:
    _, _, sessions = parts_of()
    media_id = (await initiate(sessions)).session.media_id
    for call in (sessions.sign("bob", media_id, [1]), sessions.held("bob", media_id), sessions.abort("bob", media_id)):
        with pytest.raises(NotFound):
            await call


@pytest.mark.parametrize("crash_after", [1, 2, None])
async def test_abort_ends_record_and_storage_also_after_a_crash(crash_after: int | None) -> None:
    storage, records, sessions = parts_of()
    session = (await initiate(sessions)).session
    storage.put(session, 1)
    if crash_after:
        storage.crashes.after_step = len(storage.crashes.steps) + crash_after
        with pytest.raises(Crash):
            await sessions.abort(USER, session.media_id)
    await sessions.abort(USER, session.media_id)
    assert records.sessions[session.media_id].state is SessionState.ABORTED
    assert records.failures[session.media_id].reason == "upload_aborted"
    assert not storage.uploads


async def test_what_is_completing_is_not_aborted() -> None:
    storage, records, sessions = parts_of()
    session = (await initiate(sessions)).session
    records.sessions[session.media_id] = replace(session, state=SessionState.COMPLETING)
    with pytest.raises(FailedPrecondition):
        await sessions.abort(USER, session.media_id)
    assert storage.uploads
