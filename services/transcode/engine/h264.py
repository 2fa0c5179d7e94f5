"""The little of H.264's byte stream that packaging needs: Annex B or ISO samples in, ISO samples and `avcC` out.

Clauses are of ISO/IEC 14496-10 (Annex B, 7.3) and 14496-15 (5.3.3).
"""

import struct
from collections.abc import Iterator, Sequence

_SLICE, _IDR_SLICE, _SPS, _PPS, _AUD = 1, 5, 7, 8, 9
_SHORTEST_RECORD_BYTES = 7
_PROFILE_AND_LEVEL_BYTES = 4
"""Every sequence parameter set begins with its profile and level, behind the unit's first byte."""
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
    units = (unit for unit in nal_units(annex_b) if _kind(unit) not in (_SPS, _PPS, _AUD))
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def avcc(parameter_sets: bytes) -> bytes:
    """The AVCDecoderConfigurationRecord of an encoder's Annex B extradata: 4:2:0, 8 bits."""
    units = list(nal_units(parameter_sets))
    return _record([unit for unit in units if _kind(unit) == _SPS], [unit for unit in units if _kind(unit) == _PPS])


class IsoSamples:
    """Samples of another encoder, taken over: their slices alone.

    What else they hold does not change the picture, and may say more than its owner wants to publish.
    """

    def __init__(self, avcc_record: bytes) -> None:
        """Reads the track's configuration.

        Raises:
            ValueError: it is none, or has other than one sequence parameter set.
        """
        if len(avcc_record) < _SHORTEST_RECORD_BYTES:
            raise ValueError("the configuration is too short")
        self._length_bytes = (avcc_record[4] & 3) + 1
        sps, end = _counted_units(avcc_record, 5, 0x1F)
        pps, _ = _counted_units(avcc_record, end, 0xFF)
        if (
            [_kind(unit) for unit in sps] != [_SPS]
            or {_kind(unit) for unit in pps} != {_PPS}
            or len(sps[0]) < _PROFILE_AND_LEVEL_BYTES
        ):
            raise ValueError("other than one sequence and some picture parameter sets")
        self._parameter_sets = {*sps, *pps}
        self.avcc = _record(sps, pps)

    def slices(self, sample: bytes) -> tuple[bytes, bool]:
        """A sample's slices, each behind its length in four bytes, and whether they are those of an IDR picture.

        Raises:
            ValueError: it is damaged, has no picture, or brings parameter sets of its own.
        """
        units = list(self._units(sample))
        if any(_kind(unit) in (_SPS, _PPS) and unit not in self._parameter_sets for unit in units):
            raise ValueError("the parameter sets change")
        slices = [unit for unit in units if _kind(unit) in (_SLICE, _IDR_SLICE)]
        kinds = {_kind(unit) for unit in slices}
        if len(kinds) != 1:
            raise ValueError("a sample is no picture, or more than one")
        return b"".join(struct.pack(">I", len(unit)) + unit for unit in slices), kinds == {_IDR_SLICE}

    def _units(self, sample: bytes) -> Iterator[bytes]:
        offset = 0
        while offset < len(sample):
            begin = offset + self._length_bytes
            length = int.from_bytes(sample[offset:begin])
            offset = begin + length
            if not length or offset > len(sample):
                raise ValueError("a NAL unit is empty, or ends beyond its sample")
            yield sample[begin:offset]


def _kind(unit: bytes) -> int:
    return unit[0] & 0x1F


def _record(sps: Sequence[bytes], pps: Sequence[bytes]) -> bytes:
    profile, compatibility, level = sps[0][1:4]
    record = bytes([1, profile, compatibility, level, 0xFC | 3, 0xE0 | len(sps)])
    record += b"".join(struct.pack(">H", len(unit)) + unit for unit in sps)
    record += bytes([len(pps)]) + b"".join(struct.pack(">H", len(unit)) + unit for unit in pps)
    if profile in _PROFILES_WITH_CHROMA_FORMAT:
        record += bytes([0xFC | 1, 0xF8, 0xF8, 0])
    return record


def _counted_units(record: bytes, offset: int, mask: int) -> tuple[list[bytes], int]:
    """The NAL units behind a count at `offset`, each behind its length in two bytes; and where they end."""
    units = []
    count, offset = int.from_bytes(record[offset : offset + 1]) & mask, offset + 1
    for _ in range(count):
        end = offset + 2 + int.from_bytes(record[offset : offset + 2])
        unit = record[offset + 2 : end]
        if not unit or end > len(record):
            raise ValueError("the record ends inside a parameter set")
        units.append(unit)
        offset = end
    return units, offset


def codecs(avcc_record: bytes) -> str:
    """The RFC 6381 name: `avc1.` and the profile, constraint and level bytes in hexadecimal."""
    return f"avc1.{avcc_record[1:4].hex()}"
