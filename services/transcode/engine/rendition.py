"""One rendition of a chunk: pictures of its size go in by slot, CMAF segments come out by the plan's grid."""

from fractions import Fraction
from typing import cast

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine import cmaf, h264
from services.transcode.engine.channel import Reporter
from services.transcode.engine.encoder_settings import REORDER_FRAMES, x264_options
from services.transcode.engine.outcome import TrackOutcome
from services.transcode.engine.track import Position, TrackWriter, frame_clock
from services.transcode.plan import RenditionSpec, Timeline

_BT709 = 1  # ISO/IEC 23091-2
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: parameter sets in extradata, not in the stream


class Rendition:
    """Encoder and writer of one rendition. Its artifacts lie in a folder that is named for it."""

    def __init__(
        self, spec: RenditionSpec, timeline: Timeline, first_frame: int, threads: int, reporter: Reporter
    ) -> None:
        self._spec = spec
        self._timeline = timeline
        self._first_frame = first_frame
        self._encoder = _open_encoder(spec, timeline, threads)
        self._avcc = h264.avcc(self._encoder.extradata or b"")
        self._timescale, self._frame_ticks = frame_clock(timeline.frame_rate)
        # Decode times begin with the timeline, so pictures are shown this much later than they are decoded; the edit
        # list in the initialisation segment takes it back. The same in every chunk, however short.
        init = cmaf.video_init(
            spec.width_px, spec.height_px, self._avcc, self._timescale, REORDER_FRAMES * self._frame_ticks
        )
        self._writer = TrackWriter(
            reporter,
            "video/mp4",
            self._timescale,
            init,
            folder=f"{spec.label}/",
            position=Position(first_frame // timeline.segment_frames, first_frame * self._frame_ticks),
        )
        self._pending: list[Packet[VideoStream]] = []
        self._frames_in = self._frames_out = first_frame

    def add(self, picture: VideoFrame, slot: int) -> None:
        """Shows a picture of the rendition's size in the next slot of the timeline."""
        picture.time_base = 1 / self._timeline.frame_rate
        picture.pict_type = 0  # what the source's encoder chose is no wish of ours
        picture.pts = slot
        self._write(self._encoder.encode(picture))
        self._frames_in += 1

    def finish(self) -> TrackOutcome:
        """Empties the encoder and ends the piece."""
        self._write(self._encoder.encode(None))
        self._write_segment()
        if self._frames_out != self._frames_in:
            counts = (count - self._first_frame for count in (self._frames_in, self._frames_out))
            msg = "{} frames went in, {} came out".format(*counts)
            raise RuntimeError(msg)
        return self._writer.outcome(
            h264.codecs(self._avcc),
            self._timeline.segment_frames / self._timeline.frame_rate,
            width_px=self._spec.width_px,
            height_px=self._spec.height_px,
            frame_rate=self._timeline.frame_rate,
        )

    def _write(self, packets: "list[Packet[VideoStream]]") -> None:
        timeline = self._timeline
        for packet in packets:
            if packet.is_keyframe != (cast(int, packet.pts) % timeline.gop_frames == 0):
                msg = f"frame {packet.pts} breaks the IDR grid of {timeline.gop_frames}"
                raise RuntimeError(msg)
            if packet.is_keyframe and cast(int, packet.pts) % timeline.segment_frames == 0:
                self._write_segment()
            self._pending.append(packet)

    def _write_segment(self) -> None:
        if not self._pending:
            return
        ticks = self._frame_ticks
        samples = [
            cmaf.Sample(
                data=h264.to_sample(bytes(packet)),
                duration=ticks,
                composition_offset=(cast(int, packet.pts) + REORDER_FRAMES - decoded) * ticks,
                is_sync=packet.is_keyframe,
            )
            for decoded, packet in enumerate(self._pending, start=self._frames_out)
        ]
        self._frames_out += len(samples)
        self._pending.clear()
        self._writer.write_segment(samples, len(samples) * ticks, keyframe_apart=True)


def _open_encoder(spec: RenditionSpec, timeline: Timeline, threads: int) -> VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = spec.width_px, spec.height_px
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = 1 / timeline.frame_rate
    encoder.framerate = timeline.frame_rate
    encoder.sample_aspect_ratio = Fraction(1)
    encoder.color_primaries = encoder.color_trc = encoder.colorspace = _BT709
    encoder.color_range = _LIMITED_RANGE
    encoder.thread_count = threads
    encoder.flags |= _GLOBAL_HEADER
    encoder.options = x264_options(spec, timeline)
    encoder.open()
    return encoder
