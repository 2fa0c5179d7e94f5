"""Samples of another H.264 encoder, as ISO files have them, reduced to what a picture needs.

Clauses are of ISO/IEC 14496-15 (5.3.3).
"""

from collections.abc import Iterator

from services.transcode.engine.codecs.annexb import behind_lengths
from services.transcode.engine.codecs.h264 import IDR_SLICE, PPS, SLICE, SPS, kind, record

_SHORTEST_RECORD_BYTES = 7
_PROFILE_AND_LEVEL_BYTES = 4
"""Every sequence parameter set begins with its profile and level, behind the unit's first byte."""


class H264Samples:
    """Reads the samples of one track.

    What they hold beside slices does not change the picture, and may say more than its owner wants to publish.
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
        are_right = [kind(unit) for unit in sps] == [SPS] and {kind(unit) for unit in pps} == {PPS}
        if not are_right or len(sps[0]) < _PROFILE_AND_LEVEL_BYTES:
            raise ValueError("other than one sequence and some picture parameter sets")
        self._parameter_sets = {*sps, *pps}
        self.avcc = record(sps, pps)
        self.profile, self.level = sps[0][1], sps[0][3]

    def slices(self, sample: bytes) -> tuple[bytes, bool]:
        """A sample's slices, each behind its length in four bytes, and whether they are those of an IDR picture.

        Raises:
            ValueError: it is damaged, has no picture, or brings parameter sets of its own.
        """
        units = list(self._units(sample))
        if any(kind(unit) in (SPS, PPS) and unit not in self._parameter_sets for unit in units):
            raise ValueError("the parameter sets change")
        slices = [unit for unit in units if kind(unit) in (SLICE, IDR_SLICE)]
        kinds = {kind(unit) for unit in slices}
        if len(kinds) != 1:
            raise ValueError("a sample is no picture, or more than one")
        return behind_lengths(slices), kinds == {IDR_SLICE}

    def _units(self, sample: bytes) -> Iterator[bytes]:
        offset = 0
        while offset < len(sample):
            begin = offset + self._length_bytes
            length = int.from_bytes(sample[offset:begin])
            offset = begin + length
            if not length or offset > len(sample):
                raise ValueError("a NAL unit is empty, or ends beyond its sample")
            yield sample[begin:offset]


def _counted_units(avcc_record: bytes, offset: int, mask: int) -> tuple[list[bytes], int]:
    """The NAL units behind a count at `offset`, each behind its length in two bytes; and where they end."""
    units = []
    count, offset = int.from_bytes(avcc_record[offset : offset + 1]) & mask, offset + 1
    for _ in range(count):
        end = offset + 2 + int.from_bytes(avcc_record[offset : offset + 2])
        unit = avcc_record[offset + 2 : end]
        if not unit or end > len(avcc_record):
            raise ValueError("the record ends inside a parameter set")
        units.append(unit)
        offset = end
    return units, offset
