"""The photo: 12 megapixels as a phone writes them, made from a seed once and kept in `bench/out/images`.

Its content is a picture of "dead leaves": discs of all sizes, each hiding what lies behind it. Where the number of
discs falls with the cube of the radius, edges, flat parts and texture occur at all scales as they do in photographs
(Lee, Mumford, Huang: Occlusion Models for Natural Images, 2001); for the same reason cameras are tested with it
(ISO/TS 19567-2). Over it lies a texture whose amplitude falls with frequency, then the blur of a lens, then the noise
of a sensor. It carries neither EXIF nor a colour profile: what reading those costs is nobody's gain here.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from bench.report import OUT

WIDTH_PX, HEIGHT_PX = 4032, 3024
"""What phones with 12 megapixels write."""

QUALITY = 90
"""Of the JPEG, with colour at half the resolution (4:2:0). It comes to about two bits a pixel, as phones write."""

_RECIPE = 1
"""Counted up with every change here: what a former recipe made is no longer taken for it."""

_SEED = 20_010_126
_DISCS = 40_000
"""Enough to hide the ground almost everywhere."""
_SMALLEST_PX, _LARGEST_PX = 6.0, 900.0
"""Radii."""
_TEXTURE = 7.0
"""Standard deviation, of 255."""
_LENS_PX = 0.7
"""Standard deviation of the blur."""
_NOISE = 4.0
"""Standard deviation, of 255."""

_Pixels: TypeAlias = NDArray[np.float32]


def made() -> Path:
    """The photo's file, made now unless it is there already."""
    path = OUT / "images" / f"photo-{_RECIPE}.jpg"
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        _picture(np.random.default_rng(_SEED)).save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(buffer.getvalue())
        unfinished.rename(path)
    return path


def _picture(generator: np.random.Generator) -> Image.Image:
    leaves = np.asarray(_leaves(generator), np.float32)
    textured = leaves + _TEXTURE * _texture(generator)[..., np.newaxis]
    # The blur works on whole numbers, and it is all that comes between the two roundings.
    seen = _rounded(textured).filter(ImageFilter.GaussianBlur(_LENS_PX))
    noise = generator.standard_normal((HEIGHT_PX, WIDTH_PX, 3), np.float32)
    return _rounded(np.asarray(seen, np.float32) + _NOISE * noise)


def _leaves(generator: np.random.Generator) -> Image.Image:
    """Discs from the back to the front."""
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (96, 104, 88))
    draw = ImageDraw.Draw(image)
    for left_px, top_px, radius_px, colour in _discs(generator):
        draw.ellipse((left_px, top_px, left_px + 2 * radius_px, top_px + 2 * radius_px), fill=colour)
    return image


def _discs(generator: np.random.Generator) -> Iterator[tuple[float, float, float, tuple[int, int, int]]]:
    """Left, top and radius of each, in pixels, and its colour: of one lightness, each channel a little off it."""
    # The inverse of the distribution function of a density that falls with the cube of the radius.
    shares = generator.random(_DISCS)
    radii = 1 / np.sqrt(_SMALLEST_PX**-2 - shares * (_SMALLEST_PX**-2 - _LARGEST_PX**-2))
    centres = generator.random((_DISCS, 2)) * (WIDTH_PX, HEIGHT_PX)
    lightness = generator.normal(118, 34, (_DISCS, 1))
    colours = np.clip(lightness + generator.normal(0, 11, (_DISCS, 3)), 0, 255).astype(int)
    for (x_px, y_px), radius_px, (red, green, blue) in zip(
        centres.tolist(), radii.tolist(), colours.tolist(), strict=True
    ):
        yield x_px - radius_px, y_px - radius_px, radius_px, (red, green, blue)


def _texture(generator: np.random.Generator) -> _Pixels:
    """Noise with an amplitude that falls with frequency; mean 0, standard deviation 1."""
    spectrum = np.fft.rfft2(generator.standard_normal((HEIGHT_PX, WIDTH_PX), np.float32))
    down = np.fft.fftfreq(HEIGHT_PX)[:, np.newaxis]
    across = np.fft.rfftfreq(WIDTH_PX)[np.newaxis, :]
    frequency = np.maximum(np.hypot(down, across), 1 / WIDTH_PX)
    field = np.fft.irfft2(spectrum / frequency, (HEIGHT_PX, WIDTH_PX))
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _rounded(pixels: _Pixels) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
