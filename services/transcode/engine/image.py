"""Scales images: upright, in sRGB, without any metadata, as progressive JPEG.

Pillow with `draft`: a JPEG is decoded at the smallest of its built-in reductions that suffices, which
measured twice as fast as decoding it whole. Transparent images are laid on white: one format for all
viewers, and what nearly every page puts behind them anyway.
"""

import io
from typing import IO, cast

# The plugins are imported for their registration: inside the sandbox, nothing can be imported any more.
from PIL import (  # noqa: F401
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.limits import Limits
from services.transcode.engine.opening import NOT_FOR_VERDICTS, sniff_file
from services.transcode.engine.outcome import ImageOutcome, ImagesOutcome
from services.transcode.engine.remote_file import RemoteFile
from services.transcode.engine.structure import gif_frames, jpeg_scans
from services.transcode.plan import ImageSpec
from services.transcode.source import ContainerFormat, ImageInfo, RejectedSource, RejectionReason

JPEG_QUALITY = 82
"""Where artefacts stop being visible on photographs at these sizes; each point more costs about 3 % of
bytes.
"""

CONTENT_TYPE = "image/jpeg"

_MAX_SCANNED_PIXELS = 10_000_000_000
"""Scans of a JPEG times its pixels: about ten seconds of decoding. A progressive photo of any camera has a tenth."""

_DECODED_BYTES_A_PIXEL = 20
"""What decoder and copies take at their worst (measured: 18, of a WebP with transparency): a verdict, not a crash."""

_MAX_FRAMES_COUNTED = 10_000
"""Of an animation; that there are more is all that anybody wants to know."""

_PILLOW_FORMATS = {
    # Opens MPO as well: cameras append further pictures to what is otherwise a JPEG. The first is taken.
    ContainerFormat.JPEG: ("JPEG",),
    ContainerFormat.PNG: ("PNG",),
    ContainerFormat.WEBP: ("WEBP",),
    ContainerFormat.GIF: ("GIF",),
}
_SRGB = ImageCms.createProfile("sRGB")
_WHITE = (255, 255, 255)

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

# Our own limit, checked on width x height before anything is decoded, takes the place of Pillow's warning.
Image.MAX_IMAGE_PIXELS = None
Image.preinit()


def inspect_image(file: RemoteFile, container_format: ContainerFormat, limits: Limits) -> ImageInfo:
    """What the image is, by its header alone.

    Raises:
        RejectedSource: CORRUPT, TRUNCATED or TOO_LARGE.
    """
    image = _open(file, container_format, limits)
    orientation = _orientation(image)
    width_px, height_px = image.size
    if orientation >= 5:  # a quarter turn, mirrored or not
        width_px, height_px = height_px, width_px
    return ImageInfo(
        width_px=width_px,
        height_px=height_px,
        orientation=orientation,
        has_alpha=image.has_transparency_data,
        frame_count=_frame_count(image, file, container_format),
    )


def encode_image(spec: ImageSpec, file: RemoteFile, limits: Limits, reporter: Reporter) -> ImagesOutcome:
    """Makes the renditions that `spec` asks for. Of an animation, the first frame.

    Raises:
        RejectedSource: CORRUPT, TRUNCATED or TOO_LARGE.
    """
    with stage(reporter, "open"):
        container_format = sniff_file(file)
        image = _open(file, container_format, limits)
        if container_format is ContainerFormat.JPEG:
            _check_scans(image, file)
    with stage(reporter, "decode") as attributes:
        largest_px = max(spec.sizes_px)
        orientation = _orientation(image)
        image.draft(None, (largest_px, largest_px))
        try:
            image.load()
        except NOT_FOR_VERDICTS:
            raise
        except Exception as error:
            raise _damaged(error) from error
        attributes.update(width_px=image.width, height_px=image.height, bytes_read=file.bytes_fetched)
    with stage(reporter, "scale"):
        # Everything that costs by the pixel comes after the first reduction.
        scaled = _plain(_fitted(_scalable(image), largest_px), image.info.get("icc_profile"))
        if orientation in _UPRIGHT:
            scaled = scaled.transpose(_UPRIGHT[orientation])
    return encode_sizes(scaled, spec.sizes_px, reporter)


def encode_sizes(image: Image.Image, sizes_px: tuple[int, ...], reporter: Reporter) -> ImagesOutcome:
    """Encodes an upright RGB image in every size, each scaled from the next larger one."""
    outcomes = []
    with stage(reporter, "encode"):
        for number, size_px in enumerate(sorted(sizes_px, reverse=True), start=1):
            image = _fitted(image, size_px)
            data = _jpeg(image)
            outcome = ImageOutcome(f"{size_px}.jpg", size_px, image.width, image.height, len(data), CONTENT_TYPE)
            reporter.artifact(outcome.name, CONTENT_TYPE, data)
            reporter.progress(number / len(sizes_px))
            outcomes.append(outcome)
    return ImagesOutcome(tuple(outcomes))


def _open(file: RemoteFile, container_format: ContainerFormat, limits: Limits) -> Image.Image:
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
    position = file.tell()
    scans = jpeg_scans(file)
    file.seek(position)
    if scans * image.width * image.height > _MAX_SCANNED_PIXELS:
        raise RejectedSource(
            RejectionReason.TOO_LARGE, f"the image has {image.width:,} by {image.height:,} pixels in {scans:,} scans"
        )


def _frame_count(image: Image.Image, file: RemoteFile, container_format: ContainerFormat) -> int:
    match container_format:
        case ContainerFormat.JPEG:
            return 1
        case ContainerFormat.GIF:
            # Pillow finds frames by reading each: without an end, and it raises where the last one is damaged.
            return max(1, gif_frames(file, _MAX_FRAMES_COUNTED))
        case _:
            return int(getattr(image, "n_frames", 1))


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
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


def _plain(image: Image.Image, profile: object) -> Image.Image:
    """The image in sRGB, opaque on white, without metadata."""
    if image.mode == "RGBA":
        alpha = image.getchannel("A")
        rgb = _in_srgb(image.convert("RGB"), profile)
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, _WHITE), alpha)
    else:
        rgb = _in_srgb(image, profile)
    rgb.info.clear()
    return rgb


def _in_srgb(image: Image.Image, profile: object) -> Image.Image:
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


def _fitted(image: Image.Image, size_px: int) -> Image.Image:
    """The image with its longer side at most `size_px`; never larger than it was.

    Wide filters are for large reductions. For small ones a narrower one costs up to 0.004 of SSIM and saves a quarter
    of the time of a whole image (measured: 12 megapixels in three sizes).
    """
    longer_px = max(image.size)
    if longer_px <= size_px:
        return image
    width_px, height_px = (max(1, round(side * size_px / longer_px)) for side in image.size)
    if (2 * width_px, 2 * height_px) == image.size:
        return image.reduce(2)
    if longer_px < 2 * size_px:
        return image.resize((width_px, height_px), Image.Resampling.BICUBIC)
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, progressive=True, optimize=True)
    return buffer.getvalue()


def _damaged(error: Exception) -> RejectedSource:
    if "truncated" in str(error).lower():
        return RejectedSource(RejectionReason.TRUNCATED, "the end of the image is missing")
    return RejectedSource(RejectionReason.CORRUPT, "the image cannot be decoded")
