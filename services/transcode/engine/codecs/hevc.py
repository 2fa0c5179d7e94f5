"""The little of HEVC's byte stream that packaging needs: Annex B in, ISO samples and `hvcC` out.

Clauses are of ISO/IEC 23008-2 (7.3.1, 7.3.2.2, 7.3.3) and 14496-15 (8.3.3, Annex E).
"""

import struct
from collections.abc import Sequence

from services.transcode.engine.codecs.annexb import behind_lengths, nal_units, without_emulation_prevention
from services.transcode.engine.codecs.configuration import CodecConfiguration

_VPS, _SPS, _PPS, _AUD = 32, 33, 34, 35
_OUT_OF_BAND = (_VPS, _SPS, _PPS)
_PROFILE_TIER_LEVEL = slice(3, 15)
"""In an SPS without emulation prevention: behind the unit's header of two bytes and a byte of counts (7.3.2.2)."""
_COUNTS_BYTE = 2


def to_sample(annex_b: bytes) -> bytes:
    """One access unit as an ISO sample of an `hvc1` track: no parameter sets, no delimiters."""
    return behind_lengths(unit for unit in nal_units(annex_b) if _type(unit) not in (*_OUT_OF_BAND, _AUD))


def configuration(parameter_sets: bytes) -> CodecConfiguration:
    """The configuration that an encoder's Annex B extradata makes: 4:2:0, 8 bits, parameter sets out of band alone."""
    units = list(nal_units(parameter_sets))
    sps = without_emulation_prevention(next(unit for unit in units if _type(unit) == _SPS))
    profile_tier_level = sps[_PROFILE_TIER_LEVEL]
    sub_layers, is_nested = (sps[_COUNTS_BYTE] >> 1 & 7) + 1, sps[_COUNTS_BYTE] & 1
    record = bytes([1]) + profile_tier_level
    record += struct.pack(">HB", 0xF000, 0xFC)  # of parallel decoding nothing is known
    record += bytes([0xFC | 1, 0xF8, 0xF8]) + struct.pack(">H", 0)  # 4:2:0, 8 bits; of the frame rate nothing is said
    record += bytes([sub_layers << 3 | is_nested << 2 | 3, len(_OUT_OF_BAND)])
    record += b"".join(_array(kind, [unit for unit in units if _type(unit) == kind]) for kind in _OUT_OF_BAND)
    return CodecConfiguration(b"hvc1", b"hvcC", record, _codecs(profile_tier_level))


def _array(kind: int, units: Sequence[bytes]) -> bytes:
    complete = 0x80  # there are no others in the samples
    return struct.pack(">BH", complete | kind, len(units)) + b"".join(
        struct.pack(">H", len(unit)) + unit for unit in units
    )


def _codecs(profile_tier_level: bytes) -> str:
    """`hvc1.`, profile, compatibility with its bits reversed, tier and level, constraints without trailing zeros."""
    first, compatibility, constraints, level = struct.unpack(">BI6sB", profile_tier_level)
    space, is_high, profile = first >> 6, first >> 5 & 1, first & 0x1F
    reversed_bits = int(f"{compatibility:032b}"[::-1], 2)
    parts = [
        f"{('', 'A', 'B', 'C')[space]}{profile}",
        f"{reversed_bits:X}",
        f"{'H' if is_high else 'L'}{level}",
        *(f"{byte:X}" for byte in constraints.rstrip(b"\x00")),
    ]
    return ".".join(["hvc1", *parts])


def _type(unit: bytes) -> int:
    return unit[0] >> 1 & 0x3F
