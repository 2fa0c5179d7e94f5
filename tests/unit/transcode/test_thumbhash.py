"""ThumbHash against hashes that another encoder made, and against a decoder of our own."""

import math

import numpy as np
import pytest
from PIL import Image

from services.transcode.engine.images.thumbhash import LONGEST_SIDE_PX, thumbhash
from services.transcode.engine.outcome import THUMBHASH_MAX_BYTES, ImagesOutcome, outcome_from_json, outcome_to_json


def squares(width_px: int, height_px: int, *, transparent: bool) -> Image.Image:
    """24 squares of random colours."""
    pixels = np.random.default_rng(11).integers(0, 256, (4, 6, 4)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((width_px, height_px), Image.Resampling.NEAREST)).copy()
    if not transparent:
        pixels[:, :, 3] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("size", "transparent", "expected"),
    [
        # As thumbhash-rs 0.1.0 makes them of the same pixels.
        ((96, 64), False, "6437062d86783c8646a795445c505b887607f89593"),
        ((64, 96), True, "e23682130616950547428c670afba855580a7e08339588"),
    ],
)
def test_it_is_what_another_encoder_makes(size: tuple[int, int], transparent: bool, expected: str) -> None:
    picture = squares(*size, transparent=transparent)
    assert thumbhash(picture).hex() == expected
    if not transparent:
        assert thumbhash(picture.convert("RGB")).hex() == expected


def shown(hashed: bytes, x: float, y: float) -> tuple[float, float, float]:
    """The colour at a place, 0 to 1 across and down, of a hash without transparency."""
    head = int.from_bytes(hashed[:5], "little")
    assert not head >> 23 & 1
    count, is_landscape = head >> 24 & 7, head >> 39
    across, down = (7, count) if is_landscape else (count, 7)
    halves = iter([half for byte in hashed[5:] for half in (byte & 15, byte >> 4)])

    def channel(average: float, scale: float, across: int, down: int) -> float:
        total = average
        for row in range(down):
            for column in range(across):
                if (row or column) and column * down < across * (down - row):
                    wave = math.cos(math.pi * column * x) * math.cos(math.pi * row * y)
                    total += 2 * wave * (next(halves) / 7.5 - 1) * scale
        return total

    lightness = channel((head & 63) / 63, (head >> 18 & 31) / 31, max(3, across), max(3, down))
    yellow_blue = channel((head >> 6 & 63) / 31.5 - 1, (head >> 27 & 63) / 63, 3, 3)
    red_green = channel((head >> 12 & 63) / 31.5 - 1, (head >> 33 & 63) / 63, 3, 3)
    blue = lightness - yellow_blue * 2 / 3
    red = (3 * lightness - blue + red_green) / 2
    return red, red - red_green, blue


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (100, 100), (100, 12)])
def test_its_colours_lie_where_the_picture_has_them(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    across, down = columns / (size[0] - 1), rows / (size[1] - 1)
    pixels = np.stack([60 + 140 * across, 200 - 140 * down, 90 + 0 * across], 2).astype(np.uint8)
    hashed = thumbhash(Image.fromarray(pixels))
    for x, y in ((0.15, 0.2), (0.85, 0.2), (0.15, 0.8), (0.85, 0.8), (0.5, 0.5)):
        wanted = pixels[int(y * (size[1] - 1)), int(x * (size[0] - 1))]
        assert np.abs(np.asarray(shown(hashed, x, y)) * 255 - wanted).max() < 40


@pytest.mark.parametrize("size", [(100, 100), (100, 1), (1, 100), (1, 1), (7, 5)])
@pytest.mark.parametrize("transparent", [False, True])
def test_no_picture_has_a_longer_one_than_may_be(size: tuple[int, int], transparent: bool) -> None:
    assert max(size) <= LONGEST_SIDE_PX
    picture = Image.new("RGBA", size, (10, 200, 30, 100 if transparent else 255))
    assert 5 < len(thumbhash(picture)) <= THUMBHASH_MAX_BYTES


def test_what_cannot_be_seen_at_all_has_one_too() -> None:
    assert thumbhash(Image.new("RGBA", (50, 50), (1, 2, 3, 0)))[2] & 0x80


@pytest.mark.parametrize("claimed", ["not base64", "A" * 40, "\n"])
def test_a_child_cannot_pass_off_something_else(claimed: str) -> None:
    answer = {**outcome_to_json(ImagesOutcome(())), "thumbhash": claimed}
    with pytest.raises(ValueError, match="ImagesOutcome"):
        outcome_from_json(answer)
