"""The little of H.264's byte stream that packaging needs: Annex B in, samples and `avcC` out.

Clauses are of ISO/IEC 14496-10 (7.3, 7.4.1.2.3) and 14496-15 (5.3.3).
"""

import struct
from collections.abc import Iterator, Sequence

from services.transcode.engine.codecs.annexb import behind_lengths, behind_start_codes, nal_units
from services.transcode.engine.codecs.configuration import CodecConfiguration

SLICE, IDR_SLICE, SPS, PPS = 1, 5, 7, 8
_AUD = 9
_ANY_SLICE = bytes([_AUD, 0xF0])
"""An access unit delimiter that promises nothing of the slices behind it."""
_PROFILES_WITH_CHROMA_FORMAT = frozenset({100, 110, 122, 144})


def to_sample(annex_b: bytes) -> bytes:
    """One access unit as an ISO sample: each NAL unit behind its length in four bytes.

    Parameter sets and delimiters are left out: the first live in `avcC`, the second have no use in ISO files.
    """
    return behind_lengths(_pictures(annex_b))


def to_access_unit(annex_b: bytes, parameter_sets: bytes, *, is_key: bool) -> bytes:
    """One access unit as MPEG-TS has it: behind a delimiter, and behind the parameter sets where decoding may begin.

    Args:
        annex_b: what the encoder made.
        parameter_sets: the encoder's Annex B extradata.
        is_key: whether it is an IDR picture.
    """
    sets = (unit for unit in nal_units(parameter_sets) if kind(unit) in (SPS, PPS)) if is_key else ()
    return behind_start_codes((_ANY_SLICE, *sets, *_pictures(annex_b)))


def avcc(parameter_sets: bytes) -> bytes:
    """The AVCDecoderConfigurationRecord of an encoder's Annex B extradata."""
    units = list(nal_units(parameter_sets))
    return record([unit for unit in units if kind(unit) == SPS], [unit for unit in units if kind(unit) == PPS])


def record(sps: Sequence[bytes], pps: Sequence[bytes]) -> bytes:
    """The AVCDecoderConfigurationRecord with these parameter sets: 4:2:0, 8 bits, lengths in four bytes."""
    profile, compatibility, level = sps[0][1:4]
    data = bytes([1, profile, compatibility, level, 0xFC | 3, 0xE0 | len(sps)])
    data += b"".join(struct.pack(">H", len(unit)) + unit for unit in sps)
    data += bytes([len(pps)]) + b"".join(struct.pack(">H", len(unit)) + unit for unit in pps)
    if profile in _PROFILES_WITH_CHROMA_FORMAT:
        data += bytes([0xFC | 1, 0xF8, 0xF8, 0])
    return data


def kind(unit: bytes) -> int:
    """The nal_unit_type."""
    return unit[0] & 0x1F


def codecs(avcc_record: bytes) -> str:
    """The RFC 6381 name: `avc1.` and the profile, constraint and level bytes in hexadecimal."""
    return f"avc1.{avcc_record[1:4].hex()}"


def configuration(avcc_record: bytes) -> CodecConfiguration:
    """The configuration of a track whose parameter sets are in its `avcC` alone."""
    return CodecConfiguration(b"avc1", b"avcC", avcc_record, codecs(avcc_record))


def _pictures(annex_b: bytes) -> Iterator[bytes]:
    return (unit for unit in nal_units(annex_b) if kind(unit) not in (SPS, PPS, _AUD))
