"""Images through real children: orientation, colour, privacy, sizes, and what is refused."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from services.transcode.engine.outcome import Stage
from services.transcode.engine.run import probe
from services.transcode.source import ImageInfo, MediaKind, RejectedSource, RejectionReason
from services.transcode.specs import ImageSpec
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource, Result

SPEC = ImageSpec(label="image", sizes_px=(1200, 600, 150), cost=1)
RED, GREY = (220, 20, 20), (90, 110, 130)


def marked(width_px: int, height_px: int) -> Image.Image:
    """A grey picture with a red upper left corner."""
    image = Image.new("RGB", (width_px, height_px), GREY)
    image.paste(RED, (0, 0, width_px // 5, height_px // 5))
    return image


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


async def rendition(data: bytes, size_px: int = 600) -> Image.Image:
    result = await sources.run(SPEC, data)
    return shelved(result, size_px)


def shelved(result: Result, size_px: int) -> Image.Image:
    return Image.open(io.BytesIO(result.shelf.artifacts[f"{size_px}.jpg"].data))


def near(pixel: float | tuple[int, ...] | None, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(np.asarray(pixel, int) - np.asarray(colour)).max() <= tolerance)


UPRIGHT_TO_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", UPRIGHT_TO_STORED)
async def test_every_exif_orientation_comes_out_upright_and_without_metadata(orientation: int) -> None:
    upright = marked(1600, 1000)
    transpose = UPRIGHT_TO_STORED[orientation]
    stored = upright if transpose is None else upright.transpose(transpose)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "SecretCamera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 51.0, 29.6)
    data = saved(stored, exif=exif, comment=b"private remark")
    source = await probe(BytesSource(data), LIMITS)
    assert source.image == ImageInfo(1600, 1000, orientation, has_alpha=False, is_animated=False)
    result = await sources.run(SPEC, data)
    for size_px, height_px in ((1200, 750), (600, 375), (150, 94)):
        image = shelved(result, size_px)
        assert image.size == (size_px, height_px)
        assert near(image.getpixel((5, 5)), RED)
        assert all(near(image.getpixel(at), GREY) for at in [(size_px - 5, 5), (5, height_px - 5)])
        assert not image.getexif()
        assert not {"exif", "comment", "icc_profile", "xmp"} & set(image.info)
        for secret in (b"SecretCamera", b"private remark", b"GPS"):
            assert secret not in result.shelf.artifacts[f"{size_px}.jpg"].data


async def test_renditions_are_baseline_jpeg_as_described() -> None:
    result = await sources.run(SPEC, saved(marked(2000, 1500)))
    for outcome in result.images.images:
        artifact = result.shelf.artifacts[outcome.name]
        assert artifact.content_type == outcome.content_type == "image/jpeg"
        assert len(artifact.data) == outcome.size_bytes
        image = shelved(result, outcome.size_px)
        assert image.size == (outcome.width_px, outcome.height_px)
        assert max(image.size) == outcome.size_px
        assert not image.info.get("progressive")


async def test_small_images_keep_their_size() -> None:
    result = await sources.run(SPEC, saved(marked(400, 300), "PNG"))
    assert [(i.size_px, i.width_px) for i in result.images.images] == [(1200, 400), (600, 400), (150, 150)]


async def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (800, 600), (0, 0, 0, 0))
    image.paste((220, 20, 20, 255), (0, 0, 200, 200))
    for kind in ("PNG", "WEBP"):
        out = await rendition(saved(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert near(out.getpixel((10, 10)), RED)
        assert near(out.getpixel((500, 400)), (255, 255, 255))


async def test_a_palette_with_a_transparent_entry_is_laid_on_white() -> None:
    image = Image.new("P", (300, 200), 0)
    image.putpalette([0, 0, 0, *RED] + [0] * 750)
    image.paste(1, (0, 0, 50, 50))
    out = await rendition(saved(image, "PNG", transparency=0))
    assert near(out.getpixel((10, 10)), RED)
    assert near(out.getpixel((200, 150)), (255, 255, 255))


async def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (200, 100), colour) for colour in (RED, GREY, (0, 0, 0))]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    source = await probe(BytesSource(data), LIMITS)
    assert source.image is not None
    assert source.image.is_animated
    assert near((await rendition(data)).getpixel((50, 50)), RED, 20)


async def test_sixteen_bit_grey_keeps_its_tones() -> None:
    ramp = np.linspace(0, 65_535, 256, dtype=np.uint16)[None, :].repeat(64, 0)
    out = await rendition(saved(Image.fromarray(ramp), "PNG"))
    middle = out.convert("L").getpixel((128, 32))
    assert isinstance(middle, int)
    assert middle == pytest.approx(128, abs=4)


async def test_cmyk_becomes_rgb() -> None:
    out = await rendition(saved(Image.new("CMYK", (300, 200), (0, 255, 255, 0))))
    assert out.mode == "RGB"
    assert near(out.getpixel((10, 10)), (254, 0, 0), 6)


async def test_colours_are_brought_to_srgb() -> None:
    # sRGB's profile with its red and green primaries exchanged: what it calls red is green.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = profile.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")
    red = Image.new("RGB", (300, 200), (250, 0, 0))
    out = await rendition(saved(red, icc_profile=exchanged))
    assert near(out.getpixel((10, 10)), (0, 250, 0), 6)
    assert "icc_profile" not in out.info
    assert near((await rendition(saved(red))).getpixel((10, 10)), (250, 0, 0), 6)


async def test_a_broken_profile_is_ignored() -> None:
    out = await rendition(saved(Image.new("RGB", (300, 200), (120, 120, 120)), icc_profile=b"nonsense" * 40))
    assert near(out.getpixel((10, 10)), (120, 120, 120), 2)


async def refusal(data: bytes) -> RejectedSource:
    """How the image is refused: by the probe or, with its header intact, by the task."""

    async def both() -> None:
        await probe(BytesSource(data), LIMITS)
        await sources.run(SPEC, data)

    with pytest.raises(RejectedSource) as rejection:
        await both()
    return rejection.value


def png_claiming(width_px: int, height_px: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def test_bombs_are_refused_by_their_header() -> None:
    rejection = await refusal(png_claiming(65_535, 65_535))
    assert rejection.reason is RejectionReason.TOO_LARGE
    assert "65,535" in rejection.message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
async def test_half_an_image_is_refused(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8)
    data = saved(Image.fromarray(noise), kind)
    rejection = await refusal(data[: len(data) // 2])
    assert rejection.reason in (RejectionReason.TRUNCATED, RejectionReason.CORRUPT)


@pytest.mark.parametrize("head", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x00\x10\x00\x00WEBP"])
async def test_a_head_with_nothing_behind_it_is_refused(head: bytes) -> None:
    assert (await refusal(head + bytes(range(256)) * 8)).reason is RejectionReason.CORRUPT


async def test_the_pixel_limit_is_a_setting() -> None:
    data = saved(marked(200, 100))
    with pytest.raises(RejectedSource) as rejection:
        await probe(BytesSource(data), replace(LIMITS, max_image_pixels=19_999))
    assert rejection.value.reason is RejectionReason.TOO_LARGE


async def test_a_file_too_large_for_an_image_is_refused_by_its_first_bytes() -> None:
    data = saved(marked(200, 100))
    source, stages = BytesSource(data), list[Stage]()
    with pytest.raises(RejectedSource) as rejection:
        await probe(source, replace(LIMITS, max_image_bytes=len(data) - 1, max_image_pixels=1), on_stage=stages.append)
    assert rejection.value.reason is RejectionReason.FILE_TOO_LARGE
    assert [stage.name for stage in stages] == ["child start", "sniff"], "more than the first bytes was looked at"
    assert (await probe(source, replace(LIMITS, max_image_bytes=len(data)))).kind is MediaKind.IMAGE
