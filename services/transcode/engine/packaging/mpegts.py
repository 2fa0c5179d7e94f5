"""Writes MPEG-TS: media segments for one track each, for players that know no fragmented MP4.

By ISO/IEC 13818-1 (clauses in brackets). Segments are made by workers that know nothing of each other, and yet are one
stream when they are put together: times count from the track's start, and so do the counters of packets. For these,
a segment has one packet of each table, numbered by the segment, and a multiple of sixteen packets of its track.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from services.transcode.engine.packaging.cmaf import Sample

SUFFIX = ".ts"
CONTENT_TYPE = "video/mp2t"

_PACKET_BYTES = 188
_SYNC_BYTE = 0x47
_PAYLOAD_BYTES = _PACKET_BYTES - 4
_COUNTERS = 16

_PAT_PID, _PMT_PID, _TRACK_PID = 0, 0x1000, 0x100
_PROGRAM = 1
_STREAM_TYPES = {"h264": 0x1B, "aac": 0x0F}  # [2.4.4.10]; AAC as ADTS
_STREAM_IDS = {"h264": 0xE0, "aac": 0xC0}  # [2.4.3.7]

_CLOCK_HZ = 90_000
_FINE_TICKS = 300
"""27 MHz, in which the program clock reference counts."""
_TIME_MODULUS = 1 << 33

_START = 10 * _CLOCK_HZ
"""When frame 0 is shown: late enough that decode times before it, priming and the clock are not negative."""
_CLOCK_LEAD = _CLOCK_HZ // 2
"""How much earlier the clock says it than the first frame of a packet is decoded: what players may buffer."""

_SOUND_FRAMES_TOGETHER = 8
"""AAC frames that share a PES packet, 170 ms: alone, each would fill up two packets, of which half are stuffing."""


@dataclass(frozen=True, slots=True)
class TsSegments:
    """Makes segments of MPEG-TS.

    Attributes:
        kind: `h264`, samples are access units of a byte stream; or `aac`, samples are ADTS frames.
        timescale: ticks a second, of the samples.
        delay_ticks: decode times are counted from 0; the first frame is shown this much later.
    """

    kind: str
    timescale: int
    delay_ticks: int

    @property
    def suffix(self) -> str:
        """Of segments' names."""
        return SUFFIX

    def segment(
        self, number: int, decode_ticks: int, samples: Sequence[Sample], *, keyframe_apart: bool
    ) -> tuple[bytes, int]:
        """One segment, and the length of its part up to the first frame's end, or 0.

        Args:
            number: counts the track's segments from 0.
            decode_ticks: decode time of the first sample, from the track's start.
            samples: in decode order; at least one.
            keyframe_apart: whether the first sample shall be a playable part of its own.
        """
        tables = _packet(_PAT_PID, number, _PAT) + _packet(_PMT_PID, number, _pmt(_STREAM_TYPES[self.kind]))
        parcels = list(self._parcels(decode_ticks, samples, together=1 if keyframe_apart else _SOUND_FRAMES_TOGETHER))
        counts = [parcel.fewest_packets for parcel in parcels]
        # The last one takes what fills up the round of the counter: its end is spread thinly.
        spare = -sum(counts) % _COUNTERS
        packets, counter = [tables], 0
        for parcel, fewest in zip(parcels, counts, strict=True):
            count = fewest + (spare if parcel is parcels[-1] else 0)
            packets.append(parcel.packets(counter, count))
            counter += count
        return b"".join(packets), len(tables) + len(packets[1]) if keyframe_apart else 0

    def _parcels(self, decode_ticks: int, samples: Sequence[Sample], together: int) -> Iterator["_Parcel"]:
        for first in range(0, len(samples), together):
            group = samples[first : first + together]
            shown = self._time(decode_ticks + group[0].composition_offset)
            decoded = self._time(decode_ticks)
            data = b"".join(sample.data for sample in group)
            yield _Parcel(_pes(_STREAM_IDS[self.kind], shown, decoded, data), decoded, group[0].is_sync)
            decode_ticks += sum(sample.duration for sample in group)

    def _time(self, ticks: int) -> int:
        """A time of the track on the stream's clock. Rounded from the exact value, so that nothing adds up."""
        return _START + round(Fraction((ticks - self.delay_ticks) * _CLOCK_HZ, self.timescale))


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A PES packet on its way into transport packets; the first one carries the clock."""

    pes: bytes
    decoded: int
    is_sync: bool

    @property
    def fewest_packets(self) -> int:
        """How many packets it takes."""
        return -(-(len(self.pes) + len(self._clock())) // _PAYLOAD_BYTES)

    def packets(self, counter: int, count: int) -> bytes:
        """The packets.

        Args:
            counter: of the first, from 0.
            count: how many to use; at least `fewest_packets`, at most as many as there are bytes.
        """
        clock, packets, start = self._clock(), [], 0
        for number in range(count):
            adaptation = b"" if number else clock
            # What is left has to reach for those to come.
            room = min(_PAYLOAD_BYTES - len(adaptation), len(self.pes) - start - (count - number - 1))
            packets.append(
                _packet(_TRACK_PID, counter + number, self.pes[start : start + room], adaptation, is_start=number == 0)
            )
            start += room
        assert start == len(self.pes)
        return b"".join(packets)

    def _clock(self) -> bytes:
        """An adaptation field with the program clock reference [2.4.3.4]."""
        random_access, has_clock = 0x40, 0x10
        base = (self.decoded - _CLOCK_LEAD) % _TIME_MODULUS
        reference = base << 15 | 0x3F << 9
        return bytes([7, has_clock | (random_access if self.is_sync else 0)]) + reference.to_bytes(6, "big")


def _packet(pid: int, counter: int, payload: bytes, adaptation: bytes = b"", *, is_start: bool = True) -> bytes:
    """A transport packet [2.4.3.2], filled up by stuffing in its adaptation field."""
    if stuffing := _PAYLOAD_BYTES - len(adaptation) - len(payload):
        adaptation = _stuffed(adaptation, len(adaptation) + stuffing)
    control = 0x30 if adaptation else 0x10
    header = struct.pack(">BHB", _SYNC_BYTE, is_start << 14 | pid, control | counter % _COUNTERS)
    return header + adaptation + payload


def _stuffed(adaptation: bytes, size: int) -> bytes:
    """An adaptation field of so many bytes: its length, flags, stuffing."""
    if size == 1:
        return b"\x00"
    content = adaptation[1:] or b"\x00"
    return bytes([size - 1]) + content + b"\xff" * (size - 1 - len(content))


def _pes(stream_id: int, shown: int, decoded: int, data: bytes) -> bytes:
    """A PES packet [2.4.3.6] that begins with a frame."""
    has_both = decoded != shown
    times = _timestamp(0b0011, shown) + _timestamp(0b0001, decoded) if has_both else _timestamp(0b0010, shown)
    aligned = 0x84
    rest = bytes([aligned, 0xC0 if has_both else 0x80, len(times)]) + times + data
    # Pictures may be longer than the field can say; for them it may be 0.
    length = len(rest) if stream_id == _STREAM_IDS["aac"] else 0
    return struct.pack(">IH", 0x100 | stream_id, length) + rest


def _timestamp(prefix: int, time: int) -> bytes:
    """33 bits with markers between [2.4.3.7]."""
    time %= _TIME_MODULUS
    high, middle, low = time >> 30, time >> 15 & 0x7FFF, time & 0x7FFF
    return struct.pack(">BHH", prefix << 4 | high << 1 | 1, middle << 1 | 1, low << 1 | 1)


def _table(table_id: int, extension: int, body: bytes) -> bytes:
    """A packet's payload with one section [2.4.4]: current, the only one."""
    length = 5 + len(body) + 4
    section = struct.pack(">BHHBBB", table_id, 0xB000 | length, extension, 0xC1, 0, 0) + body
    section = b"\x00" + section + struct.pack(">I", _crc32(section))
    return section.ljust(_PAYLOAD_BYTES, b"\xff")


def _pmt(stream_type: int) -> bytes:
    body = struct.pack(">HH", 0xE000 | _TRACK_PID, 0xF000)
    return _table(2, _PROGRAM, body + struct.pack(">BHH", stream_type, 0xE000 | _TRACK_PID, 0xF000))


def _crc32(data: bytes) -> int:
    """The checksum of sections [Annex A]: not that of `zlib`, whose bits run the other way."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


_PAT = _table(0, 1, struct.pack(">HH", _PROGRAM, 0xE000 | _PMT_PID))
