"""Repackages the packets of an original as its largest rendition, or encodes that after all.

Nothing is published that was not decoded here without a complaint: viewers' decoders meet these packets too, and what
the probe knows of them is what headers say. So the original is read twice, once to see that every slot of the timeline
has its frame and every border of a segment its IDR picture, and once to write.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from av.video.stream import VideoStream

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.codecs import h264
from services.transcode.engine.codecs.h264_samples import H264Samples
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import ChunkOutcome, TrackOutcome, TrackPiece
from services.transcode.engine.packaging import cmaf
from services.transcode.engine.packaging.track import TrackWriter, frame_clock
from services.transcode.engine.reading.decoding import packets, seconds
from services.transcode.engine.reading.opening import let_through, open_container, prepare_decoder, sniff_file
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.video.chunk import encode_chunk
from services.transcode.formats import SOFTWARE
from services.transcode.source import RejectedSource, RejectionReason
from services.transcode.specs import ChunkSpec, PassThroughSpec

if TYPE_CHECKING:
    from av.packet import Packet

_STRICT = {"err_detect": "explode+crccheck+bitstream+buffer", "skip_loop_filter": "all"}
"""The decoder says what it would else conceal. How the picture looks does not matter: the filter between blocks, a
quarter of the work, is left out."""

_MOST_REORDERED = 16
"""The most that H.264 allows (ISO/IEC 14496-10, A.3.1: max_num_reorder_frames is at most MaxDpbFrames, 16)."""

_MOST_ASIDE = Fraction(1, 4)
"""How far beside its slot a frame may be shown: the clocks of containers are coarse."""

_READING_SHARE = 0.8
"""How much of the work is the first reading, which decodes."""


class _Unfit(Exception):
    """The packets are not what the plan took them for."""


def pass_through(spec: PassThroughSpec, file: RemoteFile, limits: Limits, reporter: Reporter) -> ChunkOutcome:
    """Publishes the packets that `spec` asks for; where they do not fit the plan, encodes its rendition instead.

    Raises:
        RejectedSource: TOO_LONG; when it comes to encoding, as `encode_chunk`.
    """
    if spec.timeline.frame_count > limits.max_frames:
        raise RejectedSource(RejectionReason.TOO_LONG, f"the video has more than {limits.max_frames:,} frames")
    try:
        with stage(reporter, "examine") as attributes:
            delay_frames = _examined(spec, _Reading(spec, file, limits), reporter)
            attributes.update(frames=spec.timeline.frame_count, bytes_read=file.bytes_fetched)
    except _Unfit as reason:
        with stage(reporter, "encode after all") as attributes:
            attributes["reason"] = str(reason)
            return encode_chunk(_encoded_instead(spec), file, limits, _Rest(reporter))
    with stage(reporter, "write") as attributes:
        outcome = _written(spec, _Reading(spec, file, limits), delay_frames, reporter)
        attributes.update(bytes_read=file.bytes_fetched)
    return ChunkOutcome((TrackPiece(spec.rendition.label, outcome),))


class _Rest:
    """A reporter for what is left to do: progress goes on from where the examination may have come."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.artifact = reporter.artifact
        self.stage = reporter.stage

    def progress(self, fraction: float) -> None:
        """See `Reporter`."""
        self._reporter.progress(_READING_SHARE + (1 - _READING_SHARE) * fraction)


@dataclass(frozen=True, slots=True)
class _Picture:
    """One coded picture: the slot of the timeline that shows it, its slices, whether it is an IDR picture."""

    slot: int
    slices: bytes
    is_idr: bool


class _Reading:
    """One reading of the track, from its start."""

    def __init__(self, spec: PassThroughSpec, file: RemoteFile, limits: Limits) -> None:
        self._timeline = spec.timeline
        container = open_container(file, sniff_file(file))
        self._stream = cast(VideoStream, container.streams[spec.stream_index])
        self._container = container
        prepare_decoder(self._stream, limits)
        self._stream.codec_context.options = {**self._stream.codec_context.options, **_STRICT}
        try:
            self._samples = H264Samples(self._stream.codec_context.extradata or b"")
        except ValueError as error:
            raise _Unfit(str(error)) from error

    @property
    def avcc(self) -> bytes:
        """The track's configuration."""
        return self._samples.avcc

    def packets(self) -> "Iterator[Packet[VideoStream]]":
        """All packets in decode order, and at the end an empty one that brings out what the decoder holds."""
        return packets(self._container, self._stream)

    def picture(self, packet: "Packet[VideoStream]") -> _Picture:
        """What a packet holds.

        Raises:
            _Unfit: it is not shown, or not in a slot of the timeline, or damaged.
        """
        at_s = seconds(packet.pts, self._stream.time_base)
        if at_s is None or packet.is_discard or packet.is_corrupt:
            raise _Unfit("a packet is damaged, or not shown")
        exact = (at_s - self._timeline.origin_s) * self._timeline.frame_rate
        slot = round(exact)
        if abs(exact - slot) > _MOST_ASIDE:
            raise _Unfit(f"a frame is shown {float(exact - slot):.2f} frames beside slot {slot}")
        try:
            return _Picture(slot, *self._samples.slices(bytes(packet)))
        except ValueError as error:
            raise _Unfit(str(error)) from error


def _examined(spec: PassThroughSpec, reading: _Reading, reporter: Reporter) -> int:
    """Sees whether the packets fit the plan, and by how many frames decoding must run ahead of showing.

    Raises:
        _Unfit: they do not.
    """
    timeline = spec.timeline
    count = timeline.frame_count
    shown: set[int] = set()
    latest = -1
    decoded = delay_frames = 0
    for packet in reading.packets():
        if not packet.size:
            decoded += _decoded(packet)
            continue
        number, picture = len(shown), reading.picture(packet)  # first of all: the decoder believes what it is told
        decoded += _decoded(packet)
        if number % timeline.segment_frames == 0 and not (picture.is_idr and picture.slot == number == latest + 1):
            raise _Unfit(f"no segment can begin at frame {number}")
        if not 0 <= picture.slot < count or picture.slot in shown:
            raise _Unfit(f"slot {picture.slot} of {count} is shown twice, or is none")
        shown.add(picture.slot)
        latest = max(latest, picture.slot)
        delay_frames = max(delay_frames, number - picture.slot)
        reporter.progress(_READING_SHARE * len(shown) / count)
    if not decoded == len(shown) == count:
        raise _Unfit(f"{count} frames are wanted, {len(shown)} are there, {decoded} can be decoded")
    if delay_frames > _MOST_REORDERED:
        raise _Unfit(f"decoding runs {delay_frames} frames ahead of showing")
    return delay_frames


def _decoded(packet: "Packet[VideoStream]") -> int:
    """How many whole frames come out of the decoder now."""
    try:
        frames = packet.decode()
    except Exception as error:
        let_through(error)
        raise _Unfit("a packet cannot be decoded") from error
    if any(frame.is_corrupt or frame.interlaced_frame for frame in frames):
        raise _Unfit("a frame is damaged, or interlaced")
    return len(frames)


def _written(spec: PassThroughSpec, reading: _Reading, delay_frames: int, reporter: Reporter) -> TrackOutcome:
    """Writes the segments."""
    timeline, rendition = spec.timeline, spec.rendition
    timescale, ticks = frame_clock(timeline.frame_rate)
    configuration = h264.configuration(reading.avcc)
    init = cmaf.video_init(rendition.width_px, rendition.height_px, configuration, timescale, delay_frames * ticks)
    writer = TrackWriter(reporter, "video/mp4", timescale, init, folder=f"{rendition.label}/")
    samples: list[cmaf.Sample] = []
    for number, packet in enumerate(packet for packet in reading.packets() if packet.size):
        if samples and number % timeline.segment_frames == 0:
            writer.write_segment(samples, len(samples) * ticks, keyframe_apart=True)
            samples.clear()
        picture = reading.picture(packet)
        offset = (picture.slot + delay_frames - number) * ticks
        samples.append(cmaf.Sample(picture.slices, ticks, offset, picture.is_idr))
        reporter.progress(_READING_SHARE + (1 - _READING_SHARE) * number / timeline.frame_count)
    writer.write_segment(samples, len(samples) * ticks, keyframe_apart=True)
    return writer.outcome(
        configuration.codecs,
        timeline.segment_frames / timeline.frame_rate,
        width_px=rendition.width_px,
        height_px=rendition.height_px,
        frame_rate=timeline.frame_rate,
    )


def _encoded_instead(spec: PassThroughSpec) -> ChunkSpec:
    """The whole video in the one rendition, as a chunk."""
    return ChunkSpec(
        label=spec.label,
        stream_index=spec.stream_index,
        # In software: that of hardware cannot be opened behind the sandbox, and this rendition has one chunk.
        renditions=(replace(spec.rendition, encoder=SOFTWARE[spec.rendition.codec]),),
        random_access=True,
        timeline=spec.timeline,
        first_frame=0,
        end_frame=spec.timeline.frame_count,
        cost=spec.cost,
    )
