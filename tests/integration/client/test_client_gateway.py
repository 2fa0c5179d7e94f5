"""The client and the command against a real gateway, upload service, metadata service and object storage."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO
from uuid import uuid4

import pytest

from deploy.local.stack import Stack
from millrace import (
    Client,
    FileUnusable,
    MediaFailed,
    NotAuthenticated,
    NotFound,
    Refused,
    Status,
    new_traceparent,
    trace_id_of,
    upload,
    wait_until_published,
)
from millrace.parts import PartBody, PartRange, Source
from tests.integration.client.conftest import MAX_IMAGE_BYTES, PART_BYTES, WINDOW_PARTS

CONTENT = os.urandom(4 * PART_BYTES + 1_234_567)  # more than two windows


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "Ferien \N{SNOWMAN}.mp4"
    path.write_bytes(CONTENT)
    return path


async def begin(client: Client) -> str:
    session = await client.initiate(
        filename="clip.mp4", content_type="video/mp4", size_bytes=len(CONTENT), idempotency_key=str(uuid4())
    )
    return session.media_id


async def test_a_file_goes_up_in_windows_and_is_accepted(alice: Client, clip: Path) -> None:
    traceparent = new_traceparent()
    told: list[int] = []
    media = await upload(alice, clip, on_progress=lambda sent, _: told.append(sent), traceparent=traceparent)
    assert media.status is Status.PROCESSING
    assert (media.type, media.filename, media.size_bytes) == ("video", clip.name, len(CONTENT))
    assert media.trace_id == trace_id_of(traceparent)
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)
    assert await alice.get(media.media_id) == media


async def test_what_storage_holds_is_what_was_sent(alice: Client, clip: Path) -> None:
    session = await alice.initiate(
        filename="clip.mp4", content_type="video/mp4", size_bytes=len(CONTENT), idempotency_key=str(uuid4())
    )
    assert [part.part_number for part in session.first_window.parts] == [1, 2][:WINDOW_PARTS]
    signed = await alice.sign_parts(session.media_id, [5])
    [last] = signed.parts

    at_bytes = 4 * PART_BYTES
    etag = await alice.storage.put(last, PartBody(Source.of(clip), PartRange(5, at_bytes, len(CONTENT) - at_bytes)))
    held = await alice.list_parts(session.media_id)
    assert [(part.part_number, part.etag, part.size_bytes) for part in held.parts] == [(5, etag, last.size_bytes)]
    assert (held.part_size_bytes, held.part_count) == (PART_BYTES, 5)
    with pytest.raises(Refused) as caught:
        await alice.complete(session.media_id, held.parts)
    assert caught.value.type.endswith("/parts-incomplete")


async def test_the_same_key_begins_the_same_upload(alice: Client) -> None:
    key = str(uuid4())
    ids = {
        (
            await alice.initiate(
                filename="clip.mp4", content_type="video/mp4", size_bytes=len(CONTENT), idempotency_key=key
            )
        ).media_id
        for _ in range(2)
    }
    assert len(ids) == 1


async def test_an_aborted_upload_ends_as_failed_and_its_watchers_learn_of_it(alice: Client) -> None:
    media_id = await begin(alice)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:

        async def watch() -> None:
            with pytest.raises(MediaFailed) as caught:
                await wait_until_published(alice, media_id)
            assert caught.value.reason == "upload_aborted"

        group.create_task(watch())
        await asyncio.sleep(0.5)
        await alice.abort(media_id)
        await alice.abort(media_id)


async def test_a_file_that_changes_meanwhile_leaves_nothing_behind(alice: Client, clip: Path) -> None:
    def change(sent_bytes: int, _: int) -> None:
        if sent_bytes > PART_BYTES:
            os.utime(clip, (1, 1))

    with pytest.raises(FileUnusable, match="changed"):
        await upload(alice, clip, parallel=1, on_progress=change)
    newest = await anext(alice.list(page_size=1))
    assert newest.failure is not None
    assert newest.failure.reason == "upload_aborted"


async def test_anothers_media_is_unknown(alice: Client, bob: Client) -> None:
    media_id = await begin(alice)
    for call in (bob.get(media_id), bob.list_parts(media_id), bob.abort(media_id), bob.sign_parts(media_id, [1])):
        with pytest.raises(NotFound):
            await call
    assert media_id not in [media.media_id async for media in bob.list()]


async def test_a_list_is_read_page_by_page_and_by_status(bob: Client) -> None:
    begun = [await begin(bob) for _ in range(5)]
    await bob.abort(begun[2])
    listed = [media.media_id async for media in bob.list(page_size=2)]
    assert listed == begun[::-1]
    assert [media.media_id async for media in bob.list(status=Status.FAILED)] == [begun[2]]


async def test_a_token_that_does_not_verify_is_refused(uploads: Stack) -> None:
    async with Client(uploads.settings["MILLRACE_GATEWAY_URL"], "nonsense") as nobody:
        with pytest.raises(NotAuthenticated) as caught:
            await anext(nobody.list())
    assert caught.value.type.endswith("/token-invalid")


async def test_a_refusal_says_what_is_too_large(alice: Client, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(bytes(MAX_IMAGE_BYTES + 1))
    with pytest.raises(Refused) as caught:
        await upload(alice, path)
    assert caught.value.type.endswith("/file-too-large")
    assert len(caught.value.trace_id) == 32


def command(
    stack: Stack, *arguments: str, token: str | None = None, stdout: IO[bytes] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "MILLRACE_URL": stack.settings["MILLRACE_GATEWAY_URL"],
        "MILLRACE_TOKEN": stack.token("carol") if token is None else token,
    }
    return subprocess.run(
        [sys.executable, "-m", "millrace", *arguments],
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_uploads_and_finds_its_upload_again(uploads: Stack, clip: Path) -> None:
    sent = command(uploads, "upload", "--json", str(clip))
    assert sent.returncode == 0, sent.stderr
    outcome = json.loads(sent.stdout)
    assert outcome["file"] == str(clip)
    media_id = outcome["media"]["media_id"]
    assert clip.name in sent.stderr

    shown = command(uploads, "status", media_id)
    assert shown.stdout.startswith(f"{clip.name}  processing  {media_id}\n")
    listed = command(uploads, "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [media_id]


def test_the_command_ends_in_silence_when_nobody_reads_on(uploads: Stack) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        result = command(uploads, "list", stdout=nobody)
    assert result.stderr == ""


def test_the_commands_exit_codes(uploads: Stack, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    unknown = "01939f5e-7a00-7abc-8def-0123456789ab"
    expected = {
        2: command(uploads, "upload", str(text)),
        3: command(uploads, "list", token=""),
        4: command(uploads, "status", unknown),
    }
    for code, result in expected.items():
        assert result.returncode == code, result.stderr
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) <= 2
        assert "Traceback" not in result.stderr
