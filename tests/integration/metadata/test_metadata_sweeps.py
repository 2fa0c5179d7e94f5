"""Looking after uploads: each state asks for it in its time, and of many who look nobody gets what another has."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.metadata import app
from services.metadata.lifecycle import FAILED_ORIGINAL_KEEP
from services.metadata.settings import MetadataSettings
from services.metadata.store import Store
from services.runtime import errors, ids
from tests.integration.metadata.calls import Metadata, Sql

MULTIPART = media_pb2.UPLOAD_KIND_MULTIPART
PUT = media_pb2.UPLOAD_KIND_PUT
FORM = media_pb2.UPLOAD_KIND_FORM
KINDS = (MULTIPART, PUT, FORM)
NAMES = {MULTIPART: "multipart", PUT: "put", FORM: "form"}
SLACK = timedelta(seconds=5)
"""Between a transaction and the look at what it wrote, on a machine that is busy."""


@pytest.fixture(autouse=True)
async def nothing_else(sql: Sql) -> None:
    """Every test finds only its own uploads."""
    await sql.execute("UPDATE uploads SET sweep_at = NULL")


async def begun(
    metadata: Metadata, user: str, kind: "media_pb2.UploadKind.ValueType", *, size_bytes: int = 900
) -> pb.Upload:
    return await metadata.create(user, kind=kind, size_bytes=0 if kind == FORM else size_bytes)


async def due_in(sql: Sql, upload: pb.Upload) -> timedelta | None:
    """How long until somebody is to look after an upload; None for never."""
    wait: timedelta | None = await sql.fetchval(
        "SELECT sweep_at - now() FROM uploads WHERE media_id = $1", upload.media_id
    )
    return wait


async def has_come(sql: Sql, *uploads: pb.Upload) -> None:
    """Lets the time for looking after these come, the first first."""
    for number, upload in enumerate(uploads):
        wait = timedelta(minutes=len(uploads) - number)
        await sql.execute(
            "UPDATE uploads SET sweep_at = now() - $2::interval WHERE media_id = $1", upload.media_id, wait
        )


def about(wait: timedelta | None, expected: timedelta | None) -> bool:
    if wait is None or expected is None:
        return wait is expected
    return expected - SLACK <= wait <= expected


def ids_of(sweeps: Sequence[pb.Sweep]) -> list[str]:
    return [sweep.upload.media_id for sweep in sweeps]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: NAMES[kind])
async def test_every_state_asks_for_it_in_its_time(
    kind: "media_pb2.UploadKind.ValueType", metadata: Metadata, user: str, sql: Sql
) -> None:
    is_form = kind == FORM
    when_open = timedelta(seconds=1) if is_form else None
    upload = await begun(metadata, user, kind)
    assert about(await due_in(sql, upload), when_open)
    await metadata.begin_complete(user, upload.media_id, size_bytes=900 if is_form else 0)
    assert about(await due_in(sql, upload), timedelta(seconds=60))
    await metadata.reopen(upload.media_id)
    assert about(await due_in(sql, upload), when_open)
    await metadata.begin_complete(user, upload.media_id)
    await metadata.begin_processing(upload, size_bytes=900)
    assert about(await due_in(sql, upload), timedelta(0) if is_form else None)
    await metadata.fail_media(upload.media_id)
    # Whatever waits longest, the original goes no later than this.
    assert about(await due_in(sql, upload), timedelta(0) if is_form else FAILED_ORIGINAL_KEEP)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: NAMES[kind])
@pytest.mark.parametrize("how", ["aborted", "failed while completing"])
async def test_what_is_given_up_is_looked_after_at_once(
    how: str, kind: "media_pb2.UploadKind.ValueType", metadata: Metadata, user: str
) -> None:
    upload = await begun(metadata, user, kind)
    if how == "aborted":
        await metadata.abort(user, upload.media_id)
    else:
        await metadata.begin_complete(user, upload.media_id)
        await metadata.fail_media(upload.media_id)
    (sweep,) = await metadata.claim_sweeps()
    assert sweep.upload.media_id == upload.media_id
    assert (sweep.upload.state, sweep.media_failed, sweep.upload.kind) == (pb.UPLOAD_STATE_ABORTED, True, kind)


async def test_an_upload_whose_time_is_up_is_given_up_and_looked_after(
    metadata: Metadata, settings: MetadataSettings, store: Store, user: str, sql: Sql
) -> None:
    uploads = [await begun(metadata, user, kind) for kind in KINDS]
    await metadata.begin_complete(user, uploads[0].media_id)
    await sql.execute("UPDATE media SET deadline_at = now() WHERE user_id = $1", user)
    await app.reconciler(settings, store).run_once()
    sweeps = await metadata.claim_sweeps()
    assert set(ids_of(sweeps)) == {upload.media_id for upload in uploads}
    assert {(sweep.upload.state, sweep.media_failed) for sweep in sweeps} == {(pb.UPLOAD_STATE_ABORTED, True)}
    media = await metadata.media(user, uploads[0].media_id)
    assert media.failure.reason == "upload_expired"


class TestClaim:
    async def test_the_longest_waiting_come_first_and_no_more_than_asked_for(
        self, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        uploads = [await begun(metadata, user, FORM) for _ in range(5)]
        later = await begun(metadata, user, FORM)
        await sql.execute("UPDATE uploads SET sweep_at = now() + interval '1 h' WHERE media_id = $1", later.media_id)
        order = [uploads[number] for number in (3, 1, 4, 0, 2)]
        await has_come(sql, *order)
        first = await metadata.claim_sweeps(limit=3)
        assert ids_of(first) == [upload.media_id for upload in order[:3]]
        assert ids_of(await metadata.claim_sweeps(limit=3)) == [upload.media_id for upload in order[3:]]
        assert not await metadata.claim_sweeps()

    async def test_it_says_how_the_session_stands_and_since_when(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await begun(metadata, user, FORM)
        await sql.execute(
            "UPDATE uploads SET state_since = now() - interval '100 s' WHERE media_id = $1", upload.media_id
        )
        await has_come(sql, upload)
        (sweep,) = await metadata.claim_sweeps()
        assert sweep.upload == await metadata.upload(user, upload.media_id)
        assert (sweep.media_failed, sweep.sweep_count) == (False, 1)
        assert 100 <= sweep.in_state_for.seconds < 200

    async def test_a_state_begins_when_it_is_entered(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await begun(metadata, user, FORM)
        await sql.execute(
            "UPDATE uploads SET state_since = now() - interval '1 h' WHERE media_id = $1", upload.media_id
        )
        await has_come(sql, upload)
        await metadata.claim_sweeps()
        await metadata.abort(user, upload.media_id)
        (sweep,) = await metadata.claim_sweeps()
        assert (sweep.sweep_count, sweep.in_state_for.seconds < 60) == (1, True)

    async def test_of_many_who_look_at_once_each_upload_goes_to_one(
        self, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        uploads = [await begun(metadata, user, FORM) for _ in range(40)]
        await has_come(sql, *uploads)
        claimed = await asyncio.gather(*(metadata.claim_sweeps(limit=15) for _ in range(8)))
        got = [media_id for sweeps in claimed for media_id in ids_of(sweeps)]
        assert len(got) == len(set(got))
        got += ids_of(await metadata.claim_sweeps())
        assert sorted(got) == sorted(upload.media_id for upload in uploads)

    async def test_what_a_dead_one_had_comes_back_after_its_lease(
        self, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        upload = await begun(metadata, user, FORM)
        await has_come(sql, upload)
        await metadata.claim_sweeps(lease=timedelta(seconds=30))
        assert not await metadata.claim_sweeps()
        assert about(await due_in(sql, upload), timedelta(seconds=30))
        await has_come(sql, upload)
        (again,) = await metadata.claim_sweeps()
        assert again.sweep_count == 2

    async def test_a_failure_before_the_look_is_known(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await begun(metadata, user, PUT)
        await metadata.begin_complete(user, upload.media_id)
        await metadata.begin_processing(upload, size_bytes=900)
        await metadata.fail_media(upload.media_id)
        await has_come(sql, upload)
        (sweep,) = await metadata.claim_sweeps()
        assert (sweep.upload.state, sweep.media_failed) == (pb.UPLOAD_STATE_COMPLETED, True)

    async def test_bounds(self, metadata: Metadata) -> None:
        for limit, lease in ((0, timedelta(1)), (-1, timedelta(1)), (1, timedelta(0)), (1, timedelta(hours=2))):
            with pytest.raises(errors.InvalidArgument):
                await metadata.claim_sweeps(limit=limit, lease=lease)


class TestFinish:
    async def test_it_comes_again_when_that_was_asked_for(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await begun(metadata, user, FORM)
        await has_come(sql, upload)
        (sweep,) = await metadata.claim_sweeps()
        for _ in range(2):
            await metadata.finish_sweep(sweep, timedelta(minutes=7))
            assert about(await due_in(sql, upload), timedelta(minutes=7))
        await metadata.finish_sweep(sweep, timedelta(0))
        assert len(await metadata.claim_sweeps()) == 1

    async def test_or_never(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await begun(metadata, user, FORM)
        await has_come(sql, upload)
        (sweep,) = await metadata.claim_sweeps()
        await metadata.finish_sweep(sweep, None)
        assert await due_in(sql, upload) is None

    async def test_a_claim_that_was_overtaken_changes_nothing(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await begun(metadata, user, FORM)
        await has_come(sql, upload)
        (first,) = await metadata.claim_sweeps()
        await has_come(sql, upload)
        await metadata.claim_sweeps(lease=timedelta(minutes=30))
        await metadata.finish_sweep(first, None)
        assert about(await due_in(sql, upload), timedelta(minutes=30))

    @pytest.mark.parametrize("moves_to", ["completing", "aborted", "open again"])
    async def test_nor_does_one_of_a_state_that_has_passed(
        self, moves_to: str, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        upload = await begun(metadata, user, FORM)
        await has_come(sql, upload)
        (sweep,) = await metadata.claim_sweeps()
        if moves_to == "aborted":
            await metadata.abort(user, upload.media_id)
        else:
            await metadata.begin_complete(user, upload.media_id)
        if moves_to == "open again":
            await metadata.reopen(upload.media_id)
        before = await due_in(sql, upload)
        await metadata.finish_sweep(sweep, None)
        after = await due_in(sql, upload)
        assert before is not None
        assert about(after, before)

    async def test_not_even_where_claims_of_both_states_have_the_same_number(
        self, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        upload = await begun(metadata, user, FORM)
        await has_come(sql, upload)
        (of_the_open_one,) = await metadata.claim_sweeps()
        await metadata.abort(user, upload.media_id)
        (of_the_aborted_one,) = await metadata.claim_sweeps(lease=timedelta(minutes=30))
        assert of_the_open_one.sweep_count == of_the_aborted_one.sweep_count
        await metadata.finish_sweep(of_the_open_one, None)
        assert about(await due_in(sql, upload), timedelta(minutes=30))

    async def test_nor_one_that_did_not_know_of_a_failure(self, metadata: Metadata, user: str, sql: Sql) -> None:
        """The state stays completed: without a further look the original would stay for ever."""
        upload = await begun(metadata, user, FORM)
        await metadata.begin_complete(user, upload.media_id, size_bytes=900)
        await metadata.begin_processing(upload, size_bytes=900)
        (sweep,) = await metadata.claim_sweeps()
        assert not sweep.media_failed
        await metadata.fail_media(upload.media_id)
        await metadata.finish_sweep(sweep, None)
        wait = await due_in(sql, upload)
        assert wait is not None
        assert wait <= FAILED_ORIGINAL_KEEP
        await has_come(sql, upload)
        (again,) = await metadata.claim_sweeps()
        assert again.media_failed
        await metadata.finish_sweep(sweep, None)
        assert await due_in(sql, upload) is not None


class TestOrphans:
    async def test_what_no_session_under_way_has_is_one(self, metadata: Metadata, user: str) -> None:
        opened = await metadata.create(user, upload_id="opened")
        completing = await metadata.create(user, upload_id="completing")
        await metadata.begin_complete(user, completing.media_id)
        beginning = await metadata.create(user)
        completed = await metadata.create(user, upload_id="completed")
        await metadata.begin_processing(completed)
        aborted = await metadata.create(user, upload_id="aborted")
        await metadata.abort(user, aborted.media_id)
        put = await metadata.create(user, kind=PUT)
        unknown = str(ids.new_media_id(user))
        elsewhere = str(ids.new_media_id(f"{user}-2"))
        theirs = {(opened.media_id, "opened"), (completing.media_id, "completing"), (beginning.media_id, "any")}
        orphans = {
            (opened.media_id, "another"),
            (completing.media_id, "another"),
            (completed.media_id, "completed"),
            (aborted.media_id, "aborted"),
            (unknown, "opened"),
            (elsewhere, "opened"),
        }
        assert await metadata.orphans(*theirs, *orphans) == orphans
        # Nothing tells a session that takes no parts from one that is just beginning; it is asked again when it ended.
        assert await metadata.orphans((put.media_id, "any")) == set()

    async def test_what_began_at_storage_belongs_to_the_record_of_it(self, metadata: Metadata, user: str) -> None:
        media_id = str(ids.new_media_id(user))
        assert await metadata.orphans((media_id, "u")) == {(media_id, "u")}
        upload = await metadata.create(user, media_id=media_id, upload_id="u", request_id="r")
        assert (upload.media_id, upload.upload_id) == (media_id, "u")
        assert await metadata.orphans((media_id, "u")) == set()
        repeated = str(ids.new_media_id(user))
        again = await metadata.create(user, media_id=repeated, upload_id="v", request_id="r")
        assert (again.media_id, again.upload_id) == (media_id, "u")
        assert await metadata.orphans((repeated, "v")) == {(repeated, "v")}

    async def test_many_of_many_shards_are_told_apart(self, metadata: Metadata, user: str) -> None:
        known = [await metadata.create(f"{user}-{number}", upload_id=f"u{number}") for number in range(20)]
        unknown = [(str(ids.new_media_id(f"{user}-{number}")), f"u{number}") for number in range(980)]
        asked = [*((upload.media_id, upload.upload_id) for upload in known), *unknown]
        assert await metadata.orphans(*asked) == set(unknown)

    async def test_bounds(self, metadata: Metadata, user: str) -> None:
        assert await metadata.orphans() == set()
        with pytest.raises(errors.InvalidArgument):
            await metadata.orphans(*[(str(ids.new_media_id(user)), "u")] * 1_001)
        with pytest.raises(errors.NotFound):
            await metadata.orphans(("nonsense", "u"))
