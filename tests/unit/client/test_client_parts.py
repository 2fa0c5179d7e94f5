import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import FileUnusable
from millrace.parts import PIECE_BYTES, PartBody, PartRange, Source, content_type_of, cut
from services.upload.parts import choose_layout


@given(size=st.integers(1, 10**12), part_size=st.integers(5 << 20, 1 << 30))
def test_a_file_is_cut_as_the_service_expects(size: int, part_size: int) -> None:
    layout = choose_layout(size, part_size)
    ranges = cut(size, layout.part_size_bytes)
    assert len(ranges) == layout.part_count
    for part in {ranges[0], ranges[-1]}:
        assert part.size_bytes == layout.size_of(part.part_number) > 0
    assert ranges[-1].offset_bytes + ranges[-1].size_bytes == size


@given(size=st.integers(1, 500), part_size=st.integers(1, 100))
def test_parts_touch_and_cover(size: int, part_size: int) -> None:
    at = 0
    for number, part in enumerate(cut(size, part_size), start=1):
        assert (part.part_number, part.offset_bytes) == (number, at)
        at += part.size_bytes
    assert at == size


async def test_reads_exactly_the_part_in_small_pieces(tmp_path: Path) -> None:
    content = os.urandom(3 * PIECE_BYTES + 7)
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    source = Source.of(path)
    for part in cut(len(content), 2 * PIECE_BYTES + 3):
        body = PartBody(source, part)
        pieces = [piece async for piece in body]
        assert body.sent_bytes == part.size_bytes
        assert max(map(len, pieces)) <= PIECE_BYTES
        assert b"".join(pieces) == content[part.offset_bytes : part.offset_bytes + part.size_bytes]


@pytest.mark.parametrize(
    "change", [lambda path: path.write_bytes(b"other length"), lambda path: os.utime(path, (1, 1))]
)
async def test_a_file_that_changed_is_not_read(tmp_path: Path, change: "object") -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"0123456789")
    source = Source.of(path)
    assert callable(change)
    change(path)
    with pytest.raises(FileUnusable, match="changed"):
        await anext(aiter(PartBody(source, PartRange(1, 0, 10))))


async def test_a_file_that_vanished_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"0123456789")
    source = Source.of(path)
    path.unlink()
    with pytest.raises(FileUnusable, match="no such file"):
        await anext(aiter(PartBody(source, PartRange(1, 0, 10))))


async def test_a_file_cut_short_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(2 * PIECE_BYTES))
    pieces = aiter(PartBody(Source.of(path), PartRange(1, 0, 2 * PIECE_BYTES)))
    await anext(pieces)
    os.truncate(path, PIECE_BYTES)
    with pytest.raises(FileUnusable, match="cut short"):
        await anext(pieces)


def test_what_is_no_file_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    for name, word in {"missing.mp4": "no such file", "empty.mp4": "empty", ".": "directory"}.items():
        with pytest.raises(FileUnusable, match=word):
            Source.of(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.mp4", "video/mp4"), ("A.JPG", "image/jpeg"), ("b.mov", "video/quicktime"), ("c.webp", "image/webp"),
     ("d.heic", "image/heic"), ("e.mkv", "video/x-matroska"), ("f.png", "image/png")],
)  # fmt: skip
def test_the_name_tells_the_content_type(name: str, expected: str) -> None:
    assert content_type_of(Path(name)) == expected


@pytest.mark.parametrize("name", ["notes.txt", "clip", "sound.mp3", "x.unknown"])
def test_a_name_that_tells_no_picture_is_refused(name: str) -> None:
    with pytest.raises(FileUnusable, match="content type"):
        content_type_of(Path(name))
