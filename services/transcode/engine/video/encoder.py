"""The encoder seam: pictures in, packets out, and what packaging needs to know of the codec.

What differs from codec to codec is here and in the module named for each; renditions, segments and chunks know of
packets and a configuration alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
from av.codec.context import Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.codecs import av1, h264, hevc
from services.transcode.engine.codecs.configuration import CodecConfiguration
from services.transcode.engine.video.encoder_settings import EncoderSettings, settings_for
from services.transcode.formats import SOFTWARE, Codec
from services.transcode.specs import ChunkSpec, RenditionSpec, TaskSpec, Timeline

_BT709 = 1  # ISO/IEC 23091-2
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG


@dataclass(frozen=True, slots=True)
class _Format:
    """How a codec's packets are packaged.

    Attributes:
        configuration: made of what `parameter_sets` found.
        to_sample: a packet as a sample of an ISO file.
        parameter_sets: what decoders need, of the encoder's extradata and a key frame.
    """

    configuration: Callable[[bytes], CodecConfiguration]
    to_sample: Callable[[bytes], bytes]
    parameter_sets: Callable[[bytes, bytes], bytes]


def _out_of_band(extradata: bytes, _key_frame: bytes) -> bytes:
    return extradata


def _in_band(_extradata: bytes, key_frame: bytes) -> bytes:
    # SVT-AV1 writes its extradata before it has decided which tools it uses: the samples know better.
    return av1.sequence_header(key_frame)


_FORMATS: Mapping[Codec, _Format] = {
    Codec.H264: _Format(lambda sets: h264.configuration(h264.avcc(sets)), h264.to_sample, _out_of_band),
    Codec.HEVC: _Format(hevc.configuration, hevc.to_sample, _out_of_band),
    Codec.AV1: _Format(av1.configuration, av1.to_sample, _in_band),
}


class VideoEncoder:
    """An open encoder of one rendition. Packets come in decode order, key frames on the timeline's grid alone.

    Attributes:
        reorder_frames: how many frames later a picture may be shown than it is decoded, at most.
    """

    def __init__(self, spec: RenditionSpec, timeline: Timeline, threads: int) -> None:
        """Opens the encoder that `spec` names.

        Raises:
            ValueError: nobody knows how to set it.
            av.FFmpegError: it is not there, or refuses its settings.
        """
        settings = settings_for(spec, timeline)
        self._timeline = timeline
        self._format = _FORMATS[spec.codec]
        self._context = _opened(settings, spec, timeline, threads)
        self._parameter_sets: bytes | None = None
        self._pix_fmt = settings.pix_fmt
        self.reorder_frames = settings.reorder_frames

    def encode(self, picture: VideoFrame, slot: int) -> "list[Packet[VideoStream]]":
        """The packets that are ready once a picture is shown in a slot of the timeline; their `pts` are slots."""
        picture.time_base = 1 / self._timeline.frame_rate
        picture.pict_type = 0  # what the source's encoder chose is no wish of ours
        picture.pts = slot
        if self._pix_fmt != picture.format.name:
            picture = picture.reformat(format=self._pix_fmt)
        return self._context.encode(picture)

    def flush(self) -> "Iterator[Packet[VideoStream]]":
        """The packets that were still to come, one by one: some encoders hold dozens, and take seconds for them."""
        return self._context.encode_lazy(None)

    def to_sample(self, packet: "Packet[VideoStream]") -> bytes:
        """A packet as a sample of an ISO file.

        Raises:
            RuntimeError: it is a key frame whose parameter sets are not those of the first one.
        """
        return self._format.to_sample(self._checked(packet))

    def to_access_unit(self, packet: "Packet[VideoStream]") -> bytes:
        """A packet of H.264 as MPEG-TS has it.

        Raises:
            RuntimeError: as `to_sample`.
        """
        data = self._checked(packet)
        return h264.to_access_unit(data, self._parameter_sets or b"", is_key=packet.is_keyframe)

    @property
    def configuration(self) -> CodecConfiguration:
        """What decoders must know; known from the first sample on. It depends on the spec alone, not on the content."""
        assert self._parameter_sets is not None, "before the first sample"
        return self._format.configuration(self._parameter_sets)

    def _checked(self, packet: "Packet[VideoStream]") -> bytes:
        data = bytes(packet)
        if packet.is_keyframe:
            found = self._format.parameter_sets(self._context.extradata or b"", data)
            if self._parameter_sets not in {None, found}:
                raise RuntimeError("the parameter sets changed within a rendition")
            self._parameter_sets = found
        return data


def opened_ahead(spec: TaskSpec, threads: int) -> dict[str, VideoEncoder]:
    """A task's encoders that must be open before the sandbox is shut, by label: those that are a device's."""
    if not isinstance(spec, ChunkSpec):
        return {}
    devices = (rendition for rendition in spec.renditions if rendition.encoder not in SOFTWARE.values())
    return {rendition.label: VideoEncoder(rendition, spec.timeline, threads) for rendition in devices}


def _opened(settings: EncoderSettings, spec: RenditionSpec, timeline: Timeline, threads: int) -> VideoCodecContext:
    context = av.CodecContext.create(settings.encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = spec.width_px, spec.height_px
    context.pix_fmt = settings.pix_fmt
    context.time_base = 1 / timeline.frame_rate
    context.framerate = timeline.frame_rate
    context.sample_aspect_ratio = Fraction(1)
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED_RANGE
    context.thread_count = threads
    context.flags |= Flags.global_header  # parameter sets in extradata, not in the stream
    context.options = dict(settings.options)
    context.open()
    return context
