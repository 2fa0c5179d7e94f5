"""Writes stills: each size from the next larger one, in every format that is asked for, and their placeholder.

WebP and AVIF keep transparency; JPEG knows none and gets white behind it, which is what nearly every page has. Numbers
were measured on 1200 px of footage and of the benchmark's photo (ADR 0017).
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import AvifImagePlugin, Image, JpegImagePlugin, WebPImagePlugin  # noqa: F401

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.images.scaling import reduced
from services.transcode.engine.images.thumbhash import LONGEST_SIDE_PX, thumbhash
from services.transcode.engine.outcome import ImageOutcome, ImagesOutcome
from services.transcode.formats import ImageFormat

JPEG_QUALITY = 82
"""Where artefacts stop being visible on photographs at these sizes; each point more costs about 3 % of
bytes.
"""

_OPTIONS: Mapping[ImageFormat, Mapping[str, Any]] = {
    # Not progressive: that saves 5 to 8 % of the bytes for a quarter of a whole image's time. Who counts bytes takes
    # WebP.
    ImageFormat.JPEG: {"quality": JPEG_QUALITY, "optimize": True},
    # Method 2 takes 10 to 20 % of the bytes of method 0 for a third more time; method 4 another 5 % for twice the time.
    ImageFormat.WEBP: {"quality": 80, "method": 2},
    # Speed 9 writes what speed 8 does in a quarter of the time. One thread: children fill the cores.
    ImageFormat.AVIF: {"quality": 65, "speed": 9, "max_threads": 1},
}

_WHITE = (255, 255, 255)


def encode_sizes(
    image: Image.Image, sizes_px: Sequence[int], formats: Sequence[ImageFormat], reporter: Reporter
) -> ImagesOutcome:
    """Encodes an upright image in sRGB, RGB or RGBA, in every size and format."""
    outcomes: list[ImageOutcome] = []
    with stage(reporter, "encode"):
        for number, size_px in enumerate(sorted(sizes_px, reverse=True), start=1):
            image = reduced(image, size_px)
            outcomes += [_written(image, size_px, one, reporter) for one in ImageFormat if one in formats]
            reporter.progress(number / len(sizes_px))
        placeholder = thumbhash(reduced(image, LONGEST_SIDE_PX))
    return ImagesOutcome(tuple(outcomes), base64.b64encode(placeholder).decode())


def _written(image: Image.Image, size_px: int, image_format: ImageFormat, reporter: Reporter) -> ImageOutcome:
    buffer = io.BytesIO()
    picture = _opaque(image) if image_format is ImageFormat.JPEG else image
    picture.save(buffer, image_format.name, **_OPTIONS[image_format])
    data = buffer.getvalue()
    name = f"{size_px}{image_format.suffix}"
    reporter.artifact(name, image_format.content_type, data)
    return ImageOutcome(name, size_px, image.width, image.height, len(data), image_format.content_type)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.composite(image.convert("RGB"), Image.new("RGB", image.size, _WHITE), image.getchannel("A"))
