"""Images as people have them, through real children: kinds, colours, transparency, privacy, formats, bombs."""

import base64
import io
import struct
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from services.transcode.engine.images.decoding import Picture, inspect_image
from services.transcode.engine.images.thumbhash import thumbhash
from services.transcode.engine.limits import Limits
from services.transcode.engine.reading.opening import sniff_file
from services.transcode.engine.reading.remote_file import BLOCK_BYTES, RemoteFile
from services.transcode.engine.run import probe
from services.transcode.formats import ImageFormat
from services.transcode.source import ContainerFormat, MediaKind, RejectedSource, RejectionReason
from services.transcode.specs import ImageSpec
from tests.unit.transcode import sources, stills
from tests.unit.transcode.sources import LIMITS, BytesSource, Result
from tests.unit.transcode.stills import saved

ALL = tuple(ImageFormat)
SPEC = ImageSpec(label="image", sizes_px=(160, 80), cost=1, formats=ALL)

RED, BLUE, WHITE, BLACK = (210, 30, 30), (30, 60, 200), (255, 255, 255), (0, 0, 0)
CLEAR = None
"""Nothing is seen there."""

WIDTH_PX, HEIGHT_PX = 320, 200


def halves(left: tuple[int, int, int] = RED, right: tuple[int, int, int] = BLUE) -> Image.Image:
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), right)
    image.paste(left, (0, 0, WIDTH_PX // 2, HEIGHT_PX))
    return image


def half_clear(mode: str = "RGBA") -> Image.Image:
    image = halves().convert(mode)
    image.putalpha(Image.new("L", image.size, 255))
    image.paste(0, (WIDTH_PX // 2, 0, WIDTH_PX, HEIGHT_PX))
    return image


def half_clear_palette() -> Image.Image:
    image = Image.new("P", (WIDTH_PX, HEIGHT_PX), 0)
    image.putpalette([*BLUE, *RED])
    image.paste(1, (0, 0, WIDTH_PX // 2, HEIGHT_PX))
    return image


_SIXTEEN_BITS: Mapping[str, Sequence[tuple[int, ...]]] = {
    "L": [(64,), (192,)],
    "LA": [(64, 255), (192, 0)],
    "RGB": [RED, BLUE],
}


def sixteen_bits(mode: str) -> bytes:
    """A PNG with 16 bits a channel, which Pillow does not write: grey "L", "LA" or "RGB"; dark, then bright."""
    values = _SIXTEEN_BITS[mode]
    wide = [b"".join(struct.pack(">H", value * 257) for value in pixel) for pixel in values]
    row = b"\0" + wide[0] * (WIDTH_PX // 2) + wide[1] * (WIDTH_PX // 2)
    kind = {"L": 0, "LA": 4, "RGB": 2}[mode]
    return png_of(struct.pack(">IIBBBBB", WIDTH_PX, HEIGHT_PX, 16, kind, 0, 0, 0), row * HEIGHT_PX)


def png_of(header: bytes, rows: bytes) -> bytes:
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def animated(kind: str) -> bytes:
    others = [halves(BLACK, BLACK), halves(WHITE, WHITE)]
    return saved(halves(), kind, save_all=True, append_images=others, duration=100)


@dataclass(frozen=True)
class Kind:
    """An image, and the colours of its left and right half as a viewer should see them."""

    data: Callable[[], bytes]
    left: tuple[int, int, int] | None = RED
    right: tuple[int, int, int] | None = BLUE
    tolerance: int = 14
    is_animated: bool = False


KINDS = {
    "JPEG": Kind(lambda: saved(halves(), quality=95)),
    "progressive JPEG": Kind(lambda: saved(halves(), progressive=True)),
    "grey JPEG": Kind(lambda: saved(halves((64, 64, 64), (192, 192, 192)).convert("L")), (64, 64, 64), (192, 192, 192)),
    "CMYK JPEG as Adobe writes it": Kind(
        lambda: saved(Image.new("CMYK", (WIDTH_PX, HEIGHT_PX), (0, 255, 255, 0))), (254, 0, 0), (254, 0, 0)
    ),
    "CMYK JPEG with a profile": Kind(
        # Full cyan, which this press makes red.
        lambda: saved(
            Image.new("CMYK", (WIDTH_PX, HEIGHT_PX), (255, 0, 0, 0)), icc_profile=stills.cmyk_profile((54, 80, 70))
        ),
        (253, 7, 0),
        (253, 7, 0),
    ),
    "PNG": Kind(lambda: saved(halves(), "PNG")),
    "interlaced PNG": Kind(lambda: saved(halves(), "PNG", interlace=1)),
    "1-bit PNG": Kind(lambda: saved(halves(WHITE, BLACK).convert("1"), "PNG"), WHITE, BLACK),
    "16-bit grey PNG": Kind(lambda: sixteen_bits("L"), (64, 64, 64), (192, 192, 192)),
    "16-bit RGB PNG": Kind(lambda: sixteen_bits("RGB")),
    "16-bit grey PNG, half clear": Kind(lambda: sixteen_bits("LA"), (64, 64, 64), CLEAR),
    "palette PNG": Kind(lambda: saved(half_clear_palette(), "PNG")),
    "palette PNG, half clear": Kind(lambda: saved(half_clear_palette(), "PNG", transparency=0), RED, CLEAR),
    "RGB PNG with a clear colour": Kind(lambda: saved(halves(), "PNG", transparency=BLUE), RED, CLEAR),
    "RGBA PNG": Kind(lambda: saved(half_clear(), "PNG"), RED, CLEAR),
    "grey PNG with transparency": Kind(lambda: saved(half_clear("LA"), "PNG"), (84, 84, 84), CLEAR),
    "RGBA PNG that hides nothing": Kind(lambda: saved(halves().convert("RGBA"), "PNG")),
    "WebP": Kind(lambda: saved(halves(), "WEBP", quality=95)),
    "lossless WebP, half clear": Kind(lambda: saved(half_clear(), "WEBP", lossless=True), RED, CLEAR),
    "AVIF": Kind(lambda: saved(halves(), "AVIF", quality=90)),
    "AVIF, half clear": Kind(lambda: saved(half_clear(), "AVIF", quality=90), RED, CLEAR),
    "HEIC": Kind(lambda: stills.heic(halves())),
    "GIF": Kind(lambda: saved(halves(), "GIF"), tolerance=24),
    "GIF, half clear": Kind(lambda: saved(half_clear_palette(), "GIF", transparency=0), RED, CLEAR),
    "animated GIF": Kind(lambda: animated("GIF"), tolerance=24, is_animated=True),
    "animated WebP": Kind(lambda: animated("WEBP"), is_animated=True),
    "animated PNG": Kind(lambda: animated("PNG"), is_animated=True),
    "animated AVIF": Kind(lambda: animated("AVIF"), is_animated=True),
}


def shelved(result: Result, size_px: int, image_format: ImageFormat) -> Image.Image:
    image = Image.open(io.BytesIO(result.shelf.artifacts[f"{size_px}{image_format.suffix}"].data))
    image.load()
    return image


def seen(image: Image.Image, at: tuple[int, int]) -> NDArray[np.int64]:
    return np.asarray(image.convert("RGBA").getpixel(at), np.int64)


@pytest.mark.parametrize("name", KINDS)
async def test_every_kind_is_shown_as_it_is_meant_in_every_format(name: str) -> None:
    kind = KINDS[name]
    data = kind.data()
    source = await probe(BytesSource(data), LIMITS)
    assert source.image is not None
    assert (source.image.width_px, source.image.height_px) == (WIDTH_PX, HEIGHT_PX)
    assert source.image.is_animated is kind.is_animated
    result = await sources.run(SPEC, data)
    for image_format in ALL:
        image = shelved(result, 160, image_format)
        assert image.format == image_format.name
        assert image.size == (160, 100)
        assert getattr(image, "n_frames", 1) == 1
        for at, colour in (((30, 50), kind.left), ((130, 50), kind.right)):
            pixel = seen(image, at)
            if colour is CLEAR and image_format is not ImageFormat.JPEG:
                assert pixel[3] == 0
            else:
                assert pixel[3] == 255
                assert np.abs(pixel[:3] - (colour or WHITE)).max() <= kind.tolerance, (image_format, pixel)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_read_in_small_blocks_too(name: str) -> None:
    kind = KINDS[name]
    data = kind.data()

    def file(block_bytes: int) -> RemoteFile:
        return RemoteFile(lambda offset, length: data[offset : offset + length], len(data), block_bytes)

    info = inspect_image(file(97), sniff_file(file(97)), LIMITS)
    assert info == inspect_image(file(BLOCK_BYTES), sniff_file(file(BLOCK_BYTES)), LIMITS)
    assert info.is_animated is kind.is_animated
    assert decoded(file(97)) == decoded(file(BLOCK_BYTES))


def decoded(file: RemoteFile) -> bytes:
    picture = Picture(file, LIMITS)
    picture.decode(160)
    return picture.shown(160).tobytes()


async def test_an_image_may_be_larger_than_a_block() -> None:
    image = Image.effect_noise((1400, 1400), 90).convert("RGB")
    for data in (saved(image, "PNG", compress_level=0), with_segments(saved(image))):
        assert len(data) > BLOCK_BYTES
        source = await probe(BytesSource(data), LIMITS)
        assert source.image is not None
        assert (source.image.width_px, source.image.height_px) == (1400, 1400)
        assert set((await sources.run(SPEC, data)).shelf.artifacts) == {
            f"{size_px}{one.suffix}" for size_px in SPEC.sizes_px for one in ALL
        }


def with_segments(jpeg: bytes) -> bytes:
    """More ahead of its frame than a block holds, as thumbnails and depth maps of cameras are."""
    segment = b"\xff\xef" + struct.pack(">H", 0xFFFF) + bytes(0xFFFD)
    return jpeg[:2] + segment * (BLOCK_BYTES // len(segment) + 1) + jpeg[2:]


async def test_half_transparent_pixels_stay_so_and_keep_their_colour() -> None:
    image = Image.new("RGBA", (WIDTH_PX, HEIGHT_PX), (*RED, 128))
    result = await sources.run(SPEC, saved(image, "PNG"))
    for image_format in (ImageFormat.WEBP, ImageFormat.AVIF):
        pixel = seen(shelved(result, 80, image_format), (40, 25))
        assert np.abs(pixel - (*RED, 128)).max() <= 14
    on_white = [round(value * 128 / 255 + 127) for value in RED]
    assert np.abs(seen(shelved(result, 80, ImageFormat.JPEG), (40, 25))[:3] - on_white).max() <= 10


async def test_files_are_listed_by_size_and_format_and_read_by_an_independent_decoder() -> None:
    result = await sources.run(SPEC, saved(halves()))
    assert [image.name for image in result.images.images] == [
        "160.jpg", "160.webp", "160.avif", "80.jpg", "80.webp", "80.avif",
    ]  # fmt: skip
    for image in result.images.images:
        artifact = result.shelf.artifacts[image.name]
        assert artifact.content_type == image.content_type
        assert len(artifact.data) == image.size_bytes
        with av.open(io.BytesIO(artifact.data), "r") as container:
            stream = container.streams[0]
            assert isinstance(stream, VideoStream)
            pixels = next(container.decode(stream)).to_ndarray(format="rgb24").astype(int)
        assert pixels.shape == (image.height_px, image.width_px, 3)
        assert np.abs(pixels[image.height_px // 2, 10] - RED).max() <= 16, image.name
        assert np.abs(pixels[image.height_px // 2, -10] - BLUE).max() <= 16, image.name


async def test_only_what_is_asked_for_is_made() -> None:
    result = await sources.run(replace(SPEC, formats=(ImageFormat.AVIF, ImageFormat.JPEG)), saved(halves()))
    assert set(result.shelf.artifacts) == {"160.jpg", "160.avif", "80.jpg", "80.avif"}


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
HEIC_TRANSFORMS = {
    1: (),
    2: (stills.mirrored(1),),
    3: (stills.rotated(2),),
    4: (stills.mirrored(0),),
    5: (stills.rotated(3), stills.mirrored(1)),
    6: (stills.rotated(3),),
    7: (stills.rotated(1), stills.mirrored(1)),
    8: (stills.rotated(1),),
}


@pytest.mark.parametrize("orientation", UPRIGHT_TO_STORED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "HEIC"])
async def test_every_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    upright = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), BLUE)
    upright.paste(RED, (0, 0, WIDTH_PX // 4, HEIGHT_PX // 4))
    transpose = UPRIGHT_TO_STORED[orientation]
    stored = upright if transpose is None else upright.transpose(transpose)
    if kind == "HEIC":
        # The boxes decide; the EXIF in a HEIC only repeats what they do.
        data = stills.heic(stored, transforms=HEIC_TRANSFORMS[orientation], exif=stills.exif(orientation).tobytes()[6:])
    else:
        data = saved(stored, kind, exif=stills.exif(orientation))
    source = await probe(BytesSource(data), LIMITS)
    assert source.image is not None
    assert (source.image.width_px, source.image.height_px) == (WIDTH_PX, HEIGHT_PX)
    image = shelved(await sources.run(SPEC, data), 160, ImageFormat.JPEG)
    assert image.size == (160, 100)
    assert np.abs(seen(image, (10, 10))[:3] - RED).max() <= 16
    assert all(np.abs(seen(image, at)[:3] - BLUE).max() <= 16 for at in ((150, 10), (10, 90), (150, 90)))


async def test_a_probe_decodes_no_png_to_look_behind_its_pixels() -> None:
    image = Image.new("RGB", (2400, 1200), BLUE)
    image.paste(RED, (0, 0, 600, 300))
    data = saved(image.transpose(Image.Transpose.ROTATE_90), "PNG", compress_level=0)
    assert len(data) > 2 * BLOCK_BYTES
    end = data.rindex(b"IEND") - 4
    late_exif = data[:end] + png_chunk(b"eXIf", stills.exif(6).tobytes()[6:]) + data[end:]
    source = BytesSource(late_exif)
    found = await probe(source, LIMITS)
    assert found.image is not None
    assert (found.image.width_px, found.image.height_px) == (1200, 2400), "as it is stored"
    assert sum(length for _, length in source.reads) == BLOCK_BYTES
    shown = shelved(await sources.run(SPEC, late_exif), 160, ImageFormat.JPEG)
    assert shown.size == (160, 80)
    assert np.abs(seen(shown, (10, 10))[:3] - RED).max() <= 16


def png_with_everything() -> bytes:
    info = PngInfo()
    info.add_text("Comment", "SecretRemark")
    info.add_text("Description", "SecretCaption", zip=False)
    info.add_itxt("XML:com.adobe.xmp", stills.XMP.decode())
    return saved(halves(), "PNG", pnginfo=info, exif=stills.exif(), icc_profile=stills.display_p3(), dpi=(300, 300))


PRIVATE: Mapping[str, Callable[[], bytes]] = {
    "JPEG": lambda: stills.jpeg_with_everything(halves()),
    "PNG": png_with_everything,
    "WebP": lambda: saved(half_clear(), "WEBP", exif=stills.exif(), xmp=stills.XMP, icc_profile=stills.display_p3()),
    "AVIF": lambda: saved(half_clear(), "AVIF", exif=stills.exif(), xmp=stills.XMP, icc_profile=stills.display_p3()),
    "GIF": lambda: saved(halves(), "GIF", comment=b"SecretRemark"),
    "HEIC": lambda: stills.heic(halves(), exif=stills.exif().tobytes()[6:]),
}
TRACES = (
    *stills.SECRETS, b"Secret", b"Exif", b"EXIF", b"GPS", b"adobe", b"xpacket", b"XMP ", b"8BIM", b"Photoshop",
    b"ICC_PROFILE", b"ICCP", b"iCCP", b"acsp", b"tEXt", b"eXIf",
)  # fmt: skip


@pytest.mark.parametrize("kind", PRIVATE)
async def test_nothing_private_is_left_in_any_byte(kind: str) -> None:
    data = PRIVATE[kind]()
    assert any(secret in data for secret in stills.SECRETS)
    result = await sources.run(SPEC, data)
    assert len(result.shelf.artifacts) == 6
    for name, artifact in result.shelf.artifacts.items():
        assert [trace for trace in TRACES if trace in artifact.data] == [], name
        image = Image.open(io.BytesIO(artifact.data))
        assert not image.getexif()
        assert not {"exif", "comment", "icc_profile", "xmp", "photoshop", "dpi"} & set(image.info) - {"dpi"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
async def test_a_wide_gamut_is_brought_to_srgb(kind: str) -> None:
    stored = (180, 110, 100)
    linear = np.asarray([(value / 255 + 0.055) ** 2.4 / 1.055**2.4 for value in stored])
    xyz = np.asarray(stills.P3_COLUMNS).T @ linear
    wanted = np.linalg.solve(np.asarray(stills.SRGB_COLUMNS).T, xyz)
    expected = np.round(255 * (1.055 * wanted ** (1 / 2.4) - 0.055))
    assert np.abs(expected - stored).max() > 8, "a test that ignores the profile would pass"
    options = {"quality": 95} if kind != "PNG" else {}
    data = saved(Image.new("RGB", (64, 64), stored), kind, icc_profile=stills.display_p3(), **options)
    pixel = seen(shelved(await sources.run(SPEC, data), 80, ImageFormat.JPEG), (30, 30))
    assert np.abs(pixel[:3] - expected).max() <= 3


async def test_a_placeholder_comes_with_the_pictures() -> None:
    result = await sources.run(SPEC, saved(halves(), "PNG"))
    shown = base64.b64decode(result.images.thumbhash)
    assert shown == thumbhash(halves().resize((80, 50)))
    half = base64.b64decode((await sources.run(SPEC, saved(half_clear(), "PNG"))).images.thumbhash)
    assert half[2] & 0x80, "says that it is transparent"


async def rejection(data: bytes, limits: Limits = LIMITS) -> RejectedSource:
    with pytest.raises(RejectedSource) as caught:  # noqa: PT012
        await probe(BytesSource(data), limits)
        await sources.run(SPEC, data, limits)
    return caught.value


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
async def test_broken_stills_of_the_iso_family_are_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (200, 320, 3), np.uint8))
    data = stills.heic(noise) if kind == "HEIC" else saved(noise, "AVIF")
    for hurt in (data[: len(data) // 2], data[:40], data[:-100], data[:16] + bytes(len(data) - 16)):
        assert (await rejection(hurt)).reason in (RejectionReason.CORRUPT, RejectionReason.TRUNCATED)


async def test_the_pixel_limit_holds_for_stills_of_the_iso_family() -> None:
    claiming = stills.heic(halves(), claimed=(60_000, 60_000))
    assert (await rejection(claiming)).reason is RejectionReason.TOO_LARGE
    small = replace(LIMITS, max_image_pixels=WIDTH_PX * HEIGHT_PX - 1)
    for data in (stills.heic(halves()), saved(halves(), "AVIF")):
        assert (await rejection(data, small)).reason is RejectionReason.TOO_LARGE
    # Nor does it help to claim less than there is.
    assert (await rejection(stills.heic(halves(), claimed=(32, 20)), small)).reason is RejectionReason.CORRUPT


async def test_what_is_appended_to_a_picture_as_phones_append_films_is_no_part_of_it() -> None:
    data = saved(halves(), progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    usual = await sources.run(SPEC, data)
    assert len(usual.images.images) == 6
    assert (await sources.run(SPEC, data + scan * 60)).images.images == usual.images.images


async def test_a_gif_of_countless_frames_is_looked_at_no_further_than_its_second() -> None:
    frame = b"\x21\xf9\x04\x04\x01\x00\x00\x00" + b"\x2c" + bytes(4) + b"\x01\x00\x01\x00\x00" + b"\x02\x02\x44\x01\x00"
    data = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xd2\x1e\x1e\x00\x00\x00" + frame * 500_000 + b"\x3b"
    source = BytesSource(data)
    began_s = time.monotonic()
    found = await probe(source, replace(LIMITS, wall_clock_s=10))
    assert found.image is not None
    assert found.image.is_animated
    result = await sources.run(SPEC, data, replace(LIMITS, wall_clock_s=10))
    assert len(result.images.images) == 6
    assert time.monotonic() - began_s < 10
    assert sum(length for _, length in source.reads) < len(data) / 2


async def test_a_heic_is_an_image_and_a_video_of_the_same_codec_is_none() -> None:
    found = await probe(BytesSource(stills.heic(halves())), LIMITS)
    assert (found.kind, found.container) == (MediaKind.IMAGE, ContainerFormat.HEIC)
    video = stills.hevc_film(halves())
    named = video[:16] + video[16:].replace(b"iso2", b"heic", 1)
    assert b"heic" in named[:40]
    found = await probe(BytesSource(named), LIMITS)
    assert (found.kind, found.container) == (MediaKind.VIDEO, ContainerFormat.MP4)
