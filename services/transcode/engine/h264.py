"""The little of H.264's byte stream that packaging needs: Annex B in, ISO samples and `avcC` out.

Clauses are of ISO/IEC 14496-10 (Annex B, 7.3) and 14496-15 (5.3.3).
"""

import struct
from collections.abc import Iterator

_SPS, _PPS, _SEI, _AUD = 7, 8, 6, 9
_START_CODE = b"\x00\x00\x01"
_PROFILES_WITH_CHROMA_FORMAT = frozenset({100, 110, 122, 144})


def nal_units(annex_b: bytes) -> Iterator[bytes]:
    """The NAL units of a byte stream, without start codes and the zero bytes around them."""
    start = annex_b.find(_START_CODE)
    while start >= 0:
        begin = start + len(_START_CODE)
        start = annex_b.find(_START_CODE, begin)
        unit = annex_b[begin : start if start >= 0 else len(annex_b)]
        # A four-byte start code's first zero, or trailing zeros; a unit itself never ends in one (7.4.1).
        unit = unit.rstrip(b"\x00")
        if unit:
            yield unit


def to_sample(annex_b: bytes) -> bytes:
    """One access unit as an ISO sample: each NAL unit behind its length in four bytes.

    Parameter sets and delimiters are left out: the first live in `avcC`, the second have no use in ISO files.
    """
    units = (unit for unit in nal_units(annex_b) if unit[0] & 0x1F not in (_SPS, _PPS, _AUD))
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def avcc(parameter_sets: bytes) -> bytes:
    """The AVCDecoderConfigurationRecord of an encoder's Annex B extradata: 4:2:0, 8 bits."""
    units = list(nal_units(parameter_sets))
    sps = [unit for unit in units if unit[0] & 0x1F == _SPS]
    pps = [unit for unit in units if unit[0] & 0x1F == _PPS]
    profile, compatibility, level = sps[0][1:4]
    record = bytes([1, profile, compatibility, level, 0xFC | 3, 0xE0 | len(sps)])
    record += b"".join(struct.pack(">H", len(unit)) + unit for unit in sps)
    record += bytes([len(pps)]) + b"".join(struct.pack(">H", len(unit)) + unit for unit in pps)
    if profile in _PROFILES_WITH_CHROMA_FORMAT:
        record += bytes([0xFC | 1, 0xF8, 0xF8, 0])
    return record


def codecs(avcc_record: bytes) -> str:
    """The RFC 6381 name: `avc1.` and the profile, constraint and level bytes in hexadecimal."""
    return f"avc1.{avcc_record[1:4].hex()}"
