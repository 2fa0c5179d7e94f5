"""What media are published as: codecs, packaging and formats of stills, by the names that settings and specs use."""

from collections.abc import Mapping
from enum import StrEnum


class Codec(StrEnum):
    """Codecs of pictures. Every player of ours knows H.264; the others spare bits for those that know them too."""

    H264 = "h264"
    HEVC = "hevc"
    AV1 = "av1"


class Packaging(StrEnum):
    """What segments are: fragmented MP4, or MPEG-TS for players from before 2016."""

    CMAF = "cmaf"
    TS = "ts"


SOFTWARE: Mapping[Codec, str] = {Codec.H264: "libx264", Codec.HEVC: "libx265", Codec.AV1: "libsvtav1"}
"""libav's names of the encoders that every worker has."""


class ImageFormat(StrEnum):
    """What stills are written as, in the order in which APIs list those of one size."""

    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"

    @property
    def content_type(self) -> str:
        """Its media type."""
        return f"image/{self.value}"

    @property
    def suffix(self) -> str:
        """How names of its files end, with the dot."""
        return ".jpg" if self is ImageFormat.JPEG else f".{self.value}"
