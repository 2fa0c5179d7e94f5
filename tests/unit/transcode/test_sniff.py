import struct

import pytest

from services.transcode.engine.limits import Limits
from services.transcode.engine.reading.sniff import check_file_size, sniff
from services.transcode.source import ContainerFormat, MediaKind, RejectedSource, RejectionReason

ACCEPTED = {
    "mp4": (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", ContainerFormat.MP4),
    "mov": (b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00", ContainerFormat.MP4),
    "old QuickTime": (b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat", ContainerFormat.MP4),
    "matroska": (b"\x1aE\xdf\xa3\x01\x00\x00\x00", ContainerFormat.MATROSKA),
    "transport stream": ((b"G" + bytes(187)) * 4, ContainerFormat.MPEG_TS),
    "avi": (b"RIFF\x00\x00\x00\x00AVI LIST", ContainerFormat.AVI),
    "jpeg": (b"\xff\xd8\xff\xe1", ContainerFormat.JPEG),
    "png": (b"\x89PNG\r\n\x1a\n", ContainerFormat.PNG),
    "webp": (b"RIFF\x00\x00\x00\x00WEBPVP8 ", ContainerFormat.WEBP),
    "gif": (b"GIF89a", ContainerFormat.GIF),
    "heic": (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", ContainerFormat.HEIC),
    "a burst of heic": (b"\x00\x00\x00\x1cftyphevc\x00\x00\x00\x00msf1hevcheic", ContainerFormat.HEIC),
    "heic by its second brand": (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", ContainerFormat.HEIC),
    "avif": (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00mif1avifmiaf", ContainerFormat.AVIF),
    "animated avif": (b"\x00\x00\x00\x18ftypavis\x00\x00\x00\x00msf1avis", ContainerFormat.AVIF),
    "avif by its second brand": (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00miafavifMA1B", ContainerFormat.AVIF),
    "mp4 that names a still's brand too": (
        b"\x00\x00\x00\x1cftypisom\x00\x00\x02\x00heicavifmif1",
        ContainerFormat.MP4,
    ),
    "mov of a camera that writes heic": (b"\x00\x00\x00\x18ftypqt  \x00\x00\x00\x00qt  heic", ContainerFormat.MP4),
}

REFUSED = {
    "nothing": (b"", RejectionReason.EMPTY),
    "HLS playlist": (b"#EXTM3U\n#EXTINF:4,\nhttp://x/", RejectionReason.UNSUPPORTED_FORMAT),
    "HLS playlist after blanks": (b"\xef\xbb\xbf \n#EXTM3U", RejectionReason.UNSUPPORTED_FORMAT),
    "DASH manifest": (b"<MPD xmlns=", RejectionReason.UNSUPPORTED_FORMAT),
    "concat script": (b"ffconcat version 1.0\nfile /etc/passwd", RejectionReason.UNSUPPORTED_FORMAT),
    "SDP": (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1", RejectionReason.UNSUPPORTED_FORMAT),
    "SVG": (b"<svg onload='x'>", RejectionReason.UNSUPPORTED_FORMAT),
    "XML": (b"<?xml version='1.0'?><svg/>", RejectionReason.UNSUPPORTED_FORMAT),
    "HTML": (b"<!DOCTYPE html><script>", RejectionReason.UNSUPPORTED_FORMAT),
    "zip": (b"PK\x03\x04", RejectionReason.UNSUPPORTED_FORMAT),
    "HEIF of neither kind": (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1jpeg", RejectionReason.UNSUPPORTED_FORMAT),
    "brands behind their box": (
        b"\x00\x00\x00\x14ftypmif1\x00\x00\x00\x00mif1heicavif",
        RejectionReason.UNSUPPORTED_FORMAT,
    ),
    "camera's raw image": (b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom", RejectionReason.UNSUPPORTED_FORMAT),
    "BMP": (b"BM\x36\x00\x0c\x00", RejectionReason.UNSUPPORTED_FORMAT),
    "TIFF, little-endian": (b"II*\x00\x08\x00\x00\x00", RejectionReason.UNSUPPORTED_FORMAT),
    "TIFF, big-endian": (b"MM\x00*\x00\x00\x00\x08", RejectionReason.UNSUPPORTED_FORMAT),
    "BigTIFF": (b"II+\x00\x08\x00\x00\x00", RejectionReason.UNSUPPORTED_FORMAT),
    "JPEG XL": (b"\x00\x00\x00\x0cJXL \r\n\x87\n", RejectionReason.UNSUPPORTED_FORMAT),
    "JPEG XL without boxes": (b"\xff\x0a\xfa\x1f", RejectionReason.UNSUPPORTED_FORMAT),
    "JPEG 2000": (b"\x00\x00\x00\x0cjP  \r\n\x87\n", RejectionReason.UNSUPPORTED_FORMAT),
    "wave": (b"RIFF\x00\x00\x00\x00WAVEfmt ", RejectionReason.UNSUPPORTED_FORMAT),
    "program": (b"\x7fELF\x02\x01\x01", RejectionReason.NOT_MEDIA),
    "text": (b"Good morning, " * 100, RejectionReason.NOT_MEDIA),
    "one sync byte": (b"G" + bytes(600), RejectionReason.NOT_MEDIA),
    "zeros": (bytes(4096), RejectionReason.NOT_MEDIA),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_taken(name: str) -> None:
    head, expected = ACCEPTED[name]
    assert sniff(head) is expected


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    head, reason = REFUSED[name]
    with pytest.raises(RejectedSource) as rejection:
        sniff(head)
    assert rejection.value.reason is reason


@pytest.mark.parametrize(
    "head",
    [
        b"<svg onload='x'>",
        b"<?xml version='1.0'?>\n<svg/>",
        b"\xef\xbb\xbf<!-- drawn by hand -->\n<SVG>",
        b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' ''><svg>",
    ],
)
def test_drawings_are_refused_as_such(head: bytes) -> None:
    with pytest.raises(RejectedSource, match="an SVG drawing") as rejection:
        sniff(head)
    assert rejection.value.reason is RejectionReason.UNSUPPORTED_FORMAT
    assert "JPEG, PNG" in rejection.value.reason.advice


def test_each_format_belongs_to_one_pipeline() -> None:
    images = {f for f in ContainerFormat if f.kind is MediaKind.IMAGE}
    videos = {ContainerFormat.MP4, ContainerFormat.MATROSKA, ContainerFormat.MPEG_TS, ContainerFormat.AVI}
    assert images == set(ContainerFormat) - videos


def test_every_first_box_of_a_playable_iso_file_is_taken() -> None:
    for kind in (b"ftyp", b"moov", b"mdat", b"free", b"skip"):
        assert sniff(struct.pack(">I4s", 24, kind) + bytes(16)) is ContainerFormat.MP4


@pytest.mark.parametrize("container_format", ContainerFormat)
def test_a_file_may_be_as_large_as_its_kind_may_be(container_format: ContainerFormat) -> None:
    limits = Limits(max_image_bytes=1_000, max_video_bytes=2_000)
    limit_bytes = 1_000 if container_format.kind is MediaKind.IMAGE else 2_000
    check_file_size(container_format, limit_bytes, limits)
    with pytest.raises(RejectedSource, match=rf"{limit_bytes + 1:,} bytes; the limit is {limit_bytes:,}") as rejection:
        check_file_size(container_format, limit_bytes + 1, limits)
    assert rejection.value.reason is RejectionReason.FILE_TOO_LARGE
