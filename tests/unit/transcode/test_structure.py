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


def test_a_jpeg_that_breaks_off_has_the_scans_that_it_has() -> None:
    data = jpeg(progressive=True)
    for size in range(2, len(data), len(data) // 50):
        assert 0 <= jpeg_scans(file_of(data[:size])) <= 10
