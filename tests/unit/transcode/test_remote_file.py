import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcode.engine.reading.remote_file import RemoteFile

DATA = bytes(range(256)) * 5


def remote(block_bytes: int, log: list[tuple[int, int]] | None = None) -> RemoteFile:
    def read_range(offset: int, length: int) -> bytes:
        if log is not None:
            log.append((offset, length))
        return DATA[offset : offset + length]

    return RemoteFile(read_range, len(DATA), block_bytes)


steps = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 700)),
    st.tuples(st.just("seek"), st.integers(0, len(DATA) + 50)),
    st.tuples(st.just("end"), st.integers(-len(DATA), 10)),
)


@given(st.integers(1, 600), st.lists(steps, max_size=30))
def test_it_reads_like_a_file_across_blocks(block: int, walk: list[tuple[str, int]]) -> None:
    file, truth = remote(block), io.BytesIO(DATA)
    for what, number in walk:
        if what == "read":
            # Pillow takes fewer for the end of the file, and libav has no room for more.
            assert file.read(number) == truth.read(number)
        else:
            whence = os.SEEK_SET if what == "seek" else os.SEEK_END
            assert file.seek(number, whence) == truth.seek(number, whence)
        assert file.tell() == truth.tell()


def test_blocks_are_whole_and_fetched_once() -> None:
    log: list[tuple[int, int]] = []
    file = remote(500, log)
    assert file.read(-1) == DATA
    file.seek(0)
    assert file.read(10) == DATA[:10]
    assert log == [(0, 500), (500, 500), (1000, 280)]
    assert file.bytes_fetched == len(DATA)


def test_it_serves_a_buffered_reader() -> None:
    assert io.BufferedReader(remote(100), 64).read() == DATA


@pytest.mark.parametrize(("offset", "whence"), [(-1, os.SEEK_SET), (-2000, os.SEEK_END), (0, 9)])
def test_impossible_seeks_raise(offset: int, whence: int) -> None:
    with pytest.raises(ValueError, match="cannot seek"):
        remote(100).seek(offset, whence)
