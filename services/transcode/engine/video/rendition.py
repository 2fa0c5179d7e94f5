"""One rendition of a chunk: pictures of its size go in by slot, segments come out by the plan's grid."""

from collections.abc import Iterable
from typing import cast

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.channel import Reporter
from services.transcode.engine.outcome import TrackOutcome
from services.transcode.engine.packaging import cmaf, mpegts
from services.transcode.engine.packaging.track import Position, TrackWriter, frame_clock
from services.transcode.engine.video.encoder import VideoEncoder
from services.transcode.formats import Packaging
from services.transcode.specs import ChunkSpec, RenditionSpec


class Rendition:
    """Encoder and writer of one rendition. Its artifacts lie in a folder that is named for it."""

    def __init__(self, spec: RenditionSpec, chunk: ChunkSpec, encoder: VideoEncoder, reporter: Reporter) -> None:
        self._spec = spec
        self._timeline = timeline = chunk.timeline
        self._first_frame = first_frame = chunk.first_frame
        self._packaging = chunk.packaging
        self._encoder = encoder
        self._timescale, self._frame_ticks = frame_clock(timeline.frame_rate)
        self._reporter = reporter
        self._writer: TrackWriter | None = None
        self._pending: list[Packet[VideoStream]] = []
        self._frames_in = self._frames_out = first_frame

    def add(self, picture: VideoFrame, slot: int) -> None:
        """Shows a picture of the rendition's size in the next slot of the timeline."""
        self._write(self._encoder.encode(picture, slot))
        self._frames_in += 1

    def finish(self) -> TrackOutcome:
        """Empties the encoder and ends the piece."""
        for packet in self._encoder.flush():
            self._write((packet,))
            self._reporter.progress(1.0)
        self._write_segment()
        if self._frames_out != self._frames_in:
            counts = (count - self._first_frame for count in (self._frames_in, self._frames_out))
            msg = "{} frames went in, {} came out".format(*counts)
            raise RuntimeError(msg)
        assert self._writer is not None, "a chunk has at least one frame"
        return self._writer.outcome(
            self._encoder.configuration.codecs,
            self._timeline.segment_frames / self._timeline.frame_rate,
            width_px=self._spec.width_px,
            height_px=self._spec.height_px,
            frame_rate=self._timeline.frame_rate,
        )

    def _write(self, packets: "Iterable[Packet[VideoStream]]") -> None:
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
        is_ts = self._packaging is Packaging.TS
        packaged = self._encoder.to_access_unit if is_ts else self._encoder.to_sample
        samples = [
            cmaf.Sample(
                data=packaged(packet),
                duration=ticks,
                composition_offset=(cast(int, packet.pts) + self._encoder.reorder_frames - decoded) * ticks,
                is_sync=packet.is_keyframe,
            )
            for decoded, packet in enumerate(self._pending, start=self._frames_out)
        ]
        self._frames_out += len(samples)
        self._pending.clear()
        # Not before: only now the encoder's configuration is known.
        self._writer = self._writer or self._opened_writer()
        self._writer.write_segment(samples, len(samples) * ticks, keyframe_apart=True)

    def _opened_writer(self) -> TrackWriter:
        spec = self._spec
        folder = f"{spec.label}/"
        position = Position(self._first_frame // self._timeline.segment_frames, self._first_frame * self._frame_ticks)
        # Decode times begin with the timeline, so pictures are shown this much later than they are decoded; the edit
        # list in the initialisation segment takes it back. The same in every chunk, however short.
        delay_ticks = self._encoder.reorder_frames * self._frame_ticks
        if self._packaging is Packaging.TS:
            segments = mpegts.TsSegments("h264", self._timescale, delay_ticks)
            return TrackWriter(
                self._reporter,
                mpegts.CONTENT_TYPE,
                self._timescale,
                b"",
                folder=folder,
                position=position,
                packaging=segments,
            )
        init = cmaf.video_init(spec.width_px, spec.height_px, self._encoder.configuration, self._timescale, delay_ticks)
        return TrackWriter(self._reporter, "video/mp4", self._timescale, init, folder=folder, position=position)
