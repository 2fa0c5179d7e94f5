"""How far a video track extends, and how fast its frames follow one another: by its index, or by counting."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Any, cast

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from services.transcode.engine.channel import Reporter
from services.transcode.engine.reading.decoding import packets, seconds
from services.transcode.engine.reading.splices import Splices

_MICROSECOND = Fraction(1, 1_000_000)  # AV_TIME_BASE
FALLBACK_RATE = Fraction(30)
"""Where nothing tells how fast frames follow one another."""
_LONGEST_LAST_S = Fraction(10)
"""How long a last frame may be said to stay."""
_SOUND_ALONE_S = Fraction(1)
"""Sound that goes on for less after the last picture is the end of a frame, or a fade, and is cut with it."""
_SOUND_GAP_S = 10
"""Sound that comes later after some other does not belong to the film, or is mistaken in its time."""
_BLUR = Fraction(5, 100)
"""How far late and missing frames may take the mean interval from the usual one; beyond, the rate is variable."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The video track's extent, and how fast its frames follow one another.

    `still_s` is how long sound goes on after it: recorders of screens send no picture while none changes.

    `frame_count` and `frame_rate` are None where nothing but decoding would tell. `usual_rate` is that of most frames,
    where a few late or missing ones blur `frame_rate`. `packet_bytes` has the size of each packet in decode order, and
    `key_packets` the places in it of key frames; both are empty where some packets are not to be shown. The others are
    as in `VideoStreamInfo`.
    """

    start_s: Fraction
    duration_s: Fraction
    frame_count: int | None
    frame_rate: Fraction | None
    usual_rate: Fraction | None = None
    random_access: bool = True
    key_frame_interval_s: Fraction = Fraction(0)
    packet_bytes: Sequence[int] = ()
    key_packets: Sequence[int] = ()
    still_s: Fraction = Fraction(0)


def indexed_extent(stream: VideoStream, sound: Sequence[AudioStream], start_s: Fraction) -> Extent | None:
    """The extent by an MP4's index of samples, not by its headers, which may claim anything; None if it has none."""
    entries = [entry for entry in stream.index_entries if not entry.is_discard]
    if not entries or not stream.time_base:
        return None
    all_shown = len(entries) == len(stream.index_entries)
    times = [entry.timestamp for entry in entries]
    declared_s = seconds(stream.duration, stream.time_base) or Fraction(0)
    if len(times) == 1:
        shown_s = declared_s or 1 / FALLBACK_RATE
        still_s = _indexed_still_s(start_s + shown_s, sound)
        return Extent(start_s, shown_s, 1, 1 / declared_s if declared_s else None, still_s=still_s)
    until_last_s = (times[-1] - times[0]) * stream.time_base
    interval_s = until_last_s / (len(times) - 1)
    # The last one is shown as long as the others, or as the header says: some show it for long.
    duration_s = max(until_last_s + interval_s, min(declared_s, until_last_s + _LONGEST_LAST_S))
    keys = [entry.timestamp for entry in entries if entry.is_keyframe]
    return Extent(
        start_s,
        duration_s,
        len(times),
        len(times) / duration_s,
        random_access=interval_s > 0,
        key_frame_interval_s=_longest(keys, times[0], times[-1]) * stream.time_base,
        packet_bytes=[entry.size for entry in entries] if all_shown else (),
        key_packets=[number for number, entry in enumerate(entries) if entry.is_keyframe] if all_shown else (),
        still_s=_indexed_still_s(start_s + duration_s, sound),
    )


def _indexed_still_s(end_s: Fraction, sound: Sequence[AudioStream]) -> Fraction:
    return max((_still_s(end_s, _heard_until_s(stream, end_s)) for stream in sound), default=Fraction(0))


def _heard_until_s(stream: AudioStream, from_s: Fraction) -> Fraction:
    """How far a track of sound goes on after a moment, without a gap that is too long."""
    entries = stream.index_entries
    if len(entries) < 2 or not stream.time_base:
        return from_s
    until, gap = int(from_s / stream.time_base), int(_SOUND_GAP_S / stream.time_base)
    if entries[len(entries) - 1].timestamp <= until:
        return from_s
    for earlier, later in pairwise(entry.timestamp for entry in entries):
        if later > until + gap:
            break
        until = max(until, 2 * later - earlier)
    return until * stream.time_base


def _still_s(end_s: Fraction, heard_until_s: Fraction) -> Fraction:
    alone_s = heard_until_s - end_s
    return alone_s if alone_s > _SOUND_ALONE_S else Fraction(0)


def counted_extent(
    container: InputContainer, index: int, sound: Collection[int], start_s: Fraction, reporter: Reporter
) -> Extent:
    """The extent by counting packets: reads the file once, and is exact where headers guess."""
    stream = cast(VideoStream, container.streams[index])
    time_base = stream.time_base or _MICROSECOND
    begins = round(start_s / time_base)
    clock, splices = _Clock(begins), Splices()
    times: set[int] = set()
    keys: list[int] = []
    packet_bytes: list[int] = []
    key_packets: list[int] = []
    end = begins
    heard = _Heard(start_s)
    for packet in packets(container, stream, splices, sound):
        reporter.progress(0.0)
        if not packet.size:
            continue
        if packet.stream_index != index:
            heard.add(packet)
            continue
        shown = clock.shown(packet)
        if shown is None or shown < begins:  # before the first key frame, nothing can be shown
            continue
        times.add(shown)
        end = max(end, shown + (packet.duration or 0))
        if packet.is_keyframe:
            keys.append(shown)
            key_packets.append(len(packet_bytes))
        packet_bytes.append(packet.size)
    if len(times) < 2:
        shown_s = (end - begins) * time_base or 1 / FALLBACK_RATE
        if still_s := _still_s(start_s + shown_s, heard.until_s):
            return Extent(start_s, shown_s, len(times) or None, None, random_access=False, still_s=still_s)
        container_s = (container.duration or 0) * _MICROSECOND
        return Extent(start_s, container_s or 1 / FALLBACK_RATE, len(times) or None, None, random_access=False)
    in_order = sorted(times)
    interval = Fraction(in_order[-1] - in_order[0], len(times) - 1)
    usual = Fraction(median(later - earlier for earlier, later in pairwise(in_order)))
    if end <= in_order[-1]:
        end = in_order[-1] + round(interval)  # the last frame lasts as long as the others did
    return Extent(
        start_s,
        (end - begins) * time_base,
        len(times),
        1 / (interval * time_base),
        1 / (usual * time_base) if abs(interval - usual) <= usual * _BLUR else None,
        random_access=clock.is_steady and not splices.count,
        key_frame_interval_s=_longest(sorted(keys), begins, in_order[-1]) * time_base,
        packet_bytes=packet_bytes,
        key_packets=key_packets,
        still_s=Fraction(0) if splices.count else _still_s(end * time_base, heard.until_s),
    )


class _Heard:
    """How far sound goes without a gap that is too long."""

    def __init__(self, from_s: Fraction) -> None:
        self.until_s = from_s

    def add(self, packet: "Packet[Any]") -> None:
        """Takes one of any track."""
        at_s = seconds(packet.pts, packet.time_base)
        if at_s is not None and at_s <= self.until_s + _SOUND_GAP_S:
            self.until_s = max(self.until_s, at_s + (seconds(packet.duration, packet.time_base) or 0))


class _Clock:
    """The time of packets on one clock that goes on where a stream was cut together and its own jumps back."""

    def __init__(self, begins: int) -> None:
        self.is_steady = True
        self._begins = begins
        self._lag: int | None = None
        self._offset = 0
        self._decoded = -math.inf
        self._shown = 0

    def shown(self, packet: "Packet[VideoStream]") -> int | None:
        """When a packet is shown; None where nobody knows.

        Of a track that knows only when frames are decoded, when some frame is: as many are shown, so much later.
        """
        knows_none = self._lag is None and self._decoded == -math.inf and packet.pts is None
        if knows_none and packet.dts is not None and packet.is_keyframe:
            self._lag = self._begins - packet.dts
        if self._lag is not None and packet.dts is not None:
            return packet.dts + self._lag
        if packet.pts is None:
            self.is_steady = False
            return None
        # The first packets may lack a decode time.
        decoded = self._decoded if packet.dts is None else packet.dts
        if decoded < self._decoded:
            self.is_steady = False
            self._offset = self._shown + (packet.duration or 0) - packet.pts
        self._decoded = decoded
        shown = packet.pts + self._offset
        self._shown = max(self._shown, shown)
        return shown


def _longest(keys: Sequence[int], first: int, last: int) -> int:
    """The longest stretch without a key frame, in ticks, of a track between two times."""
    return max((later - earlier for earlier, later in pairwise([first, *keys, last])), default=0)
