"""Opens and decodes images: by one decoder, within limits, reduced as early as possible, upright and in sRGB.

Pillow with `draft`: a JPEG is decoded at the smallest of its built-in reductions that suffices, which measured twice as
fast as decoding it whole. HEIC comes through libheif (decoding only), AVIF through libavif. Of an animation, the first
picture is decoded, and no other is looked at.
"""

import io
from collections.abc import Callable
from typing import IO, cast

import pi_heif

# The plugins are imported for their registration: inside the sandbox, nothing can be imported any more.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from services.transcode.engine.images.scaling import fitting, reduced
from services.transcode.engine.images.structure import jpeg_scans
from services.transcode.engine.limits import Limits
from services.transcode.engine.reading.opening import NOT_FOR_VERDICTS, sniff_file
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.source import ContainerFormat, ImageInfo, RejectedSource, RejectionReason

_PILLOW_FORMATS = {
    # Opens MPO as well: cameras append further pictures to what is otherwise a JPEG. The first is taken.
    ContainerFormat.JPEG: ("JPEG",),
    ContainerFormat.PNG: ("PNG",),
    ContainerFormat.WEBP: ("WEBP",),
    ContainerFormat.GIF: ("GIF",),
    ContainerFormat.AVIF: ("AVIF",),
    ContainerFormat.HEIC: ("HEIF",),
}
_SRGB = ImageCms.createProfile("sRGB")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (Exif 2.32, 4.6.4 A)."""

_MAX_SCANNED_PIXELS = 10_000_000_000
"""Scans of a JPEG times its pixels: about ten seconds of decoding. A progressive photo of any camera has a tenth."""

_DECODED_BYTES_A_PIXEL = 20
"""What decoder and copies take at their worst (measured: 18, of a WebP with transparency): a verdict, not a crash."""

# Our own limit, checked on width x height before anything is decoded, takes the place of Pillow's warning.
Image.MAX_IMAGE_PIXELS = None
Image.preinit()
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def inspect_image(file: RemoteFile, container_format: ContainerFormat, limits: Limits) -> ImageInfo:
    """What the image is, by its header alone: what a PNG says behind its pixels, only decoding them brings to light.

    Raises:
        RejectedSource: CORRUPT, TRUNCATED or TOO_LARGE.
    """
    image = _open(file, container_format, limits)
    orientation = _orientation(image, Image.Image.getexif)  # that of PNGs decodes them, to look behind the pixels
    width_px, height_px = image.size
    if orientation >= 5:  # a quarter turn, mirrored or not
        width_px, height_px = height_px, width_px
    return ImageInfo(
        width_px=width_px,
        height_px=height_px,
        orientation=orientation,
        has_alpha=image.has_transparency_data,
        is_animated=_is_animated(image, container_format),
    )


class Picture:
    """An image that was opened, and can be decoded once."""

    def __init__(self, file: RemoteFile, limits: Limits) -> None:
        """Opens it by its header.

        Raises:
            RejectedSource: CORRUPT, TRUNCATED or TOO_LARGE.
        """
        container_format = sniff_file(file)
        self._image = _open(file, container_format, limits)
        if container_format is ContainerFormat.JPEG:
            _check_scans(self._image, file)

    def decode(self, longer_px: int) -> tuple[int, int]:
        """Decodes it, where it can be done at less than its size with its longer side still at least so long.

        Returns:
            Width and height that were decoded, in pixels.

        Raises:
            RejectedSource: CORRUPT or TRUNCATED.
        """
        self._image.draft(None, fitting(self._image.size, longer_px))
        try:
            self._image.load()
        except NOT_FOR_VERDICTS:
            raise
        except Exception as error:
            raise _damaged(error) from error
        return self._image.size

    def shown(self, longer_px: int) -> Image.Image:
        """What was decoded as a viewer sees it: reduced, upright, in sRGB, without metadata; RGB, or RGBA where any
        of it is transparent.
        """
        orientation = _orientation(self._image, type(self._image).getexif)
        # Everything that costs by the pixel comes after the first reduction.
        scaled = _in_srgb(reduced(_scalable(self._image), longer_px), self._image.info.get("icc_profile"))
        if orientation in _UPRIGHT:
            scaled = scaled.transpose(_UPRIGHT[orientation])
        scaled.info.clear()
        return scaled


def _open(file: RemoteFile, container_format: ContainerFormat, limits: Limits) -> Image.Image:
    file.seek(0)
    try:
        image = Image.open(cast(IO[bytes], file), formats=_PILLOW_FORMATS[container_format])
    except NOT_FOR_VERDICTS:
        raise
    except Exception as error:  # plugins leak struct.error, IndexError and more on hostile headers
        raise RejectedSource(
            RejectionReason.CORRUPT, f"the file begins like {container_format} but cannot be read as such"
        ) from error
    most_px = limits.max_image_pixels
    if container_format is not ContainerFormat.JPEG:  # which alone can be decoded at a reduced size
        most_px = min(most_px, limits.address_space_bytes // _DECODED_BYTES_A_PIXEL)
    if image.width * image.height > most_px:
        raise RejectedSource(
            RejectionReason.TOO_LARGE,
            f"the image has {image.width:,} by {image.height:,} pixels; the limit is {most_px:,} in all",
        )
    return image


def _check_scans(image: Image.Image, file: RemoteFile) -> None:
    """Refuses a JPEG of so many scans that decoding it would take as long as decoding that many images."""
    position = file.tell()
    scans = jpeg_scans(file)
    file.seek(position)
    if scans * image.width * image.height > _MAX_SCANNED_PIXELS:
        raise RejectedSource(
            RejectionReason.TOO_LARGE, f"the image has {image.width:,} by {image.height:,} pixels in {scans:,} scans"
        )


def _is_animated(image: Image.Image, container_format: ContainerFormat) -> bool:
    if container_format in (ContainerFormat.JPEG, ContainerFormat.HEIC):
        return False  # MPO and HEIC have further pictures, but those do not move
    try:
        return bool(getattr(image, "is_animated", False))
    except NOT_FOR_VERDICTS:
        raise
    except Exception:
        return False  # what follows the first picture is none of our business


def _orientation(image: Image.Image, exif_of: Callable[[Image.Image], Image.Exif]) -> int:
    try:
        orientation = exif_of(image).get(ExifTags.Base.Orientation, 1)
    except NOT_FOR_VERDICTS:
        raise
    except Exception:
        return 1  # EXIF that cannot be read says nothing
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _scalable(image: Image.Image) -> Image.Image:
    """The image in a mode that can be scaled: no palette, transparency as a channel, 8 bits."""
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion would clip it to white.
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("RGB", "L", "CMYK"):
        return image
    return image.convert("RGB")


def _in_srgb(image: Image.Image, profile: object) -> Image.Image:
    """RGB, or RGBA where anything is transparent."""
    if image.mode != "RGBA":
        return _converted(image, profile)
    alpha = image.getchannel("A")
    rgb = _converted(image.convert("RGB"), profile)
    if alpha.getextrema()[0] != 255:
        rgb.putalpha(alpha)
    return rgb


def _converted(image: Image.Image, profile: object) -> Image.Image:
    if isinstance(profile, bytes):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
        except NOT_FOR_VERDICTS:
            raise
        except Exception:
            return image.convert("RGB")  # a profile that does not fit is ignored, as browsers do
        if converted is not None:
            return converted
    return image.convert("RGB")


def _damaged(error: Exception) -> RejectedSource:
    if "truncated" in str(error).lower():
        return RejectedSource(RejectionReason.TRUNCATED, "the end of the image is missing")
    return RejectedSource(RejectionReason.CORRUPT, "the image cannot be decoded")
