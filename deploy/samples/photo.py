"""Makes a photograph-like JPEG as a phone stores it: lying on its side, with orientation and position in
EXIF.
"""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFilter

NAME = "photo-4000.jpg"
MARK_COLOUR = (220, 20, 20)
MARK_SIDE_PX = 300
"""A red square marks the upper left corner as a viewer sees the picture."""

_UPRIGHT_SIZE_PX = (3000, 4000)
_PROFILE_DATE = slice(24, 36)  # ICC.1:2022, 7.2
_TURNED_RIGHT = 6  # Exif 2.32, 4.6.4 A: to be shown turned clockwise by a quarter


def write_photo(path: Path) -> None:
    """Writes a 4000 x 3000 JPEG that displays as 3000 x 4000."""
    upright = _scene()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = _TURNED_RIGHT
    exif[ExifTags.Base.Make] = "Millrace"
    exif[ExifTags.Base.Model] = "Sample"
    exif[ExifTags.Base.DateTime] = "2024:05:01 12:00:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: (48.0, 51.0, 29.6),
            ExifTags.GPS.GPSLongitudeRef: "E",
            ExifTags.GPS.GPSLongitude: (2.0, 17.0, 40.2),
        }
    )
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_PROFILE_DATE] = bytes(12)  # else the file would differ from one second to the next
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.save(path, "JPEG", quality=90, exif=exif, icc_profile=bytes(profile))


def _scene() -> Image.Image:
    width_px, height_px = _UPRIGHT_SIZE_PX
    rng = np.random.default_rng(3)
    picture = Image.fromarray(_sky_and_ground(width_px, height_px))
    draw = ImageDraw.Draw(picture)
    for _ in range(220):
        x, y = rng.integers(0, width_px), rng.integers(height_px // 2, height_px)
        size = int(rng.integers(20, 60 + (y - height_px // 2) // 5))
        colour = tuple(int(channel) for channel in rng.integers(30, 200, 3))
        box = (int(x), int(y), int(x) + size, int(y) + size)
        (draw.ellipse if rng.random() < 0.6 else draw.rectangle)(box, fill=colour)
    picture = picture.filter(ImageFilter.GaussianBlur(1.2))
    grain = rng.normal(0, 6, (height_px, width_px, 1)).astype(np.float32)
    noisy = np.asarray(picture, np.float32) + grain
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(picture).rectangle((0, 0, MARK_SIDE_PX, MARK_SIDE_PX), fill=MARK_COLOUR)
    return picture


def _sky_and_ground(width_px: int, height_px: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    x, y = np.meshgrid(np.linspace(0, 1, width_px, dtype=np.float32), np.linspace(0, 1, height_px, dtype=np.float32))
    sky = np.stack([120 + 90 * y + 20 * x, 160 + 60 * y, 225 - 40 * y + 10 * x], axis=-1)
    ripple = 12 * np.sin(y * 160 + 5 * np.sin(x * 9))
    ground = np.stack([90 + 60 * x + ripple, 120 - 30 * y + ripple, 60 + 30 * x * y], axis=-1)
    return np.where((y > 0.5 + 0.05 * np.sin(x * 7))[..., None], ground, sky).clip(0, 255).astype(np.uint8)
