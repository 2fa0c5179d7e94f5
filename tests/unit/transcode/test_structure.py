"""Scans and frames are counted as independent decoders count them."""

import io

import pytest
from PIL import Image, ImageSequence

from services.transcode.engine.remote_file import RemoteFile
from services.transcode.engine.structure import gif_frames, jpeg_scans


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


def gif(frames: int) -> bytes:
    pictures = [Image.linear_gradient("L").rotate(number) for number in range(frames)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], comment=b"a" * 600, loop=0)
    return buffer.getvalue()


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_frames_are_counted(frames: int) -> None:
    data = gif(frames)
    assert len(list(ImageSequence.Iterator(Image.open(io.BytesIO(data))))) == frames
    assert gif_frames(file_of(data), 1_000) == frames
    assert gif_frames(file_of(data), 20) == min(frames, 20)


def test_a_gif_that_breaks_off_has_the_frames_that_it_has() -> None:
    data = gif(3)
    for size in range(6, len(data), len(data) // 50):
        assert 0 <= gif_frames(file_of(data[:size]), 10) <= 3
