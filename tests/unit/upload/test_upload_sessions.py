"""Beginning, signing, listing and giving up, each also after a crash at any step."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.runtime.errors import FailedPrecondition, InvalidArgument, MillraceError, NotFound, ResourceExhausted
from services.upload.checksums import ChecksumAlgorithm
from services.upload.claims import MediaType
from services.upload.kinds import UploadKind
from services.upload.parts import HeldPart
from services.upload.session import SessionState
from services.upload.sessions import WHOLE_MAX_BYTES, Sessions, SignedWindow, Terms
from tests.unit.upload.fakes import USER, Crash, Crashes, FakeRecords, FakeStorage, used_for_another

MIB = 1024 * 1024
TERMS = Terms(
    part_size_bytes=10 * MIB,
    put_max_bytes=8 * MIB,
    window_parts=3,
    url_ttl=timedelta(hours=1),
    session_ttl=timedelta(days=1),
    max_size_bytes={MediaType.IMAGE: 200 * MIB, MediaType.VIDEO: 2_000 * MIB},
)
CRC = "AAAAAA=="
OTHER_CRC = "AAAAAQ=="


def parts_of(crashes: Crashes | None = None) -> tuple[FakeStorage, FakeRecords, Sessions]:
    shared = crashes or Crashes()
    storage, records = FakeStorage(shared), FakeRecords(shared)
    return storage, records, Sessions(storage, records, TERMS)


async def initiate(
    sessions: Sessions,
    *,
    size_bytes: int = 45 * MIB,
    request_id: str = "",
    kind: UploadKind | None = None,
    algorithm: ChecksumAlgorithm | None = None,
    checksum: str = "",
) -> SignedWindow:
    return await sessions.initiate(
        USER,
        filename="a.mp4",
        content_type="video/mp4",
        size_bytes=size_bytes,
        request_id=request_id,
        kind=kind,
        checksum_algorithm=algorithm,
        checksum=checksum,
    )


class TestInitiate:
    async def test_what_began_at_storage_is_recorded_in_one_call(self) -> None:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions)).session
        assert storage.crashes.steps == ["storage.create", "records.create"]
        assert storage.keys == {session.upload_id: session.s3_key}
        assert (records.intents[0].upload_id, records.intents[0].time_to_live) == (session.upload_id, TERMS.session_ttl)

    async def test_signs_the_first_window_with_exact_lengths(self) -> None:
        _, _, sessions = parts_of()
        before = datetime.now(UTC)
        window = await initiate(sessions)
        assert [(part.number, part.size_bytes) for part in window.parts] == [
            (1, 10 * MIB),
            (2, 10 * MIB),
            (3, 10 * MIB),
        ]
        assert all(part.headers == {} for part in window.parts)
        assert all(f"content-length={10 * MIB}," in part.url for part in window.parts)
        assert before + TERMS.url_ttl <= window.expires_at <= datetime.now(UTC) + TERMS.url_ttl
        assert window.session.layout.part_count == 5

    async def test_a_small_file_is_one_put_that_storage_takes_once(self) -> None:
        storage, _, sessions = parts_of()
        window = await initiate(sessions, size_bytes=17)
        assert (window.session.kind, window.session.upload_id) == (UploadKind.PUT, "")
        (part,) = window.parts
        assert (part.number, part.size_bytes, part.headers) == (1, 17, {"if-none-match": "*"})
        assert part.url.startswith(f"put {window.session.s3_key}: if-none-match=* content-length=17,")
        assert storage.crashes.steps == ["records.create"]

    async def test_a_small_file_may_come_as_one_part(self) -> None:
        _, _, sessions = parts_of()
        window = await initiate(sessions, size_bytes=17, kind=UploadKind.MULTIPART)
        assert [(part.number, part.size_bytes, part.headers) for part in window.parts] == [(1, 17, {})]

    async def test_a_form_leads_to_a_key_of_its_own(self) -> None:
        storage, records, sessions = parts_of()
        window = await initiate(sessions, size_bytes=0, kind=UploadKind.FORM)
        assert window.form is not None
        assert not window.parts
        assert window.form.fields == {"key": window.session.incoming_key, "max_size_bytes": str(2_000 * MIB)}
        assert window.session.incoming_key == window.session.s3_key.replace("/original", "/incoming")
        assert window.expires_at > datetime.now(UTC)
        assert storage.crashes.steps == ["records.create"]
        assert (records.intents[0].claim.size_bytes, records.intents[0].part_size_bytes) == (0, 0)

    @pytest.mark.parametrize("checksum", ["", CRC])
    async def test_a_form_promises_no_checksum(self, checksum: str) -> None:
        """Storage verifies none, so that its file would fail for lack of it."""
        _, records, sessions = parts_of()
        with pytest.raises(InvalidArgument) as refused:
            await initiate(
                sessions, size_bytes=0, kind=UploadKind.FORM, algorithm=ChecksumAlgorithm.CRC32C, checksum=checksum
            )
        assert refused.value.details == {"field": "checksum_algorithm"}
        assert not records.sessions

    async def test_a_form_takes_no_more_than_storage_can_copy(self) -> None:
        storage, records, _ = parts_of()
        roomy = replace(TERMS, max_size_bytes=dict.fromkeys(MediaType, 2 * WHOLE_MAX_BYTES))
        window = await initiate(Sessions(storage, records, roomy), size_bytes=0, kind=UploadKind.FORM)
        assert window.form is not None
        assert window.form.fields["max_size_bytes"] == str(WHOLE_MAX_BYTES)

    async def test_parts_of_a_file_of_unknown_size_are_signed_when_asked_for_and_bind_no_length(self) -> None:
        _, records, sessions = parts_of()
        window = await initiate(sessions, size_bytes=0, kind=UploadKind.MULTIPART)
        assert not window.parts
        assert not window.session.layout.is_known
        assert records.intents[0].part_size_bytes == 0
        signed = (await sessions.sign(USER, window.session.media_id, [1, 300])).parts
        assert [(part.number, part.size_bytes) for part in signed] == [(1, 0), (300, 0)]
        assert not any("content-length" in part.url for part in signed)

    @pytest.mark.parametrize(("number", "held_bytes"), [(401, 0), (10_000, 0), (16, 2_000 * MIB + 1)])
    async def test_parts_that_can_only_be_beyond_the_limit_are_not_signed(self, number: int, held_bytes: int) -> None:
        storage, _, sessions = parts_of()
        session = (await initiate(sessions, size_bytes=0, kind=UploadKind.MULTIPART)).session
        storage.uploads[session.upload_id][1] = HeldPart(1, "etag", held_bytes)
        with pytest.raises(InvalidArgument) as refused:
            await sessions.sign(USER, session.media_id, [number])
        assert refused.value.reason == "FILE_TOO_LARGE"

    async def test_a_whole_that_is_larger_than_a_part_is_one_all_the_same(self) -> None:
        _, _, sessions = parts_of()
        window = await initiate(sessions, size_bytes=25 * MIB, kind=UploadKind.PUT)
        assert [(part.number, part.size_bytes) for part in window.parts] == [(1, 25 * MIB)]
        with pytest.raises(InvalidArgument):
            await initiate(sessions, size_bytes=WHOLE_MAX_BYTES + 1, kind=UploadKind.PUT)

    async def test_a_form_says_nothing_of_its_size_and_is_given_up_soon_after_its_url_dies(self) -> None:
        _, records, sessions = parts_of()
        await initiate(sessions, size_bytes=45 * MIB, kind=UploadKind.FORM)
        assert (records.intents[0].claim.size_bytes, records.intents[0].part_size_bytes) == (0, 0)
        assert TERMS.url_ttl < records.intents[0].time_to_live < TERMS.session_ttl

    @pytest.mark.parametrize("kind", [None, UploadKind.PUT])
    async def test_other_kinds_need_a_size(self, kind: UploadKind | None) -> None:
        storage, records, sessions = parts_of()
        with pytest.raises(InvalidArgument) as refused:
            await initiate(sessions, size_bytes=0, kind=kind)
        assert refused.value.reason == "FILE_EMPTY"
        assert not storage.uploads
        assert not records.sessions

    @pytest.mark.parametrize(
        ("algorithm", "checksum", "reason"),
        [(None, CRC, "CHECKSUM_INVALID"), (ChecksumAlgorithm.SHA256, CRC, "CHECKSUM_INVALID")],
    )
    async def test_refused_checksums_leave_nothing_behind(
        self, algorithm: ChecksumAlgorithm | None, checksum: str, reason: str
    ) -> None:
        storage, records, sessions = parts_of()
        with pytest.raises(InvalidArgument) as refused:
            await initiate(sessions, algorithm=algorithm, checksum=checksum)
        assert refused.value.reason == reason
        assert not storage.uploads
        assert not records.sessions

    @pytest.mark.parametrize(
        "refusal", [ResourceExhausted("full", reason="QUOTA_EXCEEDED"), used_for_another()], ids=lambda r: r.reason
    )
    async def test_what_the_records_refuse_is_given_up_at_storage(self, refusal: MillraceError) -> None:
        storage, records, sessions = parts_of()
        records.refusal = refusal
        with pytest.raises(type(refusal)) as refused:
            await initiate(sessions)
        assert refused.value is refusal
        assert not storage.uploads

    async def test_a_refused_put_has_nothing_at_storage_to_give_up(self) -> None:
        storage, records, sessions = parts_of()
        records.room_bytes = 16
        with pytest.raises(ResourceExhausted):
            await initiate(sessions, size_bytes=17)
        assert storage.crashes.steps == []

    async def test_whoever_comes_second_gives_its_own_upload_up(self) -> None:
        storage, _, sessions = parts_of()
        first = await initiate(sessions, request_id="r")
        second = await initiate(sessions, request_id="r")
        assert second.session == first.session
        assert list(storage.uploads) == [first.session.upload_id]
        assert [part.number for part in second.parts] == [1, 2, 3]

    @pytest.mark.parametrize(
        ("kind", "size_bytes", "crash_after"),
        [
            (None, 45 * MIB, 1),
            (None, 45 * MIB, 2),
            (None, 17, 1),
            (UploadKind.MULTIPART, 0, 1),
            (UploadKind.MULTIPART, 0, 2),
            (UploadKind.FORM, 0, 1),
        ],
    )
    async def test_a_repeat_after_a_crash_makes_one_session(
        self, kind: UploadKind | None, size_bytes: int, crash_after: int
    ) -> None:
        storage, records, sessions = parts_of(Crashes(after_step=crash_after))
        with pytest.raises(Crash):
            await initiate(sessions, request_id="r", kind=kind, size_bytes=size_bytes)
        window = await initiate(sessions, request_id="r", kind=kind, size_bytes=size_bytes)
        assert list(records.sessions.values()) == [window.session]
        assert window.session.kind is not UploadKind.MULTIPART or window.session.upload_id in storage.uploads

    async def test_a_call_without_a_request_id_gets_one_of_its_own(self) -> None:
        _, records, sessions = parts_of()
        await initiate(sessions)
        await initiate(sessions)
        assert len(records.by_request) == len(records.sessions) == 2

    async def test_a_repeat_of_a_finished_upload_has_nothing_to_sign(self) -> None:
        storage, records, sessions = parts_of()
        first = await initiate(sessions, request_id="r")
        records.set(first.session.media_id, state=SessionState.COMPLETED)
        storage.uploads.clear()
        repeat = await initiate(sessions, request_id="r")
        assert repeat.session.media_id == first.session.media_id
        assert not repeat.parts
        assert not storage.uploads


class TestPromisedChecksums:
    """A part whose checksum is promised is not signed before it is known."""

    @pytest.mark.parametrize("size_bytes", [17, 45 * MIB])
    async def test_nothing_is_signed_without_one(self, size_bytes: int) -> None:
        storage, _, sessions = parts_of()
        window = await initiate(sessions, size_bytes=size_bytes, algorithm=ChecksumAlgorithm.CRC32C)
        assert not window.parts
        assert storage.signed_count == 0

    async def test_that_of_the_whole_is_that_of_an_only_part(self) -> None:
        _, _, sessions = parts_of()
        window = await initiate(sessions, size_bytes=17, algorithm=ChecksumAlgorithm.CRC32C, checksum=CRC)
        (part,) = window.parts
        assert part.headers == {"if-none-match": "*", "x-amz-checksum-crc32c": CRC}
        assert f"x-amz-checksum-crc32c={CRC}" in part.url

    async def test_that_of_the_whole_is_none_of_several_parts(self) -> None:
        _, _, sessions = parts_of()
        assert not (await initiate(sessions, algorithm=ChecksumAlgorithm.CRC32C, checksum=CRC)).parts

    async def test_storage_is_told_which_parts_will_carry(self) -> None:
        storage, _, sessions = parts_of()
        session = (await initiate(sessions, algorithm=ChecksumAlgorithm.SHA256)).session
        assert storage.algorithms == {session.upload_id: ChecksumAlgorithm.SHA256}

    async def test_each_part_binds_its_own(self) -> None:
        _, _, sessions = parts_of()
        session = (await initiate(sessions, algorithm=ChecksumAlgorithm.CRC32C)).session
        signed = (await sessions.sign(USER, session.media_id, [5, 2], [CRC, OTHER_CRC])).parts
        assert [(part.number, part.headers) for part in signed] == [
            (5, {"x-amz-checksum-crc32c": CRC}),
            (2, {"x-amz-checksum-crc32c": OTHER_CRC}),
        ]

    @pytest.mark.parametrize(
        ("algorithm", "given", "reason"),
        [
            (ChecksumAlgorithm.CRC32C, [], "CHECKSUMS_MISSING"),
            (ChecksumAlgorithm.CRC32C, [CRC], "CHECKSUMS_MISSING"),
            (ChecksumAlgorithm.CRC32C, [CRC] * 3, "CHECKSUMS_MISSING"),
            (ChecksumAlgorithm.CRC32C, [CRC, "?"], "CHECKSUM_INVALID"),
            (ChecksumAlgorithm.SHA256, [CRC, CRC], "CHECKSUM_INVALID"),
            (None, [CRC, CRC], "CHECKSUM_INVALID"),
        ],
    )
    async def test_they_come_with_the_parts_where_and_only_where_they_were_promised(
        self, algorithm: ChecksumAlgorithm | None, given: Sequence[str], reason: str
    ) -> None:
        _, _, sessions = parts_of()
        session = (await initiate(sessions, algorithm=algorithm)).session
        with pytest.raises(InvalidArgument) as refused:
            await sessions.sign(USER, session.media_id, [1, 2], given)
        assert refused.value.reason == reason

    async def test_an_only_part_has_no_other_than_the_whole(self) -> None:
        _, _, sessions = parts_of()
        algorithm = ChecksumAlgorithm.CRC32C
        session = (await initiate(sessions, size_bytes=17, algorithm=algorithm, checksum=CRC)).session
        assert len((await sessions.sign(USER, session.media_id, [1], [CRC])).parts) == 1
        with pytest.raises(InvalidArgument) as refused:
            await sessions.sign(USER, session.media_id, [1], [OTHER_CRC])
        assert refused.value.reason == "CHECKSUM_INVALID"


class TestSign:
    async def test_signs_what_is_asked_for_in_that_order(self) -> None:
        _, _, sessions = parts_of()
        media_id = (await initiate(sessions)).session.media_id
        window = await sessions.sign(USER, media_id, [5, 4])
        assert [(part.number, part.size_bytes) for part in window.parts] == [(5, 5 * MIB), (4, 10 * MIB)]

    async def test_signs_a_put_afresh(self) -> None:
        _, _, sessions = parts_of()
        window = await initiate(sessions, size_bytes=17)
        assert (await sessions.sign(USER, window.session.media_id, [1])).parts == window.parts
        with pytest.raises(InvalidArgument):
            await sessions.sign(USER, window.session.media_id, [2])

    async def test_a_form_has_no_parts(self) -> None:
        _, _, sessions = parts_of()
        media_id = (await initiate(sessions, size_bytes=0, kind=UploadKind.FORM)).session.media_id
        with pytest.raises(FailedPrecondition) as refused:
            await sessions.sign(USER, media_id, [1])
        assert refused.value.reason == "UPLOAD_NOT_IN_PARTS"

    @pytest.mark.parametrize("state", [SessionState.COMPLETING, SessionState.COMPLETED, SessionState.ABORTED])
    async def test_only_an_open_upload_is_signed(self, state: SessionState) -> None:
        _, records, sessions = parts_of()
        media_id = (await initiate(sessions)).session.media_id
        records.set(media_id, state=state)
        with pytest.raises(FailedPrecondition) as refused:
            await sessions.sign(USER, media_id, [1])
        assert refused.value.details == {"state": state.value}

    async def test_what_storage_never_began_is_not_signed(self) -> None:
        _, records, sessions = parts_of()
        session = (await initiate(sessions)).session
        records.sessions[session.media_id] = replace(session, upload_id="")
        with pytest.raises(FailedPrecondition) as refused:
            await sessions.sign(USER, session.media_id, [1])
        assert refused.value.reason == "UPLOAD_NOT_BEGUN"


class TestHeld:
    async def test_lists_what_storage_holds(self) -> None:
        storage, _, sessions = parts_of()
        session = (await initiate(sessions)).session
        storage.put(session, 2, 1)
        _, held = await sessions.held(USER, session.media_id)
        assert [part.number for part in held] == [1, 2]

    async def test_lists_what_storage_holds_also_while_completing(self) -> None:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions)).session
        storage.put(session)
        records.set(session.media_id, state=SessionState.COMPLETING)
        _, held = await sessions.held(USER, session.media_id)
        assert [part.etag for part in held] == [f"etag-{number}" for number in range(1, 6)]

    @pytest.mark.parametrize("state", [SessionState.OPEN, SessionState.COMPLETING])
    async def test_a_whole_is_its_only_part(self, state: SessionState) -> None:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions, size_bytes=17)).session
        records.set(session.media_id, state=state)
        assert (await sessions.held(USER, session.media_id))[1] == ()
        storage.put(session)
        _, held = await sessions.held(USER, session.media_id)
        assert [(part.number, part.etag, part.size_bytes) for part in held] == [(1, "etag-1", 17)]

    async def test_the_file_of_a_form_is_its_only_part(self) -> None:
        storage, _, sessions = parts_of()
        session = (await initiate(sessions, size_bytes=0, kind=UploadKind.FORM)).session
        assert (await sessions.held(USER, session.media_id))[1] == ()
        storage.post(session)
        _, held = await sessions.held(USER, session.media_id)
        assert [(part.number, part.etag, part.size_bytes) for part in held] == [(1, "posted", 1_000)]

    @pytest.mark.parametrize(
        ("state", "reason"), [(SessionState.OPEN, "UPLOAD_LOST"), (SessionState.COMPLETING, "UPLOAD_COMPLETING")]
    )
    async def test_what_storage_no_longer_knows_is_no_unknown_media(self, state: SessionState, reason: str) -> None:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions)).session
        storage.uploads.clear()
        records.set(session.media_id, state=state)
        with pytest.raises(FailedPrecondition) as refused:
            await sessions.held(USER, session.media_id)
        assert refused.value.reason == reason

    @pytest.mark.parametrize("state", [SessionState.COMPLETED, SessionState.ABORTED])
    async def test_an_upload_that_ended_is_not_listed(self, state: SessionState) -> None:
        _, records, sessions = parts_of()
        media_id = (await initiate(sessions)).session.media_id
        records.set(media_id, state=state)
        with pytest.raises(FailedPrecondition) as refused:
            await sessions.held(USER, media_id)
        assert refused.value.details == {"state": state.value}


async def test_another_users_upload_is_unknown() -> None:
    _, _, sessions = parts_of()
    media_id = (await initiate(sessions)).session.media_id
    for call in (sessions.sign("bob", media_id, [1]), sessions.held("bob", media_id), sessions.abort("bob", media_id)):
        with pytest.raises(NotFound):
            await call


async def test_storages_identifier_of_another_upload_opens_none() -> None:
    storage, records, sessions = parts_of()
    session = (await initiate(sessions)).session
    another = (await initiate(sessions)).session
    form = (await initiate(sessions, size_bytes=0, kind=UploadKind.FORM)).session
    for media_id, upload_id in (
        (session.media_id, another.upload_id),
        (session.media_id, f"{session.upload_id} "),
        (form.media_id, session.upload_id),
    ):
        for call in (
            sessions.sign(USER, media_id, [1], upload_id=upload_id),
            sessions.held(USER, media_id, upload_id=upload_id),
            sessions.abort(USER, media_id, upload_id=upload_id),
        ):
            with pytest.raises(NotFound) as refused:
                await call
            assert refused.value.reason == "MEDIA_NOT_FOUND"
    assert records.sessions[session.media_id].state is SessionState.OPEN
    await sessions.sign(USER, session.media_id, [1], upload_id=session.upload_id)
    await sessions.abort(USER, session.media_id, upload_id=session.upload_id)
    assert list(storage.uploads) == [another.upload_id]


class TestAbort:
    @pytest.mark.parametrize("crash_after", [1, 2, 3, None])
    async def test_ends_record_and_storage_also_after_a_crash(self, crash_after: int | None) -> None:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions)).session
        storage.put(session, 1)
        if crash_after:
            storage.crashes.soon(crash_after)
            with pytest.raises(Crash):
                await sessions.abort(USER, session.media_id)
        await sessions.abort(USER, session.media_id)
        assert records.sessions[session.media_id].state is SessionState.ABORTED
        assert records.failures[session.media_id].reason == "upload_aborted"
        assert not storage.uploads

    @pytest.mark.parametrize("kind", [UploadKind.PUT, UploadKind.FORM])
    @pytest.mark.parametrize("crash_after", [1, 2, None])
    async def test_removes_what_came_in_one_piece(self, kind: UploadKind, crash_after: int | None) -> None:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions, size_bytes=17 if kind is UploadKind.PUT else 0, kind=kind)).session
        if kind is UploadKind.PUT:
            storage.put(session)
        else:
            storage.post(session)
        if crash_after:
            storage.crashes.soon(crash_after)
            with pytest.raises(Crash):
                await sessions.abort(USER, session.media_id)
        await sessions.abort(USER, session.media_id)
        assert records.failures[session.media_id].reason == "upload_aborted"
        assert not storage.objects

    async def test_what_a_lost_completion_had_joined_is_removed_too(self) -> None:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions)).session
        await storage.complete(session.s3_key, session.upload_id, storage.put(session), None)
        records.set(session.media_id, state=SessionState.OPEN)
        await sessions.abort(USER, session.media_id)
        assert not storage.objects

    @pytest.mark.parametrize("state", [SessionState.COMPLETING, SessionState.COMPLETED])
    async def test_what_is_completing_or_complete_is_not_aborted(self, state: SessionState) -> None:
        storage, records, sessions = parts_of()
        session = (await initiate(sessions)).session
        records.set(session.media_id, state=state)
        with pytest.raises(FailedPrecondition):
            await sessions.abort(USER, session.media_id)
        assert storage.uploads
