"""The little of AV1's bitstream that packaging needs: temporal units in, ISO samples and `av1C` out.

Clauses are of the AV1 bitstream specification (5.3, 5.5) and of its binding to ISO files (2.3, 2.4, 5).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from services.transcode.engine.codecs.configuration import CodecConfiguration

_SEQUENCE_HEADER, _TEMPORAL_DELIMITER = 1, 2
_HAS_EXTENSION, _HAS_SIZE = 0x04, 0x02
_LEVEL_IS_TIERED = 7
"""Levels above this index (3.3) have a tier."""


@dataclass(frozen=True, slots=True)
class Obu:
    """One open bitstream unit: its type, and all of its bytes, header included."""

    type: int
    data: bytes


def obus(temporal_unit: bytes) -> Iterator[Obu]:
    """The units of a temporal unit in the low-overhead format.

    Raises:
        ValueError: one has no size, or reaches beyond the end.
    """
    start = 0
    while start < len(temporal_unit):
        header = temporal_unit[start]
        if not header & _HAS_SIZE:
            raise ValueError("an OBU without a size")
        size, body = _leb128(temporal_unit, start + (2 if header & _HAS_EXTENSION else 1))
        if body + size > len(temporal_unit):
            raise ValueError("an OBU that reaches beyond its temporal unit")
        yield Obu(header >> 3 & 0xF, temporal_unit[start : body + size])
        start = body + size


def to_sample(temporal_unit: bytes) -> bytes:
    """A temporal unit as an ISO sample: without its delimiter; the sequence header of a key frame stays (2.4)."""
    return b"".join(obu.data for obu in obus(temporal_unit) if obu.type != _TEMPORAL_DELIMITER)


def sequence_header(key_frame: bytes) -> bytes:
    """The sequence header in the temporal unit of a key frame.

    Raises:
        ValueError: it has none.
    """
    found = next((obu.data for obu in obus(key_frame) if obu.type == _SEQUENCE_HEADER), None)
    if found is None:
        raise ValueError("a key frame without a sequence header")
    return found


def configuration(header: bytes) -> CodecConfiguration:
    """The configuration that a sequence header makes: 4:2:0, 8 bits."""
    profile, level, tier = _profile_level_tier(header)
    subsampled_both_ways = 0x0C
    record = bytes([0x81, profile << 5 | level, tier << 7 | subsampled_both_ways, 0]) + header
    codecs = f"av01.{profile}.{level:02}{'MH'[tier]}.08"
    return CodecConfiguration(b"av01", b"av1C", record, codecs, (b"av01",))


def _profile_level_tier(header: bytes) -> tuple[int, int, int]:
    """Of the first operating point (5.5.1)."""
    _, body = _leb128(header, 1)
    bits = _Bits(header[body:])
    profile = bits.take(3)
    if bits.take(2):
        raise ValueError("a still picture, or a reduced header")
    if bits.take(1):
        raise ValueError("timing in the sequence header")
    bits.take(1 + 5 + 12)  # initial display delay, number of operating points, layers of the first
    level = bits.take(5)
    return profile, level, bits.take(1) if level > _LEVEL_IS_TIERED else 0


class _Bits:
    """Takes bits from bytes, the highest first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = 0
    for place in range(8):
        byte = data[at + place] if at + place < len(data) else 0x80
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at + place + 1
    raise ValueError("a number without an end")
