"""Quotas: never exceeded, never negative, and always the sum over the media that did not fail."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta

import pytest

from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.metadata import app
from services.metadata.reconciler import Reconciler
from services.metadata.settings import MetadataSettings
from services.metadata.store import Store
from services.runtime import errors, ids
from services.runtime.database import Database
from services.runtime.errors import MillraceError
from tests.integration.metadata.calls import SIZE_BYTES, Metadata, Sql
from tests.integration.metadata.conftest import serving
from tests.integration.metadata.invariants import holding_throughout, quotas_hold

LIMIT = 10
AT_ONCE = 50


@pytest.fixture
async def limited(settings: MetadataSettings, connected: Database) -> AsyncIterator[Metadata]:
    """Calls to a server with room for ten files of the usual size."""
    tight = settings.model_copy(update={"quota_bytes": LIMIT * SIZE_BYTES})
    async with serving(tight, connected) as calls:
        yield calls


@pytest.fixture
def reconciler(settings: MetadataSettings, store: Store) -> Reconciler:
    return app.reconciler(settings, store)


async def give_own_limits(
    sql: Sql,
    user: str,
    *,
    limit_bytes: int | None = None,
    media: int | None = None,
    open_uploads: int | None = None,
) -> None:
    """What an operator does for one owner."""
    await sql.execute(
        """
        INSERT INTO quotas (shard, user_id, used_bytes, media_count, open_upload_count, limit_bytes, media_limit,
                            open_upload_limit)
        VALUES ($1, $2, 0, 0, 0, $3, $4, $5)
        ON CONFLICT (shard, user_id) DO UPDATE
        SET limit_bytes = excluded.limit_bytes, media_limit = excluded.media_limit,
            open_upload_limit = excluded.open_upload_limit
        """,
        ids.shard_of_user(user),
        user,
        limit_bytes,
        media,
        open_uploads,
    )


async def used(metadata: Metadata, user: str) -> tuple[int, int, int]:
    """Bytes, media and open uploads."""
    quota = await metadata.quota(user)
    return quota.used_bytes, quota.media_count, quota.open_upload_count


async def outcomes_of(
    *calls: Awaitable[pb.Upload],
) -> tuple[list[pb.Upload], list[errors.ResourceExhausted]]:
    """What was granted and what was refused; nothing else may happen."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    granted = [outcome for outcome in outcomes if isinstance(outcome, pb.Upload)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, errors.ResourceExhausted)]
    assert len(granted) + len(refused) == len(calls), outcomes
    return granted, refused


class TestAtOnce:
    @pytest.mark.parametrize("has_row", [False, True])
    async def test_fifty_initiates_take_exactly_the_bytes_that_there_are(
        self, has_row: bool, limited: Metadata, user: str, sql: Sql
    ) -> None:
        if has_row:
            await give_own_limits(sql, user)

        async def within_limits() -> None:
            await quotas_hold(sql)
            query = "SELECT coalesce(sum(size_bytes), 0) FROM media WHERE user_id = $1 AND status <> 'failed'"
            assert await sql.fetchval(query, user) <= LIMIT * SIZE_BYTES

        async with holding_throughout(within_limits):
            granted, refused = await outcomes_of(*(limited.create(user) for _ in range(AT_ONCE)))
        assert len(granted) == LIMIT
        # Of those who came early, some hear what was used then.
        assert {refusal.reason for refusal in refused} == {"QUOTA_EXCEEDED"}
        assert {refusal.details["limit_bytes"] for refusal in refused} == {str(LIMIT * SIZE_BYTES)}
        assert await used(limited, user) == (LIMIT * SIZE_BYTES, LIMIT, LIMIT)
        assert await sql.fetchval("SELECT count(*) FROM media WHERE user_id = $1", user) == LIMIT

    @pytest.mark.parametrize(
        ("limits", "reason"),
        [({"media": LIMIT}, "QUOTA_EXCEEDED"), ({"open_uploads": LIMIT}, "TOO_MANY_OPEN_UPLOADS")],
    )
    async def test_fifty_initiates_make_no_more_than_may_be(
        self, limits: Mapping[str, int], reason: str, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        await give_own_limits(sql, user, **limits)
        async with holding_throughout(lambda: quotas_hold(sql)):
            granted, refused = await outcomes_of(*(metadata.create(user) for _ in range(AT_ONCE)))
        assert len(granted) == LIMIT
        assert {refusal.reason for refusal in refused} == {reason}

    @pytest.mark.parametrize("seed", range(4))
    async def test_coming_and_going_at_the_limit(
        self, seed: int, reconciler: Reconciler, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        """Fifty at once begin, abort, measure, complete and fail, twice over, while time runs out for some."""
        await give_own_limits(sql, user, limit_bytes=LIMIT * SIZE_BYTES, media=8, open_uploads=6)
        chance = random.Random(seed)

        async def one() -> None:
            size_bytes = chance.choice([SIZE_BYTES, SIZE_BYTES, 0, 1])
            time_to_live = chance.choice([timedelta(hours=1), timedelta(milliseconds=1)])
            upload = await metadata.create(user, size_bytes=size_bytes, time_to_live=time_to_live)
            media_id = upload.media_id
            ends: list[Callable[[], Awaitable[object]]] = [
                lambda: metadata.abort(user, media_id),
                lambda: metadata.abort(user, media_id),
                lambda: metadata.fail_media(media_id),
                lambda: metadata.begin_processing(upload, size_bytes=size_bytes or 700),
                lambda: metadata.reopen(media_id),
            ]
            for _ in range(2):
                with suppress(MillraceError):
                    measured_bytes = 0 if size_bytes else chance.choice([0, 700, 3 * SIZE_BYTES])
                    await metadata.begin_complete(user, media_id, size_bytes=measured_bytes)
                doubled = [end() for end in chance.sample(ends, 2) for _ in range(2)]
                await asyncio.gather(*doubled, return_exceptions=True)

        async with holding_throughout(lambda: quotas_hold(sql)):
            for _ in range(2):
                results = await asyncio.gather(*(one() for _ in range(AT_ONCE)), return_exceptions=True)
                assert all(result is None or isinstance(result, errors.ResourceExhausted) for result in results)
                await reconciler.run_once()


class TestRelease:
    async def test_whatever_ends_a_media_how_often_gives_its_room_back_once(
        self, metadata: Metadata, reconciler: Reconciler, user: str, sql: Sql
    ) -> None:
        stays = await metadata.create(user)
        upload = await metadata.create(user)
        await sql.execute("UPDATE media SET deadline_at = now() WHERE media_id = $1", upload.media_id)
        async with holding_throughout(lambda: quotas_hold(sql)):
            await asyncio.gather(
                *(metadata.abort(user, upload.media_id) for _ in range(8)),
                *(metadata.fail_media(upload.media_id) for _ in range(8)),
                *(reconciler.run_once() for _ in range(3)),
            )
        assert await used(metadata, user) == (SIZE_BYTES, 1, 1)
        await metadata.abort(user, stays.media_id)
        assert await used(metadata, user) == (0, 0, 0)

    async def test_completing_frees_a_slot_and_keeps_the_bytes(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await metadata.create(user)
        await metadata.begin_complete(user, upload.media_id)
        assert await used(metadata, user) == (SIZE_BYTES, 1, 1)
        for _ in range(2):
            await metadata.begin_processing(upload)
            assert await used(metadata, user) == (SIZE_BYTES, 1, 0)
        await quotas_hold(sql)

    async def test_processing_that_fails_gives_the_bytes_back_once(
        self, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        upload = await metadata.processing(user)
        await asyncio.gather(*(metadata.fail_media(upload.media_id) for _ in range(5)))
        assert await used(metadata, user) == (0, 0, 0)
        await quotas_hold(sql)

    async def test_what_is_published_stays(self, metadata: Metadata, user: str, sql: Sql) -> None:
        media_id = await metadata.encoded(user)
        await metadata.publish(await metadata.publication(media_id), media_id)
        await metadata.fail_media(media_id)
        assert await used(metadata, user) == (SIZE_BYTES, 1, 0)
        await quotas_hold(sql)


class TestUnknownSize:
    """An upload whose size nobody said counts from when storage tells."""

    async def test_it_counts_what_storage_holds_more_or_less_each_time(
        self, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        upload = await metadata.create(user, size_bytes=0)
        assert await used(metadata, user) == (0, 1, 1)
        for measured_bytes, known_bytes in ((1_000, 1_000), (0, 1_000), (400, 400), (0, 400), (900, 900), (900, 900)):
            session = await metadata.begin_complete(user, upload.media_id, size_bytes=measured_bytes)
            assert session.size_bytes == 0  # its client never said one, so none is held against it
            assert await used(metadata, user) == (known_bytes, 1, 1)
            assert (await metadata.media(user, upload.media_id)).size_bytes == known_bytes
            await quotas_hold(sql)
            await metadata.reopen(upload.media_id)
        await metadata.begin_complete(user, upload.media_id)
        assert (await metadata.begin_processing(upload, size_bytes=900)).size_bytes == 900
        assert await used(metadata, user) == (900, 1, 0)

    @pytest.mark.parametrize("original_bytes", [1, 899, 901, 5_000])
    async def test_the_original_has_the_last_word(
        self, original_bytes: int, metadata: Metadata, user: str, sql: Sql
    ) -> None:
        upload = await metadata.create(user, size_bytes=0)
        await metadata.begin_complete(user, upload.media_id, size_bytes=900)
        await metadata.begin_processing(upload, size_bytes=original_bytes)
        assert await used(metadata, user) == (original_bytes, 1, 0)
        await quotas_hold(sql)

    @pytest.mark.parametrize("ends", ["abort", "fail"])
    async def test_what_was_measured_is_given_back(self, ends: str, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await metadata.create(user, size_bytes=0)
        await metadata.begin_complete(user, upload.media_id, size_bytes=900)
        if ends == "abort":
            await metadata.reopen(upload.media_id)
            await metadata.abort(user, upload.media_id)
        else:
            await metadata.fail_media(upload.media_id)
        assert await used(metadata, user) == (0, 0, 0)
        await quotas_hold(sql)

    async def test_a_claimed_size_is_not_measured_anew(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await metadata.create(user)
        await metadata.begin_complete(user, upload.media_id, size_bytes=7)
        assert await used(metadata, user) == (SIZE_BYTES, 1, 1)

    async def test_more_than_there_is_room_for_changes_nothing(self, limited: Metadata, user: str, sql: Sql) -> None:
        upload = await limited.create(user, size_bytes=0)
        too_many = LIMIT * SIZE_BYTES + 1
        for state in (pb.UPLOAD_STATE_OPEN, pb.UPLOAD_STATE_COMPLETING):
            with pytest.raises(errors.ResourceExhausted) as refused:
                await limited.begin_complete(user, upload.media_id, size_bytes=too_many)
            assert refused.value.details == {"used_bytes": "0" if state == 1 else "1", "limit_bytes": str(too_many - 1)}
            assert (await limited.upload(user, upload.media_id)).state == state
            await quotas_hold(sql)
            await limited.begin_complete(user, upload.media_id, size_bytes=1)
        await limited.begin_complete(user, upload.media_id, size_bytes=too_many - 1)
        assert await used(limited, user) == (too_many - 1, 1, 1)

    async def test_fifty_of_them_at_once_take_no_more_than_there_is(
        self, limited: Metadata, user: str, sql: Sql
    ) -> None:
        uploads = [await limited.create(user, size_bytes=0) for _ in range(AT_ONCE)]
        async with holding_throughout(lambda: quotas_hold(sql)):
            granted, refused = await outcomes_of(
                *(limited.begin_complete(user, upload.media_id, size_bytes=SIZE_BYTES) for upload in uploads)
            )
        assert (len(granted), len(refused)) == (LIMIT, AT_ONCE - LIMIT)
        assert await used(limited, user) == (LIMIT * SIZE_BYTES, AT_ONCE, AT_ONCE)

    async def test_a_full_quota_takes_none_of_them(self, limited: Metadata, user: str) -> None:
        await limited.create(user, size_bytes=LIMIT * SIZE_BYTES)
        with pytest.raises(errors.ResourceExhausted) as refused:
            await limited.create(user, size_bytes=0)
        assert refused.value.reason == "QUOTA_EXCEEDED"


class TestLimits:
    async def test_whoever_never_uploaded_uses_nothing(self, limited: Metadata, user: str) -> None:
        quota = await limited.quota(user)
        assert (quota.used_bytes, quota.media_count, quota.open_upload_count) == (0, 0, 0)
        assert (quota.limit_bytes, quota.media_limit, quota.open_upload_limit) == (
            LIMIT * SIZE_BYTES,
            1_000_000,
            1_000,
        )

    async def test_a_setting_of_zero_is_no_limit(
        self, settings: MetadataSettings, connected: Database, user: str
    ) -> None:
        unlimited = settings.model_copy(update={"quota_bytes": 0, "quota_media": 0, "quota_open_uploads": 0})
        async with serving(unlimited, connected) as calls:
            await calls.create(user, size_bytes=2**61)
            quota = await calls.quota(user)
        assert quota.used_bytes == 2**61
        assert (quota.limit_bytes, quota.media_limit, quota.open_upload_limit) == (0, 0, 0)

    async def test_a_file_that_alone_is_too_much_is_refused_from_the_first(
        self, limited: Metadata, user: str, sql: Sql
    ) -> None:
        with pytest.raises(errors.ResourceExhausted) as refused:
            await limited.create(user, size_bytes=LIMIT * SIZE_BYTES + 1)
        assert refused.value.reason == "QUOTA_EXCEEDED"
        assert await sql.fetchval("SELECT count(*) FROM media WHERE user_id = $1", user) == 0
        await limited.create(user, size_bytes=LIMIT * SIZE_BYTES)

    async def test_ones_own_limits_win_whether_wider_or_narrower(self, limited: Metadata, user: str, sql: Sql) -> None:
        await give_own_limits(sql, user, limit_bytes=100, media=3, open_uploads=2)
        quota = await limited.quota(user)
        assert (quota.limit_bytes, quota.media_limit, quota.open_upload_limit) == (100, 3, 2)
        with pytest.raises(errors.ResourceExhausted):
            await limited.create(user, size_bytes=101)
        await give_own_limits(sql, user, limit_bytes=3 * LIMIT * SIZE_BYTES)
        for _ in range(2):
            await limited.create(user, size_bytes=LIMIT * SIZE_BYTES)
        assert (await limited.quota(user)).used_bytes == 2 * LIMIT * SIZE_BYTES

    async def test_a_file_larger_than_the_general_limit_fits_into_a_wider_one(
        self, limited: Metadata, user: str, sql: Sql
    ) -> None:
        await give_own_limits(sql, user, limit_bytes=4 * LIMIT * SIZE_BYTES)
        await limited.create(user, size_bytes=2 * LIMIT * SIZE_BYTES)
        unknown = await limited.create(user, size_bytes=0)
        await limited.begin_complete(user, unknown.media_id, size_bytes=2 * LIMIT * SIZE_BYTES)
        assert await used(limited, user) == (4 * LIMIT * SIZE_BYTES, 2, 2)

    async def test_limits_of_others_are_not_ones_own(self, limited: Metadata, user: str, sql: Sql) -> None:
        await give_own_limits(sql, f"{user}-other", limit_bytes=1)
        await limited.create(user)
        with pytest.raises(errors.ResourceExhausted):
            await limited.create(f"{user}-other")

    async def test_refusals_say_which_limit(self, metadata: Metadata, user: str, sql: Sql) -> None:
        await give_own_limits(sql, user, media=1)
        await metadata.create(user)
        with pytest.raises(errors.ResourceExhausted) as refused:
            await metadata.create(user)
        assert (refused.value.reason, refused.value.details) == (
            "QUOTA_EXCEEDED",
            {"media_count": "1", "media_limit": "1"},
        )
        await give_own_limits(sql, user, open_uploads=1)
        with pytest.raises(errors.ResourceExhausted) as refused:
            await metadata.create(user)
        assert refused.value.reason == "TOO_MANY_OPEN_UPLOADS"
        assert refused.value.details["open_upload_limit"] == "1"
        assert int(refused.value.details["retry_after_s"]) > 0

    async def test_a_limit_that_was_lowered_takes_nothing_away(self, metadata: Metadata, user: str, sql: Sql) -> None:
        upload = await metadata.create(user)
        await give_own_limits(sql, user, limit_bytes=1)
        await metadata.begin_complete(user, upload.media_id)
        await metadata.begin_processing(upload)
        with pytest.raises(errors.ResourceExhausted):
            await metadata.create(user, size_bytes=1)
        await metadata.fail_media(upload.media_id)
        await metadata.create(user, size_bytes=1)

    async def test_a_repeat_is_answered_though_the_quota_is_full(self, limited: Metadata, user: str, sql: Sql) -> None:
        first = await limited.create(user, size_bytes=LIMIT * SIZE_BYTES, request_id="r")
        answers = await asyncio.gather(
            *(limited.create(user, size_bytes=LIMIT * SIZE_BYTES, request_id="r") for _ in range(5))
        )
        assert {answer.media_id for answer in answers} == {first.media_id}
        assert await used(limited, user) == (LIMIT * SIZE_BYTES, 1, 1)
        await quotas_hold(sql)

    async def test_a_request_that_was_refused_may_be_made_again(self, limited: Metadata, user: str) -> None:
        first = await limited.create(user, size_bytes=LIMIT * SIZE_BYTES)
        with pytest.raises(errors.ResourceExhausted):
            await limited.create(user, request_id="r")
        await limited.abort(user, first.media_id)
        upload = await limited.create(user, request_id="r")
        assert (await limited.media(user, upload.media_id)).status == media_pb2.MEDIA_STATUS_UPLOADING
