"""Encodes one video rendition: decode, pace, scale, encode, cut into CMAF segments."""

import time
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine import cmaf, h264
from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.decoding import Damage, seconds, video_frames
from services.transcode.engine.encoder_settings import x264_options
from services.transcode.engine.limits import Limits
from services.transcode.engine.opening import open_container, sniff_file
from services.transcode.engine.outcome import TrackOutcome
from services.transcode.engine.pacing import Timed, paced
from services.transcode.engine.picture import Scaler, deinterlaced
from services.transcode.engine.remote_file import RemoteFile
from services.transcode.engine.track import TrackWriter
from services.transcode.plan import VideoSpec
from services.transcode.source import RejectedSource, RejectionReason

_BT709 = 1  # ISO/IEC 23091-2
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: parameter sets in extradata, not in the stream
_MIN_TIMESCALE = 10_000
_MIN_DECODED_SHARE = Fraction(9, 10)


def encode_video(spec: VideoSpec, file: RemoteFile, limits: Limits, reporter: Reporter) -> TrackOutcome:
    """Encodes the rendition that `spec` asks for.

    Raises:
        RejectedSource: CORRUPT, TRUNCATED or TOO_LONG, as it turns out while decoding.
    """
    with stage(reporter, "open") as attributes:
        container = open_container(file, sniff_file(file))
        stream = cast(VideoStream, container.streams[spec.stream_index])
        attributes["codec"] = stream.codec_context.name
    stream.codec_context.thread_count = limits.threads
    damage = Damage()
    frames: Iterator[VideoFrame] = video_frames(container, stream, damage)
    if spec.deinterlace:
        frames = deinterlaced(frames, cast(Fraction, stream.time_base))
    rendition = _Rendition(spec, limits.threads, reporter)
    timeline = spec.timeline
    with stage(reporter, "encode") as attributes:
        spent = _Spent()
        timed = (_timed(frame, stream.time_base) for frame in spent.decoding(frames))
        for frame, slots in paced(timed, timeline.frame_rate, timeline.origin_s):
            if slots.stop > limits.max_frames:
                raise RejectedSource(RejectionReason.TOO_LONG, f"the video has more than {limits.max_frames:,} frames")
            rendition.add(frame, slots, spent)
            reporter.progress(slots.stop / timeline.frame_count)
        attributes.update(spent.attributes(), frames=rendition.frames_in, bytes_read=file.bytes_fetched)
    damage.check()
    _check_length(rendition.frames_in, spec)
    with stage(reporter, "flush"):
        return rendition.finish()


def _check_length(frame_count: int, spec: VideoSpec) -> None:
    expected = spec.timeline.frame_count
    if frame_count == 0:
        raise RejectedSource(RejectionReason.CORRUPT, "not one picture of the video can be decoded")
    # A second is forgiven to the shortest: durations in containers are often rounded up.
    if frame_count < expected * _MIN_DECODED_SHARE - spec.timeline.frame_rate:
        found_s, expected_s = (float(n / spec.timeline.frame_rate) for n in (frame_count, expected))
        raise RejectedSource(
            RejectionReason.TRUNCATED,
            f"the video should last {expected_s:.1f} s, but only {found_s:.1f} s can be read",
        )


def _timed(frame: VideoFrame, time_base: Fraction | None) -> Timed[VideoFrame]:
    base = frame.time_base or time_base
    return Timed(frame, seconds(frame.pts, base), seconds(frame.duration, base) or Fraction(0))


class _Spent:
    """Where the time went, summed over frames: spans of their own would be thousands."""

    def __init__(self) -> None:
        self.decode_s = self.scale_s = self.encode_s = self.write_s = 0.0

    def decoding(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Passes frames on, timing how long each took to come."""
        while True:
            began_s = time.perf_counter()
            frame = next(frames, None)
            self.decode_s += time.perf_counter() - began_s
            if frame is None:
                return
            yield frame

    def attributes(self) -> dict[str, float]:
        """For the stage."""
        return {
            "decode_s": round(self.decode_s, 3),
            "scale_s": round(self.scale_s, 3),
            "encode_s": round(self.encode_s, 3),
            "write_s": round(self.write_s, 3),
        }


class _Rendition:
    """Encoder and writer of one rendition. Frames go in by slot, segments come out by the plan's grid."""

    def __init__(self, spec: VideoSpec, threads: int, reporter: Reporter) -> None:
        self.frames_in = 0
        self._spec = spec
        self._reporter = reporter
        self._scaler = Scaler(spec.width_px, spec.height_px)
        self._encoder = _open_encoder(spec, threads)
        self._avcc = h264.avcc(self._encoder.extradata or b"")
        rate = spec.timeline.frame_rate
        # A frame lasts a whole number of ticks; a fine clock costs nothing.
        factor = -(-_MIN_TIMESCALE // rate.numerator)
        self._timescale = rate.numerator * factor
        self._frame_ticks = rate.denominator * factor
        self._writer: TrackWriter | None = None
        self._pending: list[Packet[VideoStream]] = []
        self._delay_frames = 0
        self._frames_out = 0

    def add(self, frame: VideoFrame, slots: range, spent: _Spent) -> None:
        """Shows `frame` in each of `slots`."""
        began_s = time.perf_counter()
        scaled = self._scaler.scale(frame)
        scaled.time_base = 1 / self._spec.timeline.frame_rate
        scaled.pict_type = 0  # what the source's encoder chose is no wish of ours
        spent.scale_s += time.perf_counter() - began_s
        for slot in slots:
            began_s = time.perf_counter()
            scaled.pts = slot
            packets = self._encoder.encode(scaled)
            encoded_s = time.perf_counter()
            self._write(packets)
            spent.encode_s += encoded_s - began_s
            spent.write_s += time.perf_counter() - encoded_s
        self.frames_in = slots.stop

    def finish(self) -> TrackOutcome:
        """Empties the encoder and ends the track."""
        self._write(self._encoder.encode(None))
        self._write_segment()
        writer = cast(TrackWriter, self._writer)
        if writer.frame_count != self.frames_in:
            msg = f"{self.frames_in} frames went in, {writer.frame_count} came out"
            raise RuntimeError(msg)
        return writer.outcome(
            h264.codecs(self._avcc),
            self._spec.timeline.segment_frames / self._spec.timeline.frame_rate,
            width_px=self._spec.width_px,
            height_px=self._spec.height_px,
            frame_rate=self._spec.timeline.frame_rate,
        )

    def _write(self, packets: "list[Packet[VideoStream]]") -> None:
        timeline = self._spec.timeline
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
        if self._writer is None:
            self._writer = self._open_writer(self._pending[0])
        ticks = self._frame_ticks
        samples = [
            cmaf.Sample(
                data=h264.to_sample(bytes(packet)),
                duration=ticks,
                composition_offset=(cast(int, packet.pts) + self._delay_frames - decoded) * ticks,
                is_sync=packet.is_keyframe,
            )
            for decoded, packet in enumerate(self._pending, start=self._frames_out)
        ]
        self._frames_out += len(samples)
        self._pending.clear()
        self._writer.write_segment(samples, len(samples) * ticks, keyframe_apart=True)

    def _open_writer(self, first: "Packet[VideoStream]") -> TrackWriter:
        # Decode times start at 0, so pictures are shown this much later than they are decoded; the edit list
        # in the initialisation segment takes it back.
        self._delay_frames = cast(int, first.pts) - cast(int, first.dts)
        init = cmaf.video_init(
            self._spec.width_px,
            self._spec.height_px,
            self._avcc,
            self._timescale,
            self._delay_frames * self._frame_ticks,
        )
        return TrackWriter(self._reporter, "video/mp4", self._timescale, init)


def _open_encoder(spec: VideoSpec, threads: int) -> VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = spec.width_px, spec.height_px
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = 1 / spec.timeline.frame_rate
    encoder.framerate = spec.timeline.frame_rate
    encoder.sample_aspect_ratio = Fraction(1)
    encoder.color_primaries = encoder.color_trc = encoder.colorspace = _BT709
    encoder.color_range = _LIMITED_RANGE
    encoder.thread_count = threads
    encoder.flags |= _GLOBAL_HEADER
    encoder.options = x264_options(spec)
    encoder.open()
    return encoder
