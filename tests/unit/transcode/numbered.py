"""Clips whose frames show their numbers, so that what came out tells which ones went where."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tests.unit.transcode import sources

BITS = 12


def numbered(number: int, picture: NDArray[np.uint8]) -> None:
    """Writes a frame's number as light and dark blocks that survive any encoder."""
    picture[:] = 40
    width = picture.shape[1] // BITS
    for bit in range(BITS):
        if number >> bit & 1:
            picture[:, bit * width : (bit + 1) * width] = 220


def number_of(picture: NDArray[np.uint8]) -> int:
    width = picture.shape[1] // BITS
    return sum(1 << bit for bit in range(BITS) if picture[20:76, bit * width + 4 : (bit + 1) * width - 4].mean() > 128)


def numbered_clip(
    times: list[Fraction],
    rate: Fraction,
    container: str = "mp4",
    *,
    codec: str = "libx264",
    gop_frames: int = 30,
    options: dict[str, str] | None = None,
    x264: str = "",
) -> bytes:
    """A clip of 192 x 96 whose every frame shows its number."""
    return sources.clip(
        times,
        rate=rate,
        size_px=(192, 96),
        container=container,
        codec=codec,
        paint=numbered,
        gop_frames=gop_frames,
        options=options,
        x264=x264,
    )
