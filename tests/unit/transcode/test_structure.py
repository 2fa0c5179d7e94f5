"""Scans are counted as independent decoders meet them."""

import io

import pytest
from PIL import Image

from services.transcode.engine.images.structure import jpeg_scans
from services.transcode.engine.reading.remote_file import RemoteFile


def file_of(data: bytes, block_bytes: int = 97) -> RemoteFile:
    """In blocks that are short, so that everything lies across a border once."""
    return RemoteFile(lambda offset, length: data[offset : offset + length], len(data), block_bytes)


def jpeg(*, progressive: bool) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((640, 480), 90).convert("RGB").save(buffer, "JPEG", progressive=progressive, exif=Image.Exif())
    return buffer.getvalue()


@pytest.mark.parametrize(("progressive", "scans"), [(False, 1), (True, 10)])
def test_scans_are_counted(progressive: bool, scans: int) -> None:
    data = jpeg(progressive=progressive)
    assert jpeg_scans(file_of(data)) == scans
    assert jpeg_scans(file_of(data + jpeg(progressive=True))) == scans, "those of the first image alone"


@pytest.mark.parametrize("junk", [b"A", b"\0", b"\xff\0", b"\xff\xff", b"junk" * 2_000, b"\xff\xd0"])
def test_what_a_decoder_passes_over_hides_no_scan(junk: bytes) -> None:
    data = jpeg(progressive=True)
    comment = b"\xff\xfe\0\x04AA"
    for begin in (2, data.index(b"\xff\xda"), data.rindex(b"\xff\xda"), len(data) - 2):
        with_junk = data[:begin] + comment + junk + data[begin:]
        assert jpeg_scans(file_of(with_junk)) == 10
        Image.open(io.BytesIO(with_junk)).load()  # libjpeg reads it as well


def test_a_jpeg_that_breaks_off_has_the_scans_that_it_has() -> None:
    data = jpeg(progressive=True)
    counts = [jpeg_scans(file_of(data[:size])) for size in range(2, len(data), len(data) // 50)]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert set(counts) >= {1, 5, 10}
    assert jpeg_scans(file_of(data[:-2])) == 10
