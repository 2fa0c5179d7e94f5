"""Generated images that nothing here encodes by itself: HEIC by x265 in boxes of our own, ICC profiles, metadata."""

import io
import struct
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import ExifTags, Image, ImageCms

SECRETS = (b"SecretCamera", b"SecretRemark", b"SecretCaption", b"SecretPlace", b"SecretThumbnail")


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    """Orientation, camera, place."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = "SecretCamera"
    tags[ExifTags.Base.ImageDescription] = "SecretCaption"
    place = tags.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "N"
    place[ExifTags.GPS.GPSLatitude] = (48.0, 51.0, 29.6)
    place[ExifTags.GPS.GPSAreaInformation] = b"ASCII\0\0\0SecretPlace"
    return tags


XMP = (
    b"<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x='adobe:ns:meta/'>SecretCaption</x:xmpmeta>"
    b"<?xpacket end='w'?>"
)


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with_everything(image: Image.Image) -> bytes:
    """With EXIF and its thumbnail, XMP, IPTC, a colour profile and a comment."""
    thumbnail = saved(image.resize((32, 24)), comment=b"SecretThumbnail")
    tiff = exif().tobytes()[6:]
    with_thumbnail = b"Exif\0\0" + tiff + thumbnail
    iptc = b"\x1c\x02\x78" + struct.pack(">H", 13) + b"SecretCaption"
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    plain = saved(image, comment=b"SecretRemark", icc_profile=display_p3())
    return (
        plain[:2]
        + jpeg_segment(0xE1, with_thumbnail)
        + jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
        + jpeg_segment(0xED, b"Photoshop 3.0\0" + resource)
        + plain[2:]
        + b"SecretRemark behind the end"
    )


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_primaries(*columns: tuple[float, float, float]) -> bytes:
    """sRGB's profile with other primaries: XYZ of red, green and blue, adapted to D50."""
    profile = bytearray(srgb())
    for number in range(struct.unpack_from(">I", profile, 128)[0]):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
            xyz = columns[b"rgb".index(name[:1])]
            struct.pack_into(">3i", profile, offset + 8, *(round(value * 65_536) for value in xyz))
    return bytes(profile)


P3_COLUMNS = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB_COLUMNS = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def display_p3() -> bytes:
    return with_primaries(*P3_COLUMNS)


def cmyk_profile(lab_of_cyan: tuple[int, int, int]) -> bytes:
    """A press whose full cyan looks as stated, whose paper is white, and whose other inks are black."""
    paper, black = (100, 0, 0), (0, 0, 0)
    grid = bytearray()
    for corner in range(16):  # the first ink varies slowest
        lightness, a, b = paper if corner == 0 else lab_of_cyan if corner == 8 else black
        grid += bytes([round(lightness * 2.55), a + 128, b + 128])
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65_536 if number % 4 == 0 else 0 for number in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(grid) + ramp * 3
    table += bytes(-len(table) % 4)
    description = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags = {b"desc": description, b"A2B0": table, b"wtpt": b"XYZ " + bytes(4) + _D50}
    directory, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        directory += struct.pack(">4sII", name, 128 + 4 + 12 * len(tags) + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    size = 128 + len(directory) + len(bodies)
    header = struct.pack(">I4sI4s4s4s12s4s", size, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ", bytes(12), b"acsp")
    return header.ljust(68, b"\0") + _D50 + bytes(48) + directory + bodies


_D50 = struct.pack(">3i", 63_190, 65_536, 54_061)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full(kind: bytes, version: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">B3x", version), *parts)


def heic(
    image: Image.Image, *, transforms: Sequence[bytes] = (), exif: bytes = b"", claimed: tuple[int, int] | None = None
) -> bytes:
    """A still of one HEVC picture (ISO/IEC 23008-12), with even sides.

    Args:
        image: RGB.
        transforms: `irot` and `imir` boxes, in the order of their effect.
        exif: TIFF bytes, as an item of its own.
        claimed: width and height that are claimed, where they are not the picture's.
    """
    configuration, sample = _hevc(image)
    properties = [
        _box(b"hvcC", configuration),
        _full(b"ispe", 0, struct.pack(">II", *(claimed or image.size))),
        _box(b"colr", b"nclx", struct.pack(">HHHB", 1, 13, 6, 0)),
        *transforms,
    ]
    items = [(1, b"hvc1", sample)] + ([(2, b"Exif", struct.pack(">I", 0) + exif)] if exif else [])
    infos = b"".join(_full(b"infe", 2, struct.pack(">HH4s", number, 0, kind), b"\0") for number, kind, _ in items)
    references = _full(b"iref", 0, _box(b"cdsc", struct.pack(">HHH", 2, 1, 1))) if exif else b""
    associations = b"".join(struct.pack(">B", 0x80 | number) for number in range(1, len(properties) + 1))
    ftyp = _box(b"ftyp", b"heic", bytes(4), b"mif1", b"heic")

    def meta(first_offset: int) -> bytes:
        places, offset = b"", first_offset
        for number, _, data in items:
            places += struct.pack(">HHHII", number, 0, 1, offset, len(data))
            offset += len(data)
        return _full(
            b"meta",
            0,
            _full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            _full(b"pitm", 0, struct.pack(">H", 1)),
            _full(b"iloc", 0, b"\x44\x00", struct.pack(">H", len(items)), places),
            _full(b"iinf", 0, struct.pack(">H", len(items)), infos),
            references,
            _box(
                b"iprp",
                _box(b"ipco", *properties),
                _full(b"ipma", 0, struct.pack(">IHB", 1, 1, len(properties)), associations),
            ),
        )

    head = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(head) + _box(b"mdat", *(data for _, _, data in items))


def rotated(quarters: int) -> bytes:
    """Anticlockwise."""
    return _box(b"irot", bytes([quarters]))


def mirrored(axis: int) -> bytes:
    """1 has left and right change places, 0 top and bottom."""
    return _box(b"imir", bytes([axis]))


def _hevc(image: Image.Image) -> tuple[bytes, bytes]:
    """The decoder's configuration and one picture."""
    data = hevc_film(image)
    return _body(data, b"hvcC"), _body(data, b"mdat")


def hevc_film(image: Image.Image) -> bytes:
    """An MP4 of one picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx265", rate=Fraction(25))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = image.width, image.height, "yuv420p"
        stream.options = {"x265-params": "log-level=none:keyint=1:crf=10", "preset": "ultrafast"}
        stream.codec_context.codec_tag = "hvc1"
        for packet in [
            *stream.encode(VideoFrame.from_ndarray(np.asarray(image), format="rgb24")),
            *stream.encode(None),
        ]:
            container.mux(packet)
    return buffer.getvalue()


def _body(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind)
    return data[at + 4 : at - 4 + struct.unpack_from(">I", data, at - 4)[0]]
