"""Encodes a chunk: one stretch of a video is decoded once, and scaled and encoded in all of its renditions.

Chunks of one video are made by workers that know nothing of each other, and joined without a seam: each shows exactly
the slots of the timeline that its spec names, whatever it had to decode to get there, and begins with a key frame.
"""

import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import cast

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import ChunkOutcome, TrackPiece
from services.transcode.engine.reading.decoding import Damage, seconds, video_frames
from services.transcode.engine.reading.opening import open_container, prepare_decoder, sniff_file
from services.transcode.engine.reading.pacing import Timed, paced
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.reading.seeking import video_frames_from
from services.transcode.engine.video.deinterlacing import deinterlaced
from services.transcode.engine.video.encoder import VideoEncoder
from services.transcode.engine.video.picture import Cascade
from services.transcode.engine.video.rendition import Rendition
from services.transcode.source import RejectedSource, RejectionReason
from services.transcode.specs import ChunkSpec

_MIN_DECODED_SHARE = Fraction(9, 10)


def encode_chunk(
    spec: ChunkSpec,
    file: RemoteFile,
    limits: Limits,
    reporter: Reporter,
    opened: Mapping[str, VideoEncoder] = MappingProxyType({}),
) -> ChunkOutcome:
    """Encodes the renditions that `spec` asks for.

    Where pictures are missing at the chunk's end, the last one stays. Encoders that are `opened` already, by label, are
    used.

    Raises:
        RejectedSource: CORRUPT, TRUNCATED or TOO_LONG, as it turns out while decoding.
    """
    if spec.end_frame > limits.max_frames:
        raise RejectedSource(RejectionReason.TOO_LONG, f"the video has more than {limits.max_frames:,} frames")
    source = _Source(spec, file, limits, reporter)
    with stage(reporter, "open") as attributes:
        source.open()
        attributes["codec"] = source.stream.codec_context.name
    encoding = _Encoding(spec, limits.threads, reporter, opened)
    with stage(reporter, "encode") as attributes:
        encoding.run(source)
        attributes.update(encoding.attributes(), bytes_read=file.bytes_fetched)
    source.damage.check(spec.timeline.picture_count)
    with stage(reporter, "flush"):
        return encoding.finish()


class _Source:
    """The pictures of the original from somewhere before the chunk on."""

    def __init__(self, spec: ChunkSpec, file: RemoteFile, limits: Limits, reporter: Reporter) -> None:
        self._reporter = reporter
        self.damage = Damage()
        self._spec = spec
        self._file = file
        self._limits = limits
        self._container: InputContainer | None = None

    @property
    def stream(self) -> VideoStream:
        """The track that is shown, of the container that is open now."""
        return cast(VideoStream, cast(InputContainer, self._container).streams[self._spec.stream_index])

    def open(self) -> tuple[InputContainer, VideoStream]:
        """Opens the original, or opens it anew, from its start."""
        self._container = open_container(self._file, sniff_file(self._file))
        prepare_decoder(self.stream, self._limits)
        return self._container, self.stream

    def frames(self) -> Iterator[VideoFrame]:
        """Frames in order of presentation; the first one is shown before the chunk begins, or begins it."""
        timeline = self._spec.timeline
        if self._spec.first_frame == 0:
            frames = video_frames(cast(InputContainer, self._container), self.stream, self.damage)
        else:
            begins_s = timeline.origin_s + self._spec.first_frame / timeline.frame_rate
            frames = video_frames_from(begins_s, self.open, self.damage, lambda: self._reporter.progress(0.0))
        return deinterlaced(frames, cast(Fraction, self.stream.time_base))


class _Encoding:
    """Pictures go in by time, segments of all renditions come out."""

    def __init__(self, spec: ChunkSpec, threads: int, reporter: Reporter, opened: Mapping[str, VideoEncoder]) -> None:
        self._spec = spec
        self._reporter = reporter
        self._cascade = Cascade([(rendition.width_px, rendition.height_px) for rendition in spec.renditions])
        self._renditions = [
            Rendition(one, spec, opened.get(one.label) or VideoEncoder(one, spec.timeline, threads), reporter)
            for one in spec.renditions
        ]
        self._reached = spec.first_frame
        self._decode_s = self._scale_s = self._encode_s = 0.0

    def run(self, source: _Source) -> None:
        """Shows every slot of the chunk once.

        Raises:
            RejectedSource: there is too little to show.
        """
        spec, timeline = self._spec, self._spec.timeline
        time_base = source.stream.time_base
        shown: VideoFrame | None = None
        timed = (_timed(frame, time_base) for frame in self._decoding(source.frames()))
        for frame, slots in paced(timed, timeline.frame_rate, timeline.origin_s):
            shown = frame
            self._show(frame, range(max(slots.start, self._reached), min(slots.stop, spec.end_frame)))
            if self._reached >= spec.end_frame:
                return
        self._check_length(shown)
        self._show(cast(VideoFrame, shown), range(self._reached, spec.end_frame))

    def finish(self) -> ChunkOutcome:
        """Empties the encoders and ends the pieces."""
        return ChunkOutcome(
            tuple(
                TrackPiece(spec.label, rendition.finish())
                for spec, rendition in zip(self._spec.renditions, self._renditions, strict=True)
            )
        )

    def attributes(self) -> dict[str, float]:
        """Where the time went, for the stage: spans of single frames would be thousands."""
        return {
            "decode_s": round(self._decode_s, 3),
            "scale_s": round(self._scale_s, 3),
            "encode_s": round(self._encode_s, 3),
            "frames": self._reached - self._spec.first_frame,
        }

    def _decoding(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        while True:
            began_s = time.perf_counter()
            frame = next(frames, None)
            self._decode_s += time.perf_counter() - began_s
            if frame is None:
                return
            yield frame

    def _show(self, frame: VideoFrame, slots: range) -> None:
        spec = self._spec
        if slots:
            began_s = time.perf_counter()
            scaled = self._cascade.scaled(frame)
            scaled_s = time.perf_counter()
            for rendition, picture in zip(self._renditions, scaled, strict=True):
                for slot in slots:
                    rendition.add(picture, slot)
            self._scale_s += scaled_s - began_s
            self._encode_s += time.perf_counter() - scaled_s
            self._reached = slots.stop
        self._reporter.progress((self._reached - spec.first_frame) / (spec.end_frame - spec.first_frame))

    def _check_length(self, shown: VideoFrame | None) -> None:
        if shown is None:
            raise RejectedSource(RejectionReason.CORRUPT, "not one picture of the video can be decoded")
        timeline = self._spec.timeline
        # A second is forgiven to the shortest: durations in containers are often rounded up.
        pictures = timeline.picture_count
        if self._reached < pictures * _MIN_DECODED_SHARE - timeline.frame_rate:
            found_s, expected_s = (float(n / timeline.frame_rate) for n in (self._reached, pictures))
            raise RejectedSource(
                RejectionReason.TRUNCATED,
                f"the video should last {expected_s:.1f} s, but nothing is there after {found_s:.1f} s",
            )


def _timed(frame: VideoFrame, time_base: Fraction | None) -> Timed[VideoFrame]:
    base = frame.time_base or time_base
    return Timed(frame, seconds(frame.pts, base), seconds(frame.duration, base) or Fraction(0))
