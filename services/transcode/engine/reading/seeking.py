"""Finds the place in a video from which a moment can be shown, without decoding all that comes before."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from typing import TypeAlias

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.reading.decoding import Damage, decoded, demuxed, packets, seconds
from services.transcode.engine.reading.opening import let_through

_SETTLED_S = Fraction(1, 2)
"""Decoding begins so much before what is wanted: joining fields and filters look back by a few frames."""

_LEADS_S = (_SETTLED_S, Fraction(10))
"""Tries: a key frame so much before what is wanted. Where pictures are refreshed little by little, one can be shown
only after a while."""

_SOUGHT_BEFORE_S = 1
"""Containers find packets by decode time, which runs up to so much ahead of the time at which they are shown."""

_MAX_HELD_BYTES = 64 << 20
_HELD_PACKET_BYTES = 600
"""What a packet takes beside its data, as measured."""

VideoPacket: TypeAlias = "Packet[VideoStream]"


def video_frames_from(
    begins_s: Fraction,
    reopen: Callable[[], tuple[InputContainer, VideoStream]],
    damage: Damage,
    on_packet: Callable[[], None],
) -> Iterator[VideoFrame]:
    """The frames of a video track in order of presentation; the first is shown at or before a moment.

    Where no such frame can be found by its time, everything from the start.

    Args:
        begins_s: the moment, on the container's clock.
        reopen: opens the container anew, from its start.
        damage: counts packets.
        on_packet: told of each packet, those that are left out included.
    """
    for lead_s in _LEADS_S:
        damage.forget()
        container, stream = reopen()
        if not _sought(container, stream, begins_s - lead_s - _SOUGHT_BEFORE_S):
            continue
        # As they are: what was cut together is not sought in, and after a seek libav's first times may be guesses.
        found = _counted(demuxed(container, stream), on_packet)
        at_ticks = int((begins_s - lead_s) / (stream.time_base or 1))
        frames = decoded(from_key_frame(found, at_ticks), damage)
        first = next(frames, None)
        if first is not None and (seconds(first.pts, first.time_base) or begins_s) <= begins_s:
            return chain((first,), frames)
    damage.forget()
    return decoded(_counted(packets(*reopen()), on_packet), damage)


def _counted(found: Iterator[VideoPacket], on_packet: Callable[[], None]) -> Iterator[VideoPacket]:
    for packet in found:
        on_packet()
        yield packet


def _sought(container: InputContainer, stream: VideoStream, at_s: Fraction) -> bool:
    try:
        container.seek(int(at_s / (stream.time_base or 1)), stream=stream)
    except Exception as error:
        let_through(error)
        return False  # PyAV raises what libav says, and more; a container without an index says no
    return True


def from_key_frame(found: Iterator[VideoPacket], at_ticks: int) -> Iterator[VideoPacket]:
    """Leaves out what comes before the last key frame that is shown by a time; everything, if there is none."""
    held: list[VideoPacket] = []
    held_bytes = 0
    for packet in found:
        shown = packet.pts if packet.pts is not None else packet.dts
        is_late = shown is not None and shown > at_ticks
        if packet.is_keyframe and shown is not None and not is_late:
            held, held_bytes = [], 0
        elif not held:
            if is_late:
                return
            continue
        held.append(packet)
        held_bytes += packet.size + _HELD_PACKET_BYTES
        if is_late or held_bytes > _MAX_HELD_BYTES:
            break
    yield from held
    yield from found
