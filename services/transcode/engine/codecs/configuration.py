"""What a decoder must know before the first frame, as ISO files carry it: one value in all chunks of a rendition."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CodecConfiguration:
    """The codec of a track of pictures.

    Attributes:
        sample_entry: four characters, for instance `avc1`.
        box: four characters of the box that holds the record, for instance `avcC`.
        record: the decoder's configuration.
        codecs: RFC 6381.
        brands: what the file type box names beside the brands of every track.
    """

    sample_entry: bytes
    box: bytes
    record: bytes
    codecs: str
    brands: tuple[bytes, ...] = ()
