"""What is done for each session that is looked after, and that one which fails keeps none of the others waiting."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import ids
from services.runtime.errors import MillraceError, Unavailable
from services.upload import sweeper
from services.upload.claims import MediaType
from services.upload.completion import Completion
from services.upload.kinds import UploadKind
from services.upload.parts import UNKNOWN
from services.upload.ports import PendingUpload, Sweep
from services.upload.session import Session, SessionState
from services.upload.sweeper import LEASE, Action, Decision, Sweeper, decide
from tests.unit.upload.fakes import USER, Crashes, FakeRecords, FakeStorage
from tests.unit.upload.test_upload_sessions import TERMS, initiate, parts_of

URL_TTL = timedelta(hours=1)
JUST_NOW = timedelta(0)
LONG_AGO = timedelta(days=3)
ALL_DEAD = URL_TTL + sweeper._GRACE
SLOWEST_REQUEST = timedelta(hours=1)
"""The largest form over 12 Mbit/s, begun in the last second of its life: storage looks at that when it begins."""
FOREVER_S = 600.0


def sweep_of(
    kind: UploadKind, state: SessionState, *, media_failed: bool = False, in_state_for: timedelta = JUST_NOW
) -> Sweep:
    media_id = ids.new_media_id(USER)
    session = Session(
        media_id=str(media_id),
        user_id=USER,
        s3_key=ids.original_key(media_id),
        upload_id="upload-1" if kind is UploadKind.MULTIPART else "",
        layout=UNKNOWN,
        state=state,
        content_type="video/mp4",
        media_type=MediaType.VIDEO,
        traceparent="",
        kind=kind,
    )
    return Sweep(session, media_failed=media_failed, count=1, in_state_for=in_state_for)


MULTIPART, PUT, FORM = UploadKind.MULTIPART, UploadKind.PUT, UploadKind.FORM
OPEN, COMPLETING, COMPLETED, ABORTED = (
    SessionState.OPEN,
    SessionState.COMPLETING,
    SessionState.COMPLETED,
    SessionState.ABORTED,
)


ALL = (PUT, MULTIPART, FORM)
TABLE = [
    # kinds, state, whether the media failed, since when; what is done, and when next
    ([FORM], OPEN, False, JUST_NOW, Action.TAKE_IN, timedelta(seconds=1)),
    ([FORM], OPEN, False, timedelta(seconds=80), Action.TAKE_IN, timedelta(seconds=10)),
    ([FORM], OPEN, False, LONG_AGO, Action.TAKE_IN, timedelta(seconds=30)),
    ([PUT, MULTIPART], OPEN, False, LONG_AGO, Action.NOTHING, None),
    ([FORM], COMPLETING, False, JUST_NOW, Action.TAKE_IN, LEASE),
    ([PUT, MULTIPART], COMPLETING, False, LONG_AGO, Action.RESUME, LEASE),
    (ALL, ABORTED, True, JUST_NOW, Action.CLEAR, ALL_DEAD),
    (ALL, ABORTED, True, timedelta(minutes=50), Action.CLEAR, ALL_DEAD - timedelta(minutes=50)),
    (ALL, ABORTED, True, ALL_DEAD, Action.CLEAR, None),
    ([PUT, MULTIPART], COMPLETED, False, JUST_NOW, Action.NOTHING, None),
    ([FORM], COMPLETED, False, JUST_NOW, Action.CLEAR_INCOMING, ALL_DEAD),
    ([FORM], COMPLETED, False, ALL_DEAD, Action.CLEAR_INCOMING, None),
    (ALL, COMPLETED, True, LONG_AGO, Action.CLEAR, None),
]


@pytest.mark.parametrize(
    ("sweep", "decision"),
    [
        (sweep_of(kind, state, media_failed=failed, in_state_for=in_state_for), Decision(action, again_in))
        for kinds, state, failed, in_state_for, action, again_in in TABLE
        for kind in kinds
    ],
    ids=lambda value: f"{value.session.kind} {value.session.state.value}" if isinstance(value, Sweep) else None,
)
def test_what_is_done_and_when_next(sweep: Sweep, decision: Decision) -> None:
    assert decide(sweep, URL_TTL) == decision


sweeps = st.builds(
    sweep_of,
    st.sampled_from(UploadKind),
    st.sampled_from(SessionState),
    media_failed=st.booleans(),
    in_state_for=st.timedeltas(timedelta(0), timedelta(days=40)),
)
ttls = st.timedeltas(timedelta(minutes=1), timedelta(days=7))


@given(sweeps, ttls)
def test_an_original_is_removed_only_where_nothing_needs_it(sweep: Sweep, url_ttl: timedelta) -> None:
    if decide(sweep, url_ttl).action is Action.CLEAR:
        assert sweep.session.state is ABORTED or sweep.media_failed
        assert sweep.session.state in {ABORTED, COMPLETED}


@given(sweeps, ttls)
def test_what_is_under_way_is_looked_at_again_and_soon(sweep: Sweep, url_ttl: timedelta) -> None:
    decision = decide(sweep, url_ttl)
    if sweep.session.state is COMPLETING:
        assert decision.again_in == LEASE
    if sweep.session.state is OPEN and sweep.session.kind is FORM:
        assert decision.again_in is not None
        assert timedelta(seconds=1) <= decision.again_in <= timedelta(seconds=30)
        assert decision.again_in <= max(sweep.in_state_for / 8, timedelta(seconds=1))
    if decision.action is Action.NOTHING:
        assert decision.again_in is None


@given(st.sampled_from(UploadKind), st.sampled_from([ABORTED, COMPLETED]), ttls, st.timedeltas(JUST_NOW, LONG_AGO))
def test_the_last_look_at_what_ended_comes_after_the_last_url_died(
    kind: UploadKind, state: SessionState, url_ttl: timedelta, late_by: timedelta
) -> None:
    in_state_for, looks = late_by, 0
    while True:
        decision = decide(sweep_of(kind, state, in_state_for=in_state_for), url_ttl)
        looks += 1
        if decision.again_in is None:
            break
        in_state_for += decision.again_in
    assert looks <= 2
    if decision.action is not Action.NOTHING:
        assert in_state_for >= url_ttl + SLOWEST_REQUEST
    else:
        # Its URLs lead to nothing: parts of an upload that is no more, or an object that is there.
        assert (state, kind is FORM) == (COMPLETED, False)


def sweeper_of(storage: FakeStorage, records: FakeRecords, *, orphan_age: timedelta = timedelta(hours=1)) -> Sweeper:
    return Sweeper(
        storage,
        records,
        Completion(storage, records, TERMS.max_size_bytes),
        url_ttl=URL_TTL,
        interval_s=FOREVER_S,
        orphan_interval_s=FOREVER_S,
        orphan_age=orphan_age,
    )


async def until(holds: Callable[[], bool]) -> None:
    """Waits for what nobody announces."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def due(
    kind: UploadKind, state: SessionState, storage: FakeStorage, records: FakeRecords, *, media_failed: bool = False
) -> Session:
    """A session in a state, whose bytes are all there, that is to be looked after."""
    _, _, sessions = parts_of(storage.crashes)
    sessions = type(sessions)(storage, records, TERMS)
    session = (await initiate(sessions, size_bytes=0 if kind is FORM else 45 * 1024**2, kind=kind)).session
    if kind is FORM:
        storage.post(session)
    elif kind is PUT:
        storage.put_sizes(session, {1: session.layout.size_bytes})
    else:
        storage.put(session)
    session = records.set(session.media_id, state=state)
    records.due.append(Sweep(session, media_failed, count=1, in_state_for=JUST_NOW))
    return session


class TestSweep:
    @pytest.fixture
    def storage(self) -> FakeStorage:
        return FakeStorage(Crashes())

    @pytest.fixture
    def records(self, storage: FakeStorage) -> FakeRecords:
        return FakeRecords(storage.crashes)

    async def test_a_form_that_arrived_is_taken_in(self, storage: FakeStorage, records: FakeRecords) -> None:
        session = await due(FORM, OPEN, storage, records)
        assert await sweeper_of(storage, records).sweep_due() == 1
        assert records.sessions[session.media_id].state is COMPLETED
        assert records.finished == [(session.media_id, timedelta(seconds=1))]

    async def test_one_that_did_not_costs_one_question(self, storage: FakeStorage, records: FakeRecords) -> None:
        session = await due(FORM, OPEN, storage, records)
        storage.objects.clear()
        storage.crashes.steps.clear()
        await sweeper_of(storage, records).sweep_due()
        assert storage.crashes.steps == ["storage.exists"]
        assert records.finished == [(session.media_id, timedelta(seconds=1))]

    async def test_a_completion_that_died_goes_on(self, storage: FakeStorage, records: FakeRecords) -> None:
        joined = await due(MULTIPART, COMPLETING, storage, records)
        await storage.complete(joined.s3_key, joined.upload_id, storage.put(joined), None)
        parts = await due(MULTIPART, COMPLETING, storage, records)
        form = await due(FORM, COMPLETING, storage, records)
        await sweeper_of(storage, records).sweep_due()
        assert [records.sessions[one.media_id].state for one in (joined, parts, form)] == [COMPLETED, OPEN, COMPLETED]

    @pytest.mark.parametrize("kind", list(UploadKind))
    async def test_what_was_given_up_leaves_nothing(
        self, kind: UploadKind, storage: FakeStorage, records: FakeRecords
    ) -> None:
        session = await due(kind, ABORTED, storage, records)
        await sweeper_of(storage, records).sweep_due()
        assert not storage.uploads
        assert not storage.objects
        assert records.finished == [(session.media_id, ALL_DEAD)]

    async def test_a_form_sent_again_is_removed_and_its_original_stays(
        self, storage: FakeStorage, records: FakeRecords
    ) -> None:
        session = await due(FORM, OPEN, storage, records)
        swept = sweeper_of(storage, records)
        await swept.sweep_due()
        storage.post(session, "again")
        records.due.append(
            Sweep(records.sessions[session.media_id], media_failed=False, count=1, in_state_for=JUST_NOW)
        )
        await swept.sweep_due()
        assert [stored.etag for stored in storage.objects.values()] == ["posted"]
        assert list(storage.objects) == [session.s3_key]

    async def test_the_original_of_a_media_that_failed_is_removed(
        self, storage: FakeStorage, records: FakeRecords
    ) -> None:
        session = await due(PUT, COMPLETED, storage, records, media_failed=True)
        await sweeper_of(storage, records).sweep_due()
        assert not storage.objects
        assert records.finished == [(session.media_id, None)]

    @pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a defect")], ids=repr)
    async def test_one_that_fails_is_left_to_the_next_claim_and_keeps_none_waiting(
        self, error: Exception, storage: FakeStorage, records: FakeRecords
    ) -> None:
        before = await due(FORM, OPEN, storage, records)
        broken = await due(FORM, OPEN, storage, records)
        after = await due(PUT, ABORTED, storage, records)
        storage.broken_keys[broken.incoming_key] = error
        assert await sweeper_of(storage, records).sweep_due() == 3
        assert {media_id for media_id, _ in records.finished} == {before.media_id, after.media_id}
        assert records.sessions[before.media_id].state is COMPLETED
        assert after.s3_key not in storage.objects

    async def test_all_of_a_backlog_is_looked_after_without_a_pause(
        self, storage: FakeStorage, records: FakeRecords
    ) -> None:
        sessions = [await due(PUT, ABORTED, storage, records) for _ in range(250)]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(sweeper_of(storage, records).run(stop))
            await until(lambda: len(records.finished) == len(sessions))
            stop.set()
        assert not storage.objects

    async def test_it_goes_on_when_nobody_answers(self, storage: FakeStorage, records: FakeRecords) -> None:
        class Shaky(FakeRecords):
            refusals: Sequence[Exception] = ()

            async def claim_sweeps(self, limit: int, lease: timedelta) -> Sequence[Sweep]:
                if self.refusals:
                    first, *self.refusals = self.refusals
                    raise first
                return await super().claim_sweeps(limit, lease)

        shaky = Shaky(storage.crashes)
        shaky.refusals = [Unavailable("away"), RuntimeError("a defect"), Unavailable("away")]
        await due(PUT, ABORTED, storage, shaky)
        swept = Sweeper(
            storage,
            shaky,
            Completion(storage, shaky, TERMS.max_size_bytes),
            url_ttl=URL_TTL,
            interval_s=0.01,
            orphan_interval_s=FOREVER_S,
            orphan_age=LONG_AGO,
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(swept.run(stop))
            await until(lambda: bool(shaky.finished))
            stop.set()
        assert not storage.objects


class TestOrphans:
    AGE = timedelta(hours=1)

    @staticmethod
    def pending(key: str = "", *, age: timedelta = timedelta(hours=2), upload_id: str = "u") -> PendingUpload:
        return PendingUpload(key or ids.original_key(ids.new_media_id(USER)), upload_id, datetime.now(UTC) - age)

    async def aborted(
        self, *pages: list[PendingUpload], known: Sequence[PendingUpload] = (), broken: Sequence[PendingUpload] = ()
    ) -> tuple[set[str], FakeRecords]:
        """The keys of what is aborted; everything at storage was there."""
        storage, records = FakeStorage(), FakeRecords()
        storage.pages = list(pages)
        records.known = {(one.key.split("/")[1], one.upload_id) for one in known}
        storage.broken_keys = {one.key: Unavailable("away") for one in broken}
        aborted: set[str] = set()

        async def abort(key: str, upload_id: str) -> None:
            await FakeStorage.abort(storage, key, upload_id)
            aborted.add(key)

        storage.abort = abort  # type: ignore[method-assign]
        await sweeper_of(storage, records, orphan_age=self.AGE).abort_orphans()
        return aborted, records

    async def test_what_no_record_knows_is_aborted_and_what_one_knows_is_not(self) -> None:
        orphan, known = self.pending(), self.pending()
        aborted, _ = await self.aborted([orphan, known], known=[known])
        assert aborted == {orphan.key}

    async def test_what_is_young_may_yet_be_recorded(self) -> None:
        young = self.pending(age=self.AGE - timedelta(seconds=5))
        aborted, records = await self.aborted([young])
        assert (aborted, records.asked_orphans) == (set(), [])

    async def test_every_page_is_looked_at(self) -> None:
        orphans = [self.pending() for _ in range(7)]
        aborted, _ = await self.aborted(orphans[:3], orphans[3:6], [], orphans[6:])
        assert aborted == {orphan.key for orphan in orphans}

    async def test_a_page_that_is_longer_than_a_question_may_be_is_asked_for_in_several(self) -> None:
        orphans = [self.pending() for _ in range(2_001)]
        aborted, records = await self.aborted(orphans)
        assert aborted == {orphan.key for orphan in orphans}
        assert len(records.asked_orphans) == len(orphans)

    @pytest.mark.parametrize(
        "key",
        [
            pytest.param("something/else", id="of another form"),
            pytest.param("0ab/6ba7b810-9dad-41d1-80b4-00c04fd430c8/original", id="no identifier of ours"),
            pytest.param("0ab/------------------------------------/original", id="no identifier at all"),
            pytest.param(
                ids.original_key(ids.new_media_id(USER)).upper().replace("/ORIGINAL", "/original"), id="upper"
            ),
            pytest.param(ids.original_key(ids.new_media_id(USER)).replace("original", "incoming"), id="a form's key"),
            pytest.param("x" + ids.original_key(ids.new_media_id(USER))[1:], id="another shard"),
        ],
    )
    async def test_what_nothing_of_ours_began_is_aborted_and_asked_of_nobody(self, key: str) -> None:
        """The records refuse identifiers that are none of theirs, together with all others of the same question."""
        stranger, orphan = self.pending(key), self.pending()
        aborted, records = await self.aborted([stranger, orphan])
        assert aborted == {key, orphan.key}
        assert records.asked_orphans == [(orphan.key.split("/")[1], orphan.upload_id)]

    async def test_young_strangers_are_spared_too(self) -> None:
        aborted, _ = await self.aborted([self.pending("something/else", age=timedelta(minutes=1))])
        assert aborted == set()

    async def test_one_that_storage_does_not_let_go_of_spares_none_of_the_others(self) -> None:
        orphans = [self.pending("a stranger"), *(self.pending() for _ in range(4))]
        aborted, _ = await self.aborted(orphans[:2], orphans[2:], broken=[orphans[0], orphans[2]])
        assert aborted == {orphans[1].key, orphans[3].key, orphans[4].key}

    async def test_that_nobody_answers_aborts_nothing(self) -> None:
        class Away(FakeRecords):
            async def orphans(self, stored: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
                raise Unavailable("away")

        storage = FakeStorage(pages=[[self.pending()]])
        with pytest.raises(MillraceError):
            await sweeper_of(storage, Away()).abort_orphans()
        assert storage.crashes.steps == []
