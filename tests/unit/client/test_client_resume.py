"""Interrupted uploads that go on: killed at every step, with everything that the process had not on disk forgotten."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import httpx
import pytest

from millrace import AlreadyUploading, ChecksumAlgorithm, LimitReached, Media, NetworkError, Refused, forget, upload
from tests.unit.client.fakes import MEDIA_ID, FakeService, Killed, base64_of, problem

CONTENT = b"0123456789abcdefghijklmnopqrstuvwxyz!"  # ten parts of four bytes, the last of one


@dataclass
class Case:
    """A file, a folder for states, and a service that knows the truth."""

    folder: Path
    clip: Path
    service: FakeService = field(default_factory=lambda: FakeService(statuses=None))
    checksum: ChecksumAlgorithm | None = ChecksumAlgorithm.CRC32C
    content_type: str | None = None

    async def run(self, *, resume: bool = True, on_progress: Callable[[int, int], None] | None = None) -> Media:
        """One process."""
        async with self.service.client() as client:
            return await upload(
                client,
                self.clip,
                parallel=1,
                checksum=self.checksum,
                content_type=self.content_type,
                state_dir=self.folder,
                resume=resume,
                on_progress=on_progress,
            )

    async def killed_at(self, moment: int) -> bool:
        """One process that is killed at that moment, of two for each request; whether it lived to see it.

        What the process does while its tasks are cancelled is undone: a killed one does nothing more.
        """
        kept = self.folder.with_name("as it was killed")
        seen = 0

        def count(_: str) -> None:
            nonlocal seen
            seen += 1
            if seen == moment:
                shutil.copytree(self.folder, kept)
            if seen >= moment:
                raise Killed

        self.service.on_request = count
        try:
            await self.run()
        except (Killed, BaseExceptionGroup):
            pass
        else:
            return False
        finally:
            self.service.on_request = lambda _: None
        shutil.rmtree(self.folder)
        kept.rename(self.folder)
        return True


@pytest.fixture(autouse=True)
def files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("millrace.upload"), "SMALL_BYTES", 0)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (tmp_path / "state").mkdir()
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(CONTENT)
    return Case(tmp_path / "state", clip)


def stored(service: FakeService) -> bytes:
    return b"".join(content for _, content in sorted(service.stored.items()))


def resent(service: FakeService) -> list[int]:
    return [number for number, count in [*service.uploads.values()][-1].puts.items() if count > 1]


@pytest.mark.parametrize("is_put", [False, True], ids=["in parts", "with one PUT"])
@pytest.mark.parametrize("checksum", [*ChecksumAlgorithm, None])
async def test_killed_at_any_moment_it_goes_on_without_sending_anything_twice(
    case: Case, monkeypatch: pytest.MonkeyPatch, checksum: ChecksumAlgorithm | None, is_put: bool
) -> None:
    if is_put:
        monkeypatch.setattr(import_module("millrace.upload"), "SMALL_BYTES", 1000)
    moments = 0
    while True:
        case.checksum, case.service = checksum, FakeService(put_max_bytes=100 if is_put else 0, statuses=None)
        if not await case.killed_at(moments + 1):
            break
        moments += 1
        media = await case.run()
        assert media.status == "processing"
        assert len(case.service.uploads) == 1, f"a second media after being killed at moment {moments}"
        assert stored(case.service) == CONTENT
        assert resent(case.service) == []
        assert [*case.folder.iterdir()] == []
    assert moments >= (6 if is_put else 24)  # two for each request


async def test_killed_again_and_again_it_arrives(case: Case) -> None:
    kills = 0
    while await case.killed_at(8):  # each process lives for three requests and a half
        kills += 1
    assert kills > 3
    assert (len(case.service.uploads), stored(case.service), resent(case.service)) == (1, CONTENT, [])


async def test_what_was_accepted_is_answered_again_until_it_is_forgotten(case: Case) -> None:
    async def run() -> Media:
        async with case.service.client() as client:
            return await upload(client, case.clip, state_dir=case.folder, keep_state=True)

    first, again = await run(), await run()
    assert again.media_id == first.media_id
    assert (len(case.service.uploads), resent(case.service)) == (1, [])
    async with case.service.client() as client:
        await forget(client, case.clip, case.folder)
    assert [*case.folder.iterdir()] == []
    await case.run()
    assert len(case.service.uploads) == 2


async def test_what_storage_holds_counts_from_the_beginning(case: Case) -> None:
    case.service.faults["PUT 8"] = [httpx.ConnectError("no route")] * 4
    with pytest.raises(NetworkError):
        await case.run()
    told: list[int] = []
    await case.run(on_progress=lambda sent, _: told.append(sent))
    assert told == [28, 32, 36, 37]


async def test_a_part_of_another_size_at_storage_is_sent_again(case: Case) -> None:
    await case.killed_at(14)
    case.service.stored[2] = b"x"
    await case.run()
    assert stored(case.service) == CONTENT


@pytest.mark.parametrize("state", ["aborted", "expired", "lost"])
async def test_an_upload_that_is_over_begins_anew(case: Case, state: str) -> None:
    await case.killed_at(14)
    case.service.uploads[MEDIA_ID].state = state
    case.service.uploads[MEDIA_ID].stored.clear()
    await case.run()
    assert len(case.service.uploads) == 2
    assert stored(case.service) == CONTENT


async def test_an_upload_that_this_user_does_not_know_begins_anew(case: Case) -> None:
    await case.killed_at(14)
    case.service.uploads.clear()
    case.service.answers.clear()
    await case.run()
    assert stored(case.service) == CONTENT


async def test_an_upload_that_is_being_completed_elsewhere_is_not_begun_anew(case: Case) -> None:
    await case.killed_at(14)
    case.service.uploads[MEDIA_ID].state = "completing"
    with pytest.raises(Refused, match="in words"):
        await case.run()
    assert len(case.service.uploads) == 1


async def test_an_upload_that_was_completed_elsewhere_is_found(case: Case) -> None:
    await case.killed_at(14)
    case.service.uploads[MEDIA_ID].state = "completed"
    assert (await case.run()).status == "processing"
    assert len(case.service.uploads) == 1


async def test_parts_that_completing_refuses_are_sent_by_the_next_run(case: Case) -> None:
    case.service.faults["POST /v1/complete-upload"] = [problem(422, "parts-differ")] * 2
    with pytest.raises(Refused):
        await case.run()
    del case.service.stored[3]
    await case.run()
    assert (len(case.service.uploads), stored(case.service)) == (1, CONTENT)


async def test_a_limit_while_completing_is_said_and_loses_nothing(case: Case) -> None:
    case.service.lost["POST /v1/complete-upload"] = 4
    with pytest.raises(NetworkError):
        await case.run()
    case.service.faults["POST /v1/complete-upload"] = [problem(429, "too-many-requests")] * 4
    with pytest.raises(LimitReached):
        await case.run()
    await case.run()
    assert (len(case.service.uploads), resent(case.service)) == (1, [])


async def test_no_resume_gives_the_former_upload_up(case: Case) -> None:
    await case.killed_at(14)
    await case.run(resume=False)
    assert [upload.state for upload in case.service.uploads.values()] == ["aborted", "completed"]
    assert stored(case.service) == CONTENT


@pytest.mark.parametrize("other", [{"checksum": None}, {"content_type": "video/webm"}], ids=repr)
async def test_another_wish_begins_anew(case: Case, other: dict[str, str | None]) -> None:
    await case.killed_at(14)
    for name, value in other.items():
        setattr(case, name, value)
    await case.run()
    assert [upload.state for upload in case.service.uploads.values()] == ["aborted", "completed"]


async def test_a_file_that_was_changed_begins_anew(case: Case) -> None:
    await case.killed_at(14)
    case.clip.write_bytes(CONTENT[::-1])
    await case.run()
    assert (len(case.service.uploads), stored(case.service)) == (2, CONTENT[::-1])
    assert len([*case.folder.glob("*.json")]) == 1  # that of the file as it was: it may come back


async def test_a_stored_answer_with_urls_of_yesterday_is_signed_again(case: Case) -> None:
    case.checksum = None
    case.service.url_ttl = timedelta(days=-1)
    await case.killed_at(2)  # the media exists, though nobody has heard of it
    case.service.url_ttl = timedelta(hours=1)
    await case.run()
    assert (len(case.service.uploads), stored(case.service)) == (1, CONTENT)
    assert 1 not in {int(request.url.params["signature"]) for request in case.service.to("storage.test")}


async def test_the_whole_is_summed_up_though_only_its_end_was_sent(case: Case) -> None:
    await case.killed_at(20)
    await case.run()
    assert case.service.asked("/complete-upload")[-1]["checksum"] == base64_of("CRC32C", CONTENT)


async def test_the_same_file_twice_at_once_is_refused(case: Case) -> None:
    case.service.put_takes_s = 0.05
    is_begun = asyncio.Event()
    case.service.on_request = lambda _: is_begun.set()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(case.run())
        await is_begun.wait()
        with pytest.raises(AlreadyUploading):
            await case.run()
    assert first.result().status == "processing"
    assert Counter(upload.state for upload in case.service.uploads.values()) == {"completed": 1}
