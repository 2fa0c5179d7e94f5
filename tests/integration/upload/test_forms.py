"""Files that browsers send as a form, which nobody tells us of: taken in by themselves, once, and pinned."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from media.v1 import media_pb2
from media.v1 import upload_service_pb2 as pb
from media.v1.metadata_service_pb2_grpc import MetadataServiceStub
from services.runtime import grpc_client
from services.runtime.blobs import Blobs
from services.runtime.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from tests.env import Env
from tests.integration.upload.behind import ALL_URLS_DEAD, BUCKET, Behind, eventually
from tests.integration.upload.calls import FORM, Uploader, key_of

if TYPE_CHECKING:
    from media.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

SIZE_BYTES = 20_000
ABANDONED = timedelta(seconds=61)


@pytest.fixture(scope="module")
def env(env: Env) -> Env:
    """Uploads that are past their time are found at once."""
    return {**env, "MILLRACE_RECONCILER_INTERVAL_S": "0.2"}


@pytest.fixture
def user() -> str:
    return f"user-{secrets.token_hex(6)}"


@pytest.fixture
def uploader(stub: "UploadServiceAsyncStub", user: str) -> Uploader:
    return Uploader(stub, user)


@pytest.fixture
async def behind(env: Env, uploader: Uploader, storage: Blobs) -> AsyncIterator[Behind]:
    sql = await asyncpg.connect(env["MILLRACE_DATABASE_URL"])
    async with grpc_client.channel(env["MILLRACE_METADATA_TARGET"]) as channel:
        yield Behind(sql, storage, MetadataServiceStub(channel))
    await sql.close()


async def post(begun: pb.InitiateUploadResponse, data: bytes, **changed: str) -> httpx.Response:
    """What a browser sends."""
    async with httpx.AsyncClient(timeout=60) as http:
        fields = {**begun.form.fields, **changed}
        return await http.post(begun.form.url, data=fields, files={"file": ("a.mp4", data)})


def some_bytes(size_bytes: int = SIZE_BYTES) -> bytes:
    return secrets.token_bytes(size_bytes)


async def test_what_arrives_is_completed_by_itself_within_seconds(
    uploader: Uploader, behind: Behind, user: str
) -> None:
    begun, data = await uploader.initiate(0, FORM), some_bytes()
    assert (begun.kind, begun.upload_id, begun.part_count, [*begun.parts]) == (FORM, "", 0, [])
    assert begun.s3_key == key_of(begun.media_id)
    assert (await post(begun, data)).status_code == 201
    arrived_s = time.monotonic()
    await behind.has_state(begun.media_id, "completed")
    took_s = time.monotonic() - arrived_s
    assert took_s < 15  # a second or two, but for a machine that does much else
    assert await behind.original(begun.media_id) == data
    await behind.has_keys(begun.media_id, "original")
    assert await behind.announced(begun.media_id) == ["media.uploaded"]
    assert await behind.used(user) == (SIZE_BYTES, 1, 0)
    pinned = await behind.storage.head(BUCKET, begun.s3_key)
    row = await behind.sql.fetchrow(
        "SELECT status, size_bytes, original_etag FROM media WHERE media_id = $1", begun.media_id
    )
    assert row is not None
    assert tuple(row) == ("processing", SIZE_BYTES, pinned.etag)


async def test_it_waits_for_one_that_takes_its_time(uploader: Uploader, behind: Behind) -> None:
    begun, data = await uploader.initiate(0, FORM), some_bytes()
    await asyncio.sleep(2.5)  # it was looked for, more than once
    assert await behind.state(begun.media_id) == "open"
    await post(begun, data)
    await behind.has_state(begun.media_id, "completed")
    assert await behind.original(begun.media_id) == data


async def test_one_that_was_open_for_hours_is_found_within_half_a_minute(uploader: Uploader, behind: Behind) -> None:
    begun = await uploader.initiate(0, FORM)
    await behind.sql.execute(
        "UPDATE uploads SET state_since = now() - interval '5 h' WHERE media_id = $1", begun.media_id
    )

    async def is_looked_for_less_often() -> bool:
        wait = await behind.next_look(begun.media_id)
        assert wait is not None
        return timedelta(seconds=15) < wait <= timedelta(seconds=30)  # it is a minute while somebody looks

    await eventually(is_looked_for_less_often, "it was looked for again")


async def test_the_client_may_complete_it_too(uploader: Uploader, behind: Behind) -> None:
    begun, data = await uploader.initiate(0, FORM), some_bytes()
    with pytest.raises(InvalidArgument) as refused:
        await uploader.complete(begun.media_id, [])
    assert refused.value.reason == "PARTS_INCOMPLETE"
    assert not await uploader.held(begun.media_id)
    await post(begun, data)
    outcomes = await asyncio.gather(*(uploader.complete(begun.media_id, []) for _ in range(5)), return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, media_pb2.Media)]
    media = await uploader.complete(begun.media_id, [])
    assert (media.status, media.size_bytes) == (media_pb2.MEDIA_STATUS_PROCESSING, SIZE_BYTES)
    assert await behind.original(begun.media_id) == data
    assert await behind.announced(begun.media_id) == ["media.uploaded"]


async def test_parts_are_not_signed_for_it(uploader: Uploader) -> None:
    begun = await uploader.initiate(0, FORM)
    with pytest.raises(FailedPrecondition) as refused:
        await uploader.sign(begun.media_id, [1])
    assert refused.value.reason == "UPLOAD_NOT_IN_PARTS"


async def test_an_announced_size_is_no_promise(uploader: Uploader, behind: Behind, user: str) -> None:
    """Widgets know the size and may say it; the bytes decide."""
    begun, data = await uploader.initiate(SIZE_BYTES * 3, FORM), some_bytes()
    assert await behind.used(user) == (0, 1, 1)
    await post(begun, data)
    await behind.has_state(begun.media_id, "completed")
    assert await behind.used(user) == (SIZE_BYTES, 1, 0)


class TestSentAgain:
    async def test_after_completion_it_changes_nothing_and_is_removed_when_it_can_come_no_more(
        self, uploader: Uploader, behind: Behind, user: str
    ) -> None:
        begun, data = await uploader.initiate(0, FORM), some_bytes()
        await post(begun, data)
        await behind.has_state(begun.media_id, "completed")
        await behind.was_looked_after(begun.media_id)
        pinned = await behind.storage.head(BUCKET, begun.s3_key)
        assert (await post(begun, some_bytes(2 * SIZE_BYTES))).status_code == 201
        for _ in range(2):
            await uploader.complete(begun.media_id, [])
        assert await behind.storage.head(BUCKET, begun.s3_key) == pinned
        assert await behind.used(user) == (SIZE_BYTES, 1, 0)
        wait = await behind.next_look(begun.media_id)
        assert wait is not None
        await behind.let_pass(begun.media_id, ALL_URLS_DEAD)
        await behind.has_keys(begun.media_id, "original")
        assert await behind.original(begun.media_id) == data
        assert await behind.announced(begun.media_id) == ["media.uploaded"]

        async def is_settled() -> bool:
            return await behind.next_look(begun.media_id) is None

        await asyncio.sleep(0.5)
        assert await is_settled()

    @pytest.mark.parametrize("round_", range(3))
    async def test_many_times_at_once_one_of_them_is_the_original(
        self, round_: int, uploader: Uploader, behind: Behind, user: str
    ) -> None:
        begun = await uploader.initiate(0, FORM)
        files = [some_bytes(1_000 + number) for number in range(12)]

        async def send(number: int) -> None:
            await asyncio.sleep(0.15 * number)  # while it is looked for, copied and pinned
            assert (await post(begun, files[number])).status_code == 201

        async def complete() -> None:
            for _ in range(6):
                await asyncio.gather(uploader.complete(begun.media_id, []), return_exceptions=True)
                await asyncio.sleep(0.2)

        await asyncio.gather(*(send(number) for number in range(len(files))), complete(), complete())
        await behind.has_state(begun.media_id, "completed")
        original = await behind.original(begun.media_id)
        assert original in files
        assert await behind.used(user) == (len(original), 1, 0)
        pinned = await behind.storage.head(BUCKET, begun.s3_key)
        assert (
            await behind.sql.fetchval(
                "SELECT original_etag FROM media WHERE media_id = $1 AND size_bytes = $2", begun.media_id, len(original)
            )
            == pinned.etag
        )
        assert await behind.announced(begun.media_id) == ["media.uploaded"]
        await behind.was_looked_after(begun.media_id)
        await behind.let_pass(begun.media_id, ALL_URLS_DEAD)
        await behind.has_keys(begun.media_id, "original")
        assert await behind.original(begun.media_id) == original


class TestDied:
    """Whoever completed it is not heard of again."""

    async def test_before_the_copy(self, uploader: Uploader, behind: Behind, user: str) -> None:
        begun, data = await uploader.initiate(0, FORM), some_bytes()
        await behind.begin_complete(user, begun.media_id, SIZE_BYTES)
        await post(begun, data)
        await behind.let_pass(begun.media_id, ABANDONED)
        await behind.has_state(begun.media_id, "completed")
        assert await behind.original(begun.media_id) == data
        await behind.has_keys(begun.media_id, "original")

    async def test_after_the_copy_though_it_was_sent_again(self, uploader: Uploader, behind: Behind, user: str) -> None:
        begun, data = await uploader.initiate(0, FORM), some_bytes()
        await behind.begin_complete(user, begun.media_id, SIZE_BYTES)
        await post(begun, data)
        incoming = begun.form.fields["key"]
        etag = (await behind.storage.head(BUCKET, incoming)).etag
        await behind.storage.copy(BUCKET, incoming, begun.s3_key, etag=etag)
        await post(begun, some_bytes(3 * SIZE_BYTES))
        await behind.let_pass(begun.media_id, ABANDONED)
        await behind.has_state(begun.media_id, "completed")
        assert await behind.original(begun.media_id) == data
        assert await behind.used(user) == (SIZE_BYTES, 1, 0)
        await behind.has_keys(begun.media_id, "original")


class TestGivenUp:
    async def test_what_a_form_brings_after_an_abort_does_not_stay(
        self, uploader: Uploader, behind: Behind, user: str
    ) -> None:
        begun = await uploader.initiate(0, FORM)
        await post(begun, some_bytes())
        await uploader.abort(begun.media_id)
        await behind.has_keys(begun.media_id)
        await behind.was_looked_after(begun.media_id)
        assert (await post(begun, some_bytes())).status_code == 201
        await behind.let_pass(begun.media_id, ALL_URLS_DEAD)
        await behind.has_keys(begun.media_id)
        assert await behind.state(begun.media_id) == "aborted"
        assert await behind.used(user) == (0, 0, 0)

    async def test_one_whose_time_is_up_fails_and_leaves_nothing(
        self, uploader: Uploader, behind: Behind, user: str
    ) -> None:
        begun = await uploader.initiate(0, FORM)
        await behind.let_time_run_out(begun.media_id)
        await behind.has_state(begun.media_id, "aborted")
        assert await behind.failure(begun.media_id) == "upload_expired"
        await behind.was_looked_after(begun.media_id)
        await post(begun, some_bytes())
        await behind.let_pass(begun.media_id, ALL_URLS_DEAD)
        await behind.has_keys(begun.media_id)
        assert await behind.announced(begun.media_id) == ["media.failed"]
        assert await behind.used(user) == (0, 0, 0)

    async def test_the_quota_that_it_exceeds_fails_it_and_its_bytes_go(
        self, uploader: Uploader, behind: Behind, user: str
    ) -> None:
        await behind.limit_bytes(user, SIZE_BYTES - 1)
        begun = await uploader.initiate(0, FORM)
        await post(begun, some_bytes())
        await behind.has_state(begun.media_id, "aborted")
        assert await behind.failure(begun.media_id) == "quota_exceeded"
        await behind.has_keys(begun.media_id)
        assert await behind.used(user) == (0, 0, 0)
        assert await behind.announced(begun.media_id) == ["media.failed"]

    async def test_whoever_completes_it_hears_of_the_quota(self, uploader: Uploader, behind: Behind, user: str) -> None:
        await behind.limit_bytes(user, SIZE_BYTES - 1)
        begun = await uploader.initiate(0, FORM)
        await post(begun, some_bytes())
        # The sweeper may have been quicker, and failed it for the same reason.
        with pytest.raises((ResourceExhausted, FailedPrecondition)):
            await uploader.complete(begun.media_id, [])
        await behind.has_state(begun.media_id, "aborted")
        assert await behind.failure(begun.media_id) == "quota_exceeded"

    async def test_forms_at_once_exceed_no_quota(self, uploader: Uploader, behind: Behind, user: str) -> None:
        await behind.limit_bytes(user, 3 * SIZE_BYTES)
        begun = [await uploader.initiate(0, FORM) for _ in range(8)]
        await asyncio.gather(*(post(one, some_bytes()) for one in begun))
        states: list[str] = []
        for one in begun:
            await behind.was_looked_after(one.media_id)
            states.append(await behind.state(one.media_id))
        assert sorted(states) == ["aborted"] * 5 + ["completed"] * 3
        assert await behind.used(user) == (3 * SIZE_BYTES, 3, 0)
