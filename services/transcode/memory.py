"""How much memory a task will take: pure, from its spec and what the probe found.

Peaks of whole children were measured (`VmHWM`; H.264 and HEVC, 360p to 2160p, one thread) and laid out by what grows:

| source | steps | measured MiB | estimated MiB |
|---|---|---|---|
| 360p H.264 | 1 | 84 | 94 |
| 720p H.264 | 3 | 240 | 256 |
| 1080p H.264 | 4 | 475 | 510 |
| 1080p HEVC, 10 bits | 4 | 501 | 539 |
| 2160p H.264 | 4 | 557 | 599 |
| 2160p HEVC, 10 bits | 4 | 675 | 717 |
| 2160p HEVC, 10 bits, HDR | 4 | 709 | 717 |

An estimate is what workers share memory out by. It is no limit: that stays far above (`Limits.address_space_bytes`).
"""

from collections.abc import Mapping
from typing import Final

from services.transcode.formats import Codec
from services.transcode.source import ContainerFormat, SourceInfo, VideoStreamInfo
from services.transcode.specs import AudioSpec, ChunkSpec, ImageSpec, PassThroughSpec, RenditionSpec, TaskSpec

MIB: Final = 1 << 20

ORDINARY_BYTES: Final = 512 * MIB
"""What a task is taken to need where its plan did not say: the whole ladder from a source of 1080p."""

_BASE_BYTES: Final = 64 * MIB
"""Interpreter, libraries, and the blocks of the original that a child keeps."""
_ENCODED_BYTES_A_PIXEL: Final[Mapping[Codec, int]] = {Codec.H264: 120, Codec.HEVC: 220, Codec.AV1: 340}
"""An encoder's lookahead, references and buffers, and the muxer's open segment: of x264, some eighty frames of 1.5
bytes. Measured with the ladder of 1080p: 0.5 GB in H.264, 0.9 GB in HEVC, 1.3 GB in AV1.
"""
_DECODED_FRAMES: Final = 10
"""What a decoder holds back for reference and order, and what is on its way."""
_JPEG_BYTES_A_PIXEL: Final = 9
"""Decoded at a reduced size, but a progressive one keeps the coefficients of all its pixels, two bytes a sample
(measured beyond the base, at 24 megapixels: 2.5 with 4:2:0, 5.5 with 4:4:4, 8.3 with CMYK; 0.5 where not progressive).
"""
_IMAGE_BYTES_A_PIXEL: Final = 18
"""Pillow's four bytes a pixel, in the copies that transparency and decoders take (measured at 48 megapixels: WebP with
transparency 884 MB, PNG with it 694 MB, GIF 361 MB).
"""
_QUARTERED: Final = ("420", "nv12", "p010")
_DEEP: Final = ("10le", "10be", "12le", "12be", "14le", "16le", "16be")


def need_of(spec: TaskSpec, source: SourceInfo) -> int:
    """The most memory that a task's child is expected to hold, in bytes."""
    match spec:
        case ImageSpec():
            return _BASE_BYTES + _of_image(source)
        case AudioSpec():
            return 2 * _BASE_BYTES
        case ChunkSpec():
            return _BASE_BYTES + sum(map(_of_encoder, spec.renditions)) + _of_decoder(source.video)
        case PassThroughSpec():  # which may have to encode after all
            return _BASE_BYTES + _of_encoder(spec.rendition) + _of_decoder(source.video)
        case _:
            return 2 * _BASE_BYTES + _of_decoder(source.video)


def _of_image(source: SourceInfo) -> int:
    if source.image is None:
        return 0
    is_jpeg = source.container is ContainerFormat.JPEG
    return source.image.width_px * source.image.height_px * (_JPEG_BYTES_A_PIXEL if is_jpeg else _IMAGE_BYTES_A_PIXEL)


def _of_encoder(rendition: RenditionSpec) -> int:
    return rendition.width_px * rendition.height_px * _ENCODED_BYTES_A_PIXEL[rendition.codec]


def _of_decoder(video: VideoStreamInfo | None) -> int:
    if video is None:
        return 0
    frame_px = video.coded_width_px * video.coded_height_px
    # Two planes of a quarter beside the first; otherwise, three whole ones are the most that is common.
    samples = frame_px * 3 // 2 if any(name in video.pix_fmt for name in _QUARTERED) else frame_px * 3
    is_deep = any(depth in video.pix_fmt for depth in _DEEP)
    return _DECODED_FRAMES * samples * (2 if is_deep else 1)
