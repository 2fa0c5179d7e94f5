"""Looking after what uploads leave behind, on real storage and real records: nothing stays, and nothing is lost."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import grpc
import httpx
import pytest

from media.v1 import media_pb2
from media.v1 import upload_service_pb2 as pb
from media.v1.metadata_service_pb2_grpc import MetadataServiceStub
from services.runtime import grpc_client, ids
from services.runtime.blobs import Blobs, Part
from services.runtime.errors import FailedPrecondition, NotFound
from services.upload.completion import Completion
from services.upload.metadata_client import MetadataRecords
from services.upload.storage import OriginalsBucket
from services.upload.sweeper import Sweeper
from tests.env import Env
from tests.integration.upload.behind import ALL_URLS_DEAD, BUCKET, Behind, eventually
from tests.integration.upload.calls import FORM, MULTIPART, PART_BYTES, PUT, Uploader, key_of

if TYPE_CHECKING:
    from media.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

DATA = secrets.token_bytes(PART_BYTES + 999)
SMALL = secrets.token_bytes(2_000)
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
async def metadata(env: Env, uploader: Uploader) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the metadata service."""
    async with grpc_client.channel(env["MILLRACE_METADATA_TARGET"]) as channel:
        yield channel


@pytest.fixture
async def behind(env: Env, metadata: grpc.aio.Channel, storage: Blobs) -> AsyncIterator[Behind]:
    sql = await asyncpg.connect(env["MILLRACE_DATABASE_URL"])
    yield Behind(sql, storage, MetadataServiceStub(metadata))
    await sql.close()


def sweeper_of(metadata: grpc.aio.Channel, storage: Blobs, *, orphan_age: timedelta = timedelta(0)) -> Sweeper:
    """One more beside the service's own."""
    originals, records = OriginalsBucket(storage, BUCKET), MetadataRecords(metadata)
    return Sweeper(
        originals,
        records,
        Completion(originals, records, {}),
        url_ttl=timedelta(hours=1),
        interval_s=600,
        orphan_interval_s=600,
        orphan_age=orphan_age,
    )


async def put(begun: pb.InitiateUploadResponse, data: bytes) -> list[pb.CompletedPart]:
    """PUTs every part that was signed."""
    sent = []
    async with httpx.AsyncClient(timeout=60) as http:
        for part in begun.parts:
            offset = (part.part_number - 1) * begun.part_size_bytes
            content = data[offset : offset + part.size_bytes]
            answer = await http.put(part.url, content=content, headers=dict(part.headers))
            assert answer.status_code == 200, answer.text
            sent.append(pb.CompletedPart(part_number=part.part_number, etag=answer.headers["etag"].strip('"')))
    return sent


async def pending(storage: Blobs) -> set[tuple[str, str]]:
    """All multipart uploads at storage."""
    page, after = await storage.pending_multipart(BUCKET)
    found = [*page]
    while after is not None:
        page, after = await storage.pending_multipart(BUCKET, after=after)
        found += page
    return {(one.key, one.upload_id) for one in found}


class TestGivenUp:
    async def test_bytes_that_come_after_an_abort_go_when_no_more_can_come(
        self, uploader: Uploader, behind: Behind
    ) -> None:
        begun = await uploader.initiate(len(SMALL), PUT)
        await uploader.abort(begun.media_id)
        await behind.was_looked_after(begun.media_id)
        await put(begun, SMALL)
        # The URL lives, so that it could come again: it is looked at once, later.
        wait = await behind.next_look(begun.media_id)
        assert wait is not None
        assert timedelta(minutes=90) < wait <= timedelta(hours=2)
        assert await behind.keys(begun.media_id) == {"original"}
        await behind.let_pass(begun.media_id, ALL_URLS_DEAD)
        await behind.has_keys(begun.media_id)

        async def is_settled() -> bool:
            return await behind.next_look(begun.media_id) is None

        await eventually(is_settled, "nobody looks after it any more")

    async def test_an_aborted_multipart_upload_takes_no_more_parts(self, uploader: Uploader, behind: Behind) -> None:
        begun = await uploader.initiate(len(DATA), MULTIPART)
        await put(begun, DATA)
        await uploader.abort(begun.media_id)
        async with httpx.AsyncClient(timeout=60) as http:
            part = begun.parts[1]
            assert (await http.put(part.url, content=DATA[-part.size_bytes :])).status_code == 404
        assert (key_of(begun.media_id), begun.upload_id) not in await pending(behind.storage)

    async def test_what_an_aborting_process_left_when_it_died_goes_by_itself(
        self, uploader: Uploader, behind: Behind, user: str
    ) -> None:
        multipart = await uploader.initiate(len(DATA), MULTIPART)
        await put(multipart, DATA)
        whole = await uploader.initiate(len(SMALL), PUT)
        await put(whole, SMALL)
        for begun in (multipart, whole):
            await behind.fail(begun.media_id)  # the record alone
        for begun in (multipart, whole):
            await behind.was_looked_after(begun.media_id)
            assert await behind.keys(begun.media_id) == set()
        with pytest.raises(NotFound):
            await behind.storage.list_parts(BUCKET, key_of(multipart.media_id), multipart.upload_id)
        assert await behind.used(user) == (0, 0, 0)

    async def test_uploads_whose_time_is_up_fail_and_leave_nothing(
        self, uploader: Uploader, behind: Behind, user: str
    ) -> None:
        multipart = await uploader.initiate(len(DATA), MULTIPART)
        await put(multipart, DATA)
        whole = await uploader.initiate(len(SMALL), PUT)
        await put(whole, SMALL)
        never_sent = await uploader.initiate(len(SMALL), PUT)
        completing = await uploader.initiate(len(DATA), MULTIPART)
        await behind.begin_complete(user, completing.media_id)
        all_of = (multipart, whole, never_sent, completing)
        await behind.let_time_run_out(*(begun.media_id for begun in all_of))
        for begun in all_of:
            await behind.has_state(begun.media_id, "aborted")
            assert await behind.failure(begun.media_id) == "upload_expired"
            await behind.was_looked_after(begun.media_id)
            assert await behind.keys(begun.media_id) == set()
            with pytest.raises(FailedPrecondition):
                await uploader.complete(begun.media_id, [pb.CompletedPart(part_number=1, etag="x")])
        assert not {(key_of(begun.media_id), begun.upload_id) for begun in all_of} & await pending(behind.storage)
        assert await behind.used(user) == (0, 0, 0)

    async def test_an_original_that_could_not_be_processed_goes_after_a_while(
        self, uploader: Uploader, behind: Behind, user: str
    ) -> None:
        failed = await uploader.initiate(len(SMALL), PUT)
        kept = await uploader.initiate(len(SMALL), PUT)
        for begun in (failed, kept):
            await uploader.complete(begun.media_id, await put(begun, SMALL))
        await behind.fail(failed.media_id)
        assert await behind.keys(failed.media_id) == {"original"}
        assert await behind.used(user) == (len(SMALL), 1, 0)
        for begun in (failed, kept):
            await behind.let_pass(begun.media_id, timedelta(days=8))
        await behind.has_keys(failed.media_id)
        assert await behind.original(kept.media_id) == SMALL


class TestResumed:
    """The complete call began, and was not heard of again."""

    async def test_what_was_joined_is_processed(self, uploader: Uploader, behind: Behind, user: str) -> None:
        begun = await uploader.initiate(len(DATA), MULTIPART)
        sent = await put(begun, DATA)
        await behind.begin_complete(user, begun.media_id)
        joined = [Part(part.part_number, part.etag) for part in sent]
        await behind.storage.complete_multipart(BUCKET, key_of(begun.media_id), begun.upload_id, joined)
        await behind.let_pass(begun.media_id, ABANDONED)
        await behind.has_state(begun.media_id, "completed")
        assert await behind.announced(begun.media_id) == ["media.uploaded"]
        assert await behind.original(begun.media_id) == DATA
        assert await behind.used(user) == (len(DATA), 1, 0)
        media = await uploader.complete(begun.media_id, sent)
        assert media.status == media_pb2.MEDIA_STATUS_PROCESSING

    async def test_what_was_not_joined_is_open_again(self, uploader: Uploader, behind: Behind, user: str) -> None:
        begun = await uploader.initiate(len(DATA), MULTIPART)
        sent = await put(begun, DATA)
        await behind.begin_complete(user, begun.media_id)
        await behind.let_pass(begun.media_id, ABANDONED)
        await behind.has_state(begun.media_id, "open")
        assert len(await uploader.sign(begun.media_id, [1])) == 1
        await uploader.complete(begun.media_id, sent)
        assert await behind.original(begun.media_id) == DATA

    async def test_a_put_that_is_there_is_processed(self, uploader: Uploader, behind: Behind, user: str) -> None:
        begun = await uploader.initiate(len(SMALL), PUT)
        await put(begun, SMALL)
        await behind.begin_complete(user, begun.media_id)
        await behind.let_pass(begun.media_id, ABANDONED)
        await behind.has_state(begun.media_id, "completed")
        assert await behind.original(begun.media_id) == SMALL

    async def test_one_that_is_alive_is_left_alone(self, uploader: Uploader, behind: Behind, user: str) -> None:
        begun = await uploader.initiate(len(SMALL), PUT)
        await put(begun, SMALL)
        await behind.begin_complete(user, begun.media_id)
        await asyncio.sleep(1.5)
        assert await behind.state(begun.media_id) == "completing"


class TestOrphans:
    async def begun(self, storage: Blobs, key: str) -> tuple[str, str]:
        """A multipart upload of nobody's."""
        return key, await storage.create_multipart(BUCKET, key, content_type="video/mp4")

    async def test_what_no_record_knows_is_aborted_and_what_lives_is_not(
        self, uploader: Uploader, behind: Behind, user: str, metadata: grpc.aio.Channel, storage: Blobs
    ) -> None:
        opened = await uploader.initiate(len(DATA), MULTIPART)
        sent = await put(opened, DATA)
        completing = await uploader.initiate(len(DATA), MULTIPART)
        await behind.begin_complete(user, completing.media_id)
        live = {(key_of(one.media_id), one.upload_id) for one in (opened, completing)}
        orphans = {
            await self.begun(storage, ids.original_key(ids.new_media_id(user))),  # its process died before the record
            await self.begun(storage, key_of(opened.media_id)),  # of the same media, by a repeated call
            await self.begun(storage, f"strangers/{secrets.token_hex(4)}"),
            await self.begun(storage, f"0ab/{'-' * 36}/original"),
        }
        aborted = await uploader.initiate(len(DATA), MULTIPART)
        await behind.fail(aborted.media_id)
        await asyncio.sleep(1.1)  # storage tells ages in seconds
        await sweeper_of(metadata, storage, orphan_age=timedelta(hours=1)).abort_orphans()
        assert orphans | live <= await pending(storage)
        await sweeper_of(metadata, storage).abort_orphans()
        left = await pending(storage)
        assert live <= left
        assert not orphans & left
        await uploader.complete(opened.media_id, sent)
        assert await behind.original(opened.media_id) == DATA

    async def test_several_who_look_at_once_do_no_harm(
        self, uploader: Uploader, behind: Behind, metadata: grpc.aio.Channel, storage: Blobs
    ) -> None:
        live = [await uploader.initiate(len(DATA), MULTIPART) for _ in range(5)]
        orphans = {
            await self.begun(storage, ids.original_key(ids.new_media_id(f"user-{number}"))) for number in range(30)
        }
        await asyncio.sleep(1.1)
        await asyncio.gather(*(sweeper_of(metadata, storage).abort_orphans() for _ in range(4)))
        left = await pending(storage)
        assert {(key_of(one.media_id), one.upload_id) for one in live} <= left
        assert not orphans & left


async def test_several_sweepers_at_once_come_to_the_same_as_one(
    uploader: Uploader, behind: Behind, user: str, metadata: grpc.aio.Channel, storage: Blobs
) -> None:
    """Each session in one of the ways in which it may be found, several times over."""
    completed: list[str] = []
    opened: list[str] = []
    gone: list[str] = []
    async with httpx.AsyncClient(timeout=60) as http:
        for _ in range(4):
            form = await uploader.initiate(0, FORM)
            await http.post(form.form.url, data=dict(form.form.fields), files={"file": SMALL})
            joined = await uploader.initiate(len(SMALL), PUT)
            await put(joined, SMALL)
            unjoined = await uploader.initiate(len(DATA), MULTIPART)
            for begun in (joined, unjoined):
                await behind.begin_complete(user, begun.media_id)
                await behind.let_pass(begun.media_id, ABANDONED)
            given_up = await uploader.initiate(len(SMALL), PUT)
            await put(given_up, SMALL)
            await behind.fail(given_up.media_id)
            completed += [form.media_id, joined.media_id]
            opened.append(unjoined.media_id)
            gone.append(given_up.media_id)

    async def sweep(times: int) -> None:
        sweeper = sweeper_of(metadata, storage)
        for _ in range(times):
            await sweeper.sweep_due()

    await asyncio.gather(*(sweep(5) for _ in range(4)))
    await all_have(behind, completed, "completed")
    await all_have(behind, opened, "open")
    for media_id in completed:
        assert await behind.original(media_id) == SMALL
        assert await behind.announced(media_id) == ["media.uploaded"]
    for media_id in gone:
        await behind.has_keys(media_id)
        assert await behind.announced(media_id) == ["media.failed"]


async def all_have(behind: Behind, media_ids: Sequence[str], state: str) -> None:
    for media_id in media_ids:
        await behind.has_state(media_id, state)
