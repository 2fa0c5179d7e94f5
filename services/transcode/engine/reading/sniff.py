"""Decides what a file is from its first bytes, before any library opens it.

An allowlist: what is not recognised is refused, and the format found here is the only one that a library is
then allowed to use. Text formats that point elsewhere (playlists, concat scripts, SDP, SVG, HTML) are named
in the refusal because people do upload them; none of them ever reaches a parser.
"""

from services.transcode.engine.limits import Limits
from services.transcode.source import ContainerFormat, MediaKind, RejectedSource, RejectionReason

HEAD_BYTES = 4096
"""How much of a file `sniff` wants to see."""

_TS_PACKETS = ((188, 0), (192, 4), (204, 0))
"""How long packets of a transport stream are and where their sync byte stands: as broadcast, behind the time code that
camcorders and discs put before each (M2TS), before parity.
"""
_TS_SYNC = 0x47

_ISO_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"})
"""QuickTime files older than `ftyp` begin with any of the others."""

_ISO_STILL_BRANDS = {
    # ISO/IEC 23008-12 annex B (HEVC, single pictures and sequences) and the AVIF specification.
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), ContainerFormat.HEIC),
    **dict.fromkeys((b"avif", b"avis"), ContainerFormat.AVIF),
}
_ISO_ANY_STILL_BRANDS = frozenset({b"mif1", b"mif2", b"mif3", b"miaf", b"msf1"})
"""Say that it is a still; which one, the compatible brands do."""

_RIFF_KINDS = {b"AVI ": ContainerFormat.AVI, b"WEBP": ContainerFormat.WEBP}

_MAGIC = (
    (b"\xff\xd8\xff", ContainerFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n", ContainerFormat.PNG),
    (b"GIF87a", ContainerFormat.GIF),
    (b"GIF89a", ContainerFormat.GIF),
    (b"\x1aE\xdf\xa3", ContainerFormat.MATROSKA),
)

_REFUSED = (
    (b"#extm3u", "an HLS playlist"),
    (b"<mpd", "a DASH manifest"),
    (b"ffconcat", "a concat script"),
    (b"v=0", "an SDP description"),
    (b"<svg", "an SVG drawing"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
    (b"[playlist]", "a playlist"),
    (b"%pdf", "a PDF document"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"pk\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"rar!", "a RAR archive"),
    (b"ii*\x00", "a TIFF image"),
    (b"mm\x00*", "a TIFF image"),
    (b"ii+\x00", "a TIFF image"),
    (b"mm\x00+", "a TIFF image"),
    (b"bm", "a BMP image"),
    (b"\x00\x00\x00\x0cjxl ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjp  ", "a JPEG 2000 image"),
    (b"8bps", "a Photoshop document"),
    (b"id3", "an MP3 file"),
    (b"flac", "a FLAC file"),
    (b"oggs", "an Ogg file"),
    (b"flv\x01", "an FLV file"),
    (b"0&\xb2u\x8ef\xcf\x11", "a Windows Media file"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
)


def sniff(head: bytes) -> ContainerFormat:
    """The format of the file that begins with `head`.

    Args:
        head: the first `HEAD_BYTES` bytes, or the whole file where that is shorter.

    Raises:
        RejectedSource: EMPTY, UNSUPPORTED_FORMAT (recognised, but not taken) or NOT_MEDIA.
    """
    if not head:
        raise RejectedSource(RejectionReason.EMPTY, "the file is empty")
    for magic, container in _MAGIC:
        if head.startswith(magic):
            return container
    if head.startswith(b"RIFF"):
        return _riff(head)
    if len(head) >= 12 and head[4:8] in _ISO_FIRST_BOXES:
        return _iso(head)
    if _is_transport_stream(head):
        return ContainerFormat.MPEG_TS
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in start:
        raise RejectedSource(RejectionReason.UNSUPPORTED_FORMAT, "the file is an SVG drawing")
    for magic, name in _REFUSED:
        if start.startswith(magic):
            raise RejectedSource(RejectionReason.UNSUPPORTED_FORMAT, f"the file is {name}")
    raise RejectedSource(RejectionReason.NOT_MEDIA, "the file is neither a video nor an image that we know")


def check_file_size(container_format: ContainerFormat, size_bytes: int, limits: Limits) -> None:
    """Refuses a file that is larger than one of its kind may be, whatever its upload was announced as.

    Raises:
        RejectedSource: FILE_TOO_LARGE.
    """
    is_image = container_format.kind is MediaKind.IMAGE
    what, limit_bytes = ("an image", limits.max_image_bytes) if is_image else ("a video", limits.max_video_bytes)
    if size_bytes > limit_bytes:
        raise RejectedSource(
            RejectionReason.FILE_TOO_LARGE,
            f"the file is {what} of {size_bytes:,} bytes; the limit is {limit_bytes:,}",
        )


def _riff(head: bytes) -> ContainerFormat:
    kind = _RIFF_KINDS.get(head[8:12])
    if kind is None:
        raise RejectedSource(RejectionReason.UNSUPPORTED_FORMAT, "the file is a RIFF file, but neither AVI nor WebP")
    return kind


def _iso(head: bytes) -> ContainerFormat:
    """By its main brand, a still or a video: what else it claims to be compatible with never makes a video a still."""
    if head[4:8] != b"ftyp":
        return ContainerFormat.MP4
    brand = head[8:12]
    if (still := _ISO_STILL_BRANDS.get(brand)) is not None:
        return still
    if brand in _ISO_ANY_STILL_BRANDS:
        end = int.from_bytes(head[:4])
        for at in range(16, min(end, len(head)) - 3, 4):
            if (still := _ISO_STILL_BRANDS.get(head[at : at + 4])) is not None:
                return still
        raise RejectedSource(RejectionReason.UNSUPPORTED_FORMAT, "the file is a HEIF image, but neither HEIC nor AVIF")
    if brand == b"crx ":
        raise RejectedSource(RejectionReason.UNSUPPORTED_FORMAT, "the file is a camera's raw image")
    return ContainerFormat.MP4


def _is_transport_stream(head: bytes) -> bool:
    # Three sync bytes a packet apart, or the whole of a shorter file's; a lone "G" is just text.
    return any(
        len(head) >= 2 * length and all(byte == _TS_SYNC for byte in head[offset : 3 * length : length])
        for length, offset in _TS_PACKETS
    )
