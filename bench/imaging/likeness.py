"""How like a scaled picture is to what it should look like: SSIM of the luma.

The reference is the whole photo, decoded in full and resized to the picture's very size in one step by Pillow's
Lanczos (three lobes, widened by the reduction), on the values as stored: in gamma light, where all contenders scale
too. It was never compressed again.
"""

from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_Plane: TypeAlias = NDArray[np.float64]

_WINDOW_PX, _SIGMA_PX = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(picture: Path, photo: Path) -> float:
    """Of the picture against the photo at its size; 1 where they are the same.

    As Wang et al. define it (Image Quality Assessment, 2004, section III B): Gaussian windows of 11 by 11 pixels with
    a standard deviation of 1.5, here only those that lie within the picture; the mean over all of them.
    """
    with Image.open(picture) as image:
        size = image.size
        one = _luma(image)
    return _ssim(one, _reference(photo, size))


@cache
def _reference(photo: Path, size: tuple[int, int]) -> _Plane:
    return _luma(_whole(photo).resize(size, Image.Resampling.LANCZOS))


@cache
def _whole(photo: Path) -> Image.Image:
    with Image.open(photo) as image:
        image.load()
        return image


def _luma(image: Image.Image) -> _Plane:
    return np.asarray(image.convert("L"), np.float64)


def _ssim(one: _Plane, other: _Plane) -> float:
    mean_one, mean_other = _blurred(one), _blurred(other)
    variance_one = _blurred(one * one) - mean_one**2
    variance_other = _blurred(other * other) - mean_other**2
    covariance = _blurred(one * other) - mean_one * mean_other
    lightness = (2 * mean_one * mean_other + _C1) / (mean_one**2 + mean_other**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_one + variance_other + _C2)
    return float(np.mean(lightness * structure))


def _blurred(plane: _Plane) -> _Plane:
    """Gaussian means, only where the whole window is within: smaller by ten each way."""
    distances = np.arange(_WINDOW_PX) - _WINDOW_PX // 2
    weights = np.exp(-(distances**2) / (2 * _SIGMA_PX**2))
    windows = np.lib.stride_tricks.sliding_window_view
    for axis in (0, 1):
        plane = windows(plane, _WINDOW_PX, axis=axis) @ (weights / weights.sum())
    return plane
