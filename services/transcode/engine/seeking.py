"""Finds the place in a video from which a moment can be shown, without decoding all that comes before."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from typing import TypeAlias

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.decoding import Damage, decoded, packets
from services.transcode.engine.opening import NOT_FOR_VERDICTS

_LEADS_S = (1, 10)
"""Tries: containers find packets by decode time, which runs up to a second ahead of the time at which they are shown;
some find any packet, and the key frame that it needs lies before."""

_MAX_HELD_BYTES = 64 << 20

VideoPacket: TypeAlias = "Packet[VideoStream]"


def video_frames_from(
    container: InputContainer,
    stream: VideoStream,
    at_s: Fraction,
    reopen: Callable[[], tuple[InputContainer, VideoStream]],
    damage: Damage,
) -> Iterator[VideoFrame]:
    """The frames of a video track in order of presentation, from a key frame at or before a moment on.

    Where the container cannot find one, everything from the start.

    Args:
        container: newly opened.
        stream: its track.
        at_s: the moment, on the container's clock.
        reopen: opens the container anew, from its start.
        damage: counts packets.
    """
    for lead_s in _LEADS_S:
        if _sought(container, stream, at_s - lead_s) and (found := _beginning_at(container, stream, at_s)):
            return decoded(found, damage)
    container, stream = reopen()
    return decoded(_beginning_at(container, stream, at_s) or packets(*reopen()), damage)


def _sought(container: InputContainer, stream: VideoStream, at_s: Fraction) -> bool:
    try:
        container.seek(int(at_s / (stream.time_base or 1)), stream=stream)
    except NOT_FOR_VERDICTS:
        raise
    except Exception:
        return False  # PyAV raises what libav says, and more; a container without an index says no
    return True


def _beginning_at(container: InputContainer, stream: VideoStream, at_s: Fraction) -> Iterator[VideoPacket] | None:
    ticks = int(at_s / (stream.time_base or 1))
    found = from_key_frame(packets(container, stream), ticks)
    first = next(found, None)
    return None if first is None else chain((first,), found)


def from_key_frame(found: Iterator[VideoPacket], at_ticks: int) -> Iterator[VideoPacket]:
    """Leaves out what comes before the last key frame that is shown at a time or before; all, if there is none."""
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
        held_bytes += packet.size
        if is_late or held_bytes > _MAX_HELD_BYTES:
            break
    yield from held
    yield from found
