"""The byte stream that H.264 and HEVC share: NAL units behind start codes, and behind lengths in ISO files.

Clauses are of ISO/IEC 14496-10 (Annex B, 7.4.1) and 23008-2 (Annex B, 7.4.2).
"""

import struct
from collections.abc import Iterable, Iterator

_START_CODE = b"\x00\x00\x01"


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


def behind_lengths(units: Iterable[bytes]) -> bytes:
    """NAL units as an ISO sample has them: each behind its length in four bytes."""
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def behind_start_codes(units: Iterable[bytes]) -> bytes:
    """NAL units as a byte stream has them: each behind a start code of four bytes."""
    return b"".join(b"\x00" + _START_CODE + unit for unit in units)


def without_emulation_prevention(unit: bytes) -> bytes:
    """A NAL unit's own bytes: the encoder puts 03 behind two zeros, so that no start code appears within (7.3.1)."""
    return unit.replace(b"\x00\x00\x03", b"\x00\x00")
