"""Decodes one track of a container, going on past damage as far as there is something to show."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.reading.opening import let_through
from services.transcode.engine.reading.splices import Splices, Tracks, spliced
from services.transcode.source import RejectedSource, RejectionReason

S = TypeVar("S", VideoStream, AudioStream)

_MAX_DAMAGED_SHARE = 0.1
"""More undecodable packets than this, and what is left is not worth publishing."""


@dataclass(slots=True)
class Damage:
    """How many packets there were, and how many could not be decoded."""

    packets: int = 0
    undecodable: int = 0

    def check(self, of_packets: int = 0) -> None:
        """Refuses a track of which too much was lost.

        Args:
            of_packets: how many the whole track has, where only a part of it was read.

        Raises:
            RejectedSource: CORRUPT.
        """
        packets = max(self.packets, of_packets)
        if self.undecodable > packets * _MAX_DAMAGED_SHARE:
            raise RejectedSource(
                RejectionReason.CORRUPT, f"{self.undecodable:,} of {packets:,} packets cannot be decoded"
            )

    def forget(self) -> None:
        """Begins anew, for a track that is read again."""
        self.packets = self.undecodable = 0


def video_frames(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[VideoFrame]:
    """The frames of a video track in order of presentation."""
    return decoded(packets(container, stream), damage)


def decoded(found: "Iterator[Packet[VideoStream]]", damage: Damage) -> Iterator[VideoFrame]:
    """The frames that packets hold. One that does not know when it is shown is shown when the decoder gives it out, as
    libav's own programs have it: at the decode time of the packet that brought it out.
    """
    for frame in _decoded(found, damage):
        if frame.pts is None:
            frame.pts = frame.dts
        yield frame


def audio_frames(container: InputContainer, stream: AudioStream, damage: Damage) -> Iterator[AudioFrame]:
    """The frames of an audio track in order of presentation."""
    return _decoded(packets(container, stream), damage)


def _decoded(found: "Iterator[Packet[Any]]", damage: Damage) -> Iterator[Any]:
    for packet in found:
        damage.packets += packet.size > 0
        try:
            yield from packet.decode()
        except Exception as error:
            let_through(error)
            damage.undecodable += 1


def packets(
    container: InputContainer, stream: S, splices: Splices | None = None, also: Collection[int] = ()
) -> "Iterator[Packet[S]]":
    """The packets of a track, up to the end or the point where the container breaks off; those of a transport stream on
    one clock, `splices` of which are counted.

    With those of other tracks, which `also` names by their indices, but for a transport stream.
    """
    if container.format.name != "mpegts" or not container.streams.video:
        return demuxed(container, stream, *(container.streams[index] for index in also))
    video = stream if isinstance(stream, VideoStream) else container.streams.video[0]
    sound: Sequence[AudioStream] = container.streams.audio[:1]
    tracks = Tracks(video.index, stream.index, sound[0].index if sound else None)
    return spliced(demuxed(container, *{video, stream, *sound}), tracks, splices or Splices())


def demuxed(container: InputContainer, *streams: Any) -> "Iterator[Packet[Any]]":
    """The packets of tracks as they lie in the file, with the times that they say."""
    found = container.demux(*streams)
    while True:
        try:
            packet = next(found)
        except StopIteration:
            return
        except Exception as error:
            let_through(error)
            return  # the container ends here: what came before is used, and its length is judged later
        yield packet


def seconds(ticks: int | None, time_base: Fraction | None) -> Fraction | None:
    """Ticks of a time base as seconds; None where either is unknown."""
    return None if ticks is None or time_base is None else ticks * time_base
