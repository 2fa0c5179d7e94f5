"""ThumbHash: some 20 bytes that show what a picture will look like until it has come.

The format is Evan Wallace's (https://evanw.github.io/thumbhash/): averages and a few cosine coefficients of lightness,
two differences of colour and, if there is any, transparency, each of them half a byte. It also says the picture's
proportions. Written here rather than taken from a package: it is a page of code, and the packages there are have had
one release each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE_PX = 100
"""Of the picture that is hashed; the format knows no finer detail."""


@dataclass(frozen=True, slots=True)
class _Channel:
    """One plane in the frequency domain: its average, the largest other coefficient, all others over that."""

    average: float
    scale: float
    others: tuple[float, ...]


def thumbhash(picture: Image.Image) -> bytes:
    """Of an upright picture in sRGB, RGB or RGBA, both sides at most `LONGEST_SIDE_PX`."""
    width_px, height_px = picture.size
    rgba = np.asarray(picture.convert("RGBA"), np.float64) / 255
    alpha = rgba[:, :, 3]
    has_alpha = bool(alpha.min() < 1)
    red, green, blue = np.moveaxis(_on_average(rgba[:, :, :3], alpha), 2, 0)

    finest = 5 if has_alpha else 7  # transparency takes its place from the lightness
    across = max(1, _rounded(finest * width_px / max(picture.size)))
    down = max(1, _rounded(finest * height_px / max(picture.size)))
    lightness = _channel((red + green + blue) / 3, max(3, across), max(3, down))
    yellow_blue = _channel((red + green) / 2 - blue, 3, 3)
    red_green = _channel(red - green, 3, 3)
    is_landscape = width_px > height_px

    head = (
        _rounded(63 * lightness.average)
        | _rounded(31.5 + 31.5 * yellow_blue.average) << 6
        | _rounded(31.5 + 31.5 * red_green.average) << 12
        | _rounded(31 * lightness.scale) << 18
        | has_alpha << 23
        | (down if is_landscape else across) << 24
        | _rounded(63 * yellow_blue.scale) << 27
        | _rounded(63 * red_green.scale) << 33
        | is_landscape << 39
    ).to_bytes(5, "little")
    channels = [lightness, yellow_blue, red_green]
    if has_alpha:
        opacity = _channel(alpha, 5, 5)
        head += bytes([_rounded(15 * opacity.average) | _rounded(15 * opacity.scale) << 4])
        channels.append(opacity)
    return head + _packed([_rounded(15 * value) for channel in channels for value in channel.others])


def _on_average(colours: NDArray[np.float64], alpha: NDArray[np.float64]) -> NDArray[np.float64]:
    """The picture laid on the average colour of what can be seen of it."""
    seen = colours * alpha[:, :, None]
    total = alpha.sum()
    average = seen.sum((0, 1)) / total if total else np.zeros(3)
    on_average: NDArray[np.float64] = seen + average * (1 - alpha[:, :, None])
    return on_average


def _channel(plane: NDArray[np.float64], across: int, down: int) -> _Channel:
    height_px, width_px = plane.shape
    # Without the dust of sums that should be zero, which would decide what a flat picture's hash looks like.
    coefficients = np.round(_waves(down, height_px) @ plane @ _waves(across, width_px).T / plane.size, 9)
    others = [float(coefficients[at]) for at in _triangle(across, down)]
    scale = max(abs(value) for value in others)
    return _Channel(
        float(coefficients[0, 0]), scale, tuple(0.5 + 0.5 * value / scale if scale else 0.0 for value in others)
    )


def _waves(count: int, length_px: int) -> NDArray[np.float64]:
    """Cosines of so many frequencies, from none on, at the middles of so many pixels."""
    waves: NDArray[np.float64] = np.cos(np.pi * np.outer(np.arange(count), np.arange(length_px) + 0.5) / length_px)
    return waves


def _triangle(across: int, down: int) -> Iterator[tuple[int, int]]:
    """The coefficients that are kept, (down, across), row by row: the coarse half, but for the average."""
    for row in range(down):
        for column in range(row == 0, -(-across * (down - row) // down)):  # rounded up
            yield row, column


def _packed(halves: list[int]) -> bytes:
    """Half bytes in pairs, the low one first."""
    halves = halves + [0] * (len(halves) % 2)
    return bytes(low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True))


def _rounded(value: float) -> int:
    # Halves go up, as in the format's own encoder.
    return floor(value + 0.5)
