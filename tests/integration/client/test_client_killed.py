"""Uploads that are cut off, killed and started again, on real servers; what was sent is counted before storage."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from millrace import ChecksumAlgorithm, Client, Status, upload
from services.runtime import blobs
from services.runtime.settings import S3Settings
from tests.env import settings_from
from tests.integration.client.conftest import MAX_IMAGE_BYTES, PART_BYTES
from tests.integration.client.storage_link import StorageLink
from tests.unit.client.fakes import base64_of

PART_COUNT = 12
CONTENT = os.urandom((PART_COUNT - 1) * PART_BYTES + 1_234_567)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


def start(stack: Stack, user: str, state_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "MILLRACE_URL": stack.settings["MILLRACE_GATEWAY_URL"],
        "MILLRACE_TOKEN": stack.token(user),
        "MILLRACE_STATE_DIR": str(state_dir),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "millrace", "upload", "--json", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def remembered(state_dir: Path) -> list[str]:
    """The media of unfinished uploads."""
    return [json.loads(path.read_text())["media_id"] for path in state_dir.glob("*.json")]


def client_of(stack: Stack, user: str) -> Client:
    return Client(stack.settings["MILLRACE_GATEWAY_URL"], stack.token(user))


async def original(stack: Stack, media_id: str) -> bytes:
    """What storage made of the parts."""
    settings = settings_from(S3Settings, stack.settings)
    key = f"{media_id.replace('-', '')[13:16]}/{media_id}/original"
    async with blobs.connected(settings) as storage:
        return await storage.get(settings.s3_originals_bucket, key)


def wait_until_stored(link: StorageLink, count: int) -> None:
    ends_at = time.monotonic() + 60
    while len(link.puts) < count:
        assert time.monotonic() < ends_at, f"{len(link.puts)} of {count} parts after a minute"
        time.sleep(0.02)


async def test_killed_in_the_middle_it_sends_what_is_missing_and_nothing_else(
    uploads: Stack, link: StorageLink, clip: Path, state_dir: Path
) -> None:
    link.let_through(7)
    first = start(uploads, "kim", state_dir, str(clip))
    await asyncio.to_thread(wait_until_stored, link, 7)
    first.send_signal(signal.SIGKILL)
    first.communicate()

    async with client_of(uploads, "kim") as kim:
        [begun] = [media async for media in kim.list()]
        assert begun.status is Status.UPLOADING
        held = {part.part_number for part in (await kim.list_parts(begun.media_id)).parts}
        assert len(held) == 7
        assert remembered(state_dir) == [begun.media_id]

        link.puts.clear()
        link.let_through(None)
        second = start(uploads, "kim", state_dir, str(clip))
        out, err = await asyncio.to_thread(second.communicate)
        assert second.returncode == 0, err
        assert json.loads(out)["media"]["media_id"] == begun.media_id
        assert sorted(put.part_number for put in link.puts) == sorted(set(range(1, PART_COUNT + 1)) - held)
        assert {put.status for put in link.puts} == {200}
        assert [media.media_id async for media in kim.list()] == [begun.media_id]
    assert hashlib.sha256(await original(uploads, begun.media_id)).digest() == hashlib.sha256(CONTENT).digest()
    assert remembered(state_dir) == []


async def test_killed_again_and_again_at_any_time_it_becomes_one_media(
    uploads: Stack, link: StorageLink, clip: Path, state_dir: Path
) -> None:
    for kills in range(10):
        link.let_through(1)  # so that no run can reach its end before it is killed
        process = start(uploads, "lou", state_dir, str(clip), "--parallel", "2")
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 0.4 + 0.25 * kills)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    link.let_through(None)
    last = start(uploads, "lou", state_dir, str(clip))
    out, err = await asyncio.to_thread(last.communicate)
    assert last.returncode == 0, err
    media_id = json.loads(out)["media"]["media_id"]
    async with client_of(uploads, "lou") as lou:
        assert [media.media_id async for media in lou.list()] == [media_id]
    assert hashlib.sha256(await original(uploads, media_id)).digest() == hashlib.sha256(CONTENT).digest()
    assert remembered(state_dir) == []


async def test_a_second_process_on_the_same_file_says_so(
    uploads: Stack, link: StorageLink, clip: Path, state_dir: Path
) -> None:
    link.let_through(2)
    first = start(uploads, "mia", state_dir, str(clip))
    await asyncio.to_thread(wait_until_stored, link, 2)
    second = start(uploads, "mia", state_dir, str(clip))
    out, err = await asyncio.to_thread(second.communicate)
    assert (second.returncode, json.loads(out)["error"]["kind"]) == (7, "busy")
    assert "another process uploads this file" in json.loads(out)["error"]["message"], err
    link.let_through(None)
    out, err = await asyncio.to_thread(first.communicate)
    assert first.returncode == 0, err


async def test_no_resume_aborts_what_was_left(uploads: Stack, link: StorageLink, clip: Path, state_dir: Path) -> None:
    link.let_through(2)
    first = start(uploads, "noa", state_dir, str(clip))
    await asyncio.to_thread(wait_until_stored, link, 2)
    first.kill()
    first.communicate()
    link.let_through(None)
    second = start(uploads, "noa", state_dir, str(clip), "--no-resume")
    _, err = await asyncio.to_thread(second.communicate)
    assert second.returncode == 0, err
    async with client_of(uploads, "noa") as noa:
        statuses = [media.status async for media in noa.list()]
    assert statuses == [Status.PROCESSING, Status.FAILED]


async def test_a_connection_cut_in_the_middle_of_a_part_costs_that_part_alone(
    uploads: Stack, link: StorageLink, clip: Path
) -> None:
    link.cut_once(after_bytes=2_000_000)
    told: list[int] = []
    async with client_of(uploads, "ola") as ola:
        media = await upload(ola, clip, on_progress=lambda sent, _: told.append(sent))
    assert Counter(put.part_number for put in link.puts) == dict.fromkeys(range(1, PART_COUNT + 1), 1)
    assert told[-1] == len(CONTENT)
    assert any(later < earlier for earlier, later in pairwise(told))
    assert await original(uploads, media.media_id) == CONTENT


@pytest.mark.parametrize("parallel", [1, 4])
async def test_no_more_parts_are_in_flight_than_asked_for(
    uploads: Stack, link: StorageLink, clip: Path, parallel: int
) -> None:
    async with client_of(uploads, "pam") as pam:
        await upload(pam, clip, parallel=parallel)
    assert link.most_in_flight == parallel


@pytest.mark.parametrize("checksum", [*ChecksumAlgorithm, None])
@pytest.mark.parametrize("size_bytes", [1_000, 7_000_000, len(CONTENT)], ids=["one put", "a larger put", "in parts"])
async def test_what_arrives_is_what_was_read(
    uploads: Stack, link: StorageLink, tmp_path: Path, size_bytes: int, checksum: ChecksumAlgorithm | None
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CONTENT[:size_bytes])
    async with client_of(uploads, "ria") as ria:
        media = await upload(ria, path, checksum=checksum)
        assert media.status is Status.PROCESSING
    assert (
        hashlib.sha256(await original(uploads, media.media_id)).digest()
        == hashlib.sha256(CONTENT[:size_bytes]).digest()
    )
    if checksum is ChecksumAlgorithm.CRC32C:
        assert media.checksum == base64_of("CRC32C", CONTENT[:size_bytes])


def test_a_folder_of_small_files_goes_up_several_at_once(
    uploads: Stack, link: StorageLink, tmp_path: Path, state_dir: Path
) -> None:
    folder = tmp_path / "photos"
    for number in range(40):
        path = folder / f"{number % 4}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT[number : number + 10_000])
    (folder / "notes.txt").write_text("no picture")
    (folder / "large.jpg").write_bytes(bytes(MAX_IMAGE_BYTES + 1))
    process = start(uploads, "sue", state_dir, str(folder))
    out, err = process.communicate(timeout=120)
    outcomes = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 4, err
    assert [outcome["file"] for outcome in outcomes if not outcome["ok"]] == [str(folder / "large.jpg")]
    assert len({outcome["media"]["media_id"] for outcome in outcomes if outcome["ok"]}) == 40
    assert "skipped 1 of other types" in err
    assert len(err.splitlines()) < 15
    assert len(link.puts) == 40
    assert [*state_dir.glob("*.lock")] == []
