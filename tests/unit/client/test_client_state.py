import json
import multiprocessing
import os
import stat
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from millrace import AlreadyUploading, StateUnusable, UploadedPart
from millrace.parts import Source
from millrace.state import UploadRequest, UploadState, state_file

GATEWAY = "https://gateway.test"
REQUEST = UploadRequest("clip.mp4", "video/mp4", 10, "CRC32C", "4waSgw==")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "millrace"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"0123456789")
    return Source.of(path)


def test_what_was_saved_last_is_there_for_the_next_process(folder: Path, source: Source) -> None:
    first = UploadState(REQUEST)
    last = replace(first, media_id="m", parts=(UploadedPart(1, "etag", 10, "4waSgw=="),), checksum="4waSgw==")
    with state_file(folder, GATEWAY, source) as store:
        assert store.load() is None
        store.save(first)
        store.save(last)
    with state_file(folder, GATEWAY, source) as store:
        assert store.load() == last
        store.clear()
        store.clear()
        assert store.load() is None
    assert [*folder.iterdir()] == []


def test_only_the_owner_may_read_it_and_people_understand_it(folder: Path, source: Source) -> None:
    with state_file(folder, GATEWAY, source) as store:
        store.save(UploadState(REQUEST))
        [path] = folder.glob("*.json")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(path.read_bytes()) < 1000
        body = json.loads(path.read_text())
    assert (body["gateway"], body["file"]) == (GATEWAY, str(source.path))


def test_another_file_another_version_and_another_gateway_have_states_of_their_own(
    folder: Path, source: Source, tmp_path: Path
) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(b"0123456789")
    os.utime(other, ns=(source.modified_ns, source.modified_ns))
    others = [Source.of(other), replace(source, size_bytes=11), replace(source, modified_ns=1)]
    with state_file(folder, GATEWAY, source) as store:
        store.save(UploadState(REQUEST))
        for another in others:
            with state_file(folder, GATEWAY, another) as its:
                assert its.load() is None
        with state_file(folder, "https://elsewhere.test", source) as its:
            assert its.load() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"version": 99}', b'{"version": 1}', b"\xff"], ids=repr)
def test_a_state_that_cannot_be_understood_is_none(folder: Path, source: Source, content: bytes) -> None:
    with state_file(folder, GATEWAY, source) as store:
        store.save(UploadState(REQUEST))
        [path] = folder.glob("*.json")
        path.write_bytes(content)
        assert store.load() is None


def test_a_crash_while_it_is_written_leaves_the_former_one(
    monkeypatch: pytest.MonkeyPatch, folder: Path, source: Source
) -> None:
    with state_file(folder, GATEWAY, source) as store:
        store.save(former := UploadState(REQUEST))

        def no_power(_: int) -> None:
            raise OSError(5, "input/output error")

        monkeypatch.setattr(os, "fsync", no_power)
        with pytest.raises(StateUnusable, match="input/output error"):
            store.save(UploadState(REQUEST))
        assert store.load() == former


def test_a_folder_that_cannot_be_made_is_said_so(source: Source) -> None:
    with pytest.raises(StateUnusable, match="not a directory"), state_file(source.path / "state", GATEWAY, source):
        pass


def hold(folder: Path, source: Source, told: Connection) -> None:
    with state_file(folder, GATEWAY, source):
        told.send("held")
        told.recv()


def test_one_process_at_a_time_and_the_next_one_when_it_was_killed(folder: Path, source: Source) -> None:
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=hold, args=(folder, source, theirs))
    other.start()
    assert ours.recv() == "held"
    with pytest.raises(AlreadyUploading, match=r"clip\.mp4: another process"), state_file(folder, GATEWAY, source):
        pass
    other.kill()
    other.join()
    with state_file(folder, GATEWAY, source) as store:
        assert store.load() is None
