"""Encodes the audio track: AAC-LC, exactly as long as the video's timeline and cut at its segment borders."""

from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from services.transcode.engine import adts, cmaf, mpegts
from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.decoding import Damage, audio_frames, seconds
from services.transcode.engine.limits import Limits
from services.transcode.engine.opening import open_container, sniff_file
from services.transcode.engine.outcome import TrackOutcome
from services.transcode.engine.remote_file import RemoteFile
from services.transcode.engine.track import TrackWriter
from services.transcode.ladder import Packaging
from services.transcode.plan import AudioSpec, Timeline

_FRAME_SAMPLES = 1024
"""AAC-LC's frame. The encoder's first frame is priming: it holds what comes before the first sample."""

_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: the decoder's configuration goes into extradata
_SAMPLE_BYTES = 4
_JUMP_S = 1
"""So far back, a time is that of another clock, as for pictures."""
_TOLERANCE_S = Fraction(30, 1000)
"""Timestamps that stray less are jitter, and are left alone: each correction can be heard as a click."""


def encode_audio(spec: AudioSpec, file: RemoteFile, limits: Limits, reporter: Reporter) -> TrackOutcome:
    """Encodes the track that `spec` asks for.

    Raises:
        RejectedSource: CORRUPT, too much of it cannot be decoded.
    """
    with stage(reporter, "open") as attributes:
        container = open_container(file, sniff_file(file))
        stream = cast(AudioStream, container.streams[spec.stream_index])
        stream.codec_context.thread_count = limits.threads
        attributes["codec"] = stream.codec_context.name
    encoder = _open_encoder(spec)
    track = _Track(spec, encoder.extradata or b"", reporter)
    damage = Damage()
    with stage(reporter, "encode") as attributes:
        frame_count = 0
        for planes in on_timeline(audio_frames(container, stream, damage), spec):
            track.add(encoder.encode(_frame(planes, spec, frame_count)))
            frame_count += 1
            reporter.progress(frame_count / track.frames_wanted)
        track.add(encoder.encode(None))
        attributes.update(frames=frame_count, bytes_read=file.bytes_fetched)
    damage.check()
    return track.finish()


def segment_ends(timeline: Timeline, sample_rate_hz: int) -> list[int]:
    """The AAC frame after the last one of each segment, counted with the priming frame as number 0.

    Frame `i` is heard from sample `(i - 1) * 1024` on. Segments are cut at the frame whose start is nearest
    to the video's border, so the two drift by no more than half a frame (11 ms at 48 kHz).
    """
    samples_per_segment = timeline.segment_frames / timeline.frame_rate * sample_rate_hz
    inner = [1 + round(number * samples_per_segment / _FRAME_SAMPLES) for number in range(1, timeline.segment_count)]
    total_samples = round(timeline.duration_s * sample_rate_hz)
    return [*inner, 1 + -(-total_samples // _FRAME_SAMPLES)]


def on_timeline(decoded: Iterator[AudioFrame], spec: AudioSpec) -> Iterator[list[bytes]]:
    """The whole timeline in frames of 1,024 samples, whatever the source has to offer.

    Yields planar 32-bit floats, a `bytes` a channel. Gaps are silent, overlaps and what lies outside the
    timeline are cut, the last frame is filled up with silence.
    """
    buffer = _Buffer(spec.channels, round(spec.timeline.duration_s * spec.sample_rate_hz))
    resampler = AudioResampler()
    input_format: tuple[int, str, str] | None = None
    expected_s: Fraction | None = None
    shift_s = Fraction(0)
    position = 0
    for frame in decoded:
        if buffer.is_full:
            break
        at_s = seconds(frame.pts, frame.time_base)
        if at_s is not None and expected_s is not None and at_s + shift_s < expected_s - _JUMP_S:
            shift_s = expected_s - at_s  # the clock began anew, where the stream was cut together
        at_s = None if at_s is None else at_s + shift_s
        jumped = at_s is not None and (expected_s is None or abs(at_s - expected_s) > _TOLERANCE_S)
        frame_format = (frame.sample_rate, frame.layout.name, frame.format.name)
        if jumped or frame_format != input_format:
            # What the old resampler still holds belongs before the jump.
            if input_format is not None:
                position = buffer.put(position, resampler.resample(None))
            resampler = AudioResampler(format="fltp", layout=_layout(spec.channels), rate=spec.sample_rate_hz)
            input_format = frame_format
        if at_s is not None and jumped:
            position = round((at_s - spec.timeline.origin_s) * spec.sample_rate_hz)
            expected_s = at_s
        if expected_s is not None:
            expected_s += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        position = buffer.put(position, resampler.resample(frame))
        yield from buffer.full_frames()
    if input_format is not None:
        buffer.put(position, resampler.resample(None))
    buffer.fill_up()
    yield from buffer.full_frames()


class _Buffer:
    """Samples from the start of the timeline on, until they leave in full frames."""

    def __init__(self, channels: int, total_samples: int) -> None:
        self._planes = [bytearray() for _ in range(channels)]
        self._total = total_samples
        self._filled = 0

    @property
    def is_full(self) -> bool:
        """Whether the timeline's end is reached."""
        return self._filled >= self._total

    def put(self, position: int, frames: list[AudioFrame]) -> int:
        """Puts frames at a position, which may be negative; returns the position after them."""
        for frame in frames:
            self._pad(min(position, self._total) - self._filled)
            start = self._filled - position
            stop = min(frame.samples, self._total - position)
            if start < stop:
                for buffer, plane in zip(self._planes, frame.planes, strict=True):
                    buffer.extend(bytes(plane)[start * _SAMPLE_BYTES : stop * _SAMPLE_BYTES])
                self._filled += stop - start
            position += frame.samples
        return position

    def fill_up(self) -> None:
        """Silence to the timeline's end, and on to the end of its last frame."""
        self._pad(self._total - self._filled)
        self._pad(-self._total % _FRAME_SAMPLES)

    def full_frames(self) -> Iterator[list[bytes]]:
        """Takes out whole frames."""
        size = _FRAME_SAMPLES * _SAMPLE_BYTES
        while len(self._planes[0]) >= size:
            yield [bytes(buffer[:size]) for buffer in self._planes]
            for buffer in self._planes:
                del buffer[:size]

    def _pad(self, count: int) -> None:
        if count > 0:
            for buffer in self._planes:
                buffer.extend(bytes(count * _SAMPLE_BYTES))
            self._filled += count


class _Track:
    """Collects coded frames and writes a segment whenever one is complete."""

    def __init__(self, spec: AudioSpec, audio_specific_config: bytes, reporter: Reporter) -> None:
        self._spec = spec
        self._total_samples = round(spec.timeline.duration_s * spec.sample_rate_hz)
        self._ends = segment_ends(spec.timeline, spec.sample_rate_hz)
        self._segments_written = 0
        self._first = 0
        self._coded: list[bytes] = []
        self._writer = _opened_writer(spec, audio_specific_config, reporter)
        self._adts = adts.Header(audio_specific_config) if spec.packaging is Packaging.TS else None

    @property
    def frames_wanted(self) -> int:
        """Coded frames of the whole track, priming included."""
        return self._ends[-1]

    def add(self, packets: "list[Packet[AudioStream]]") -> None:
        """Takes coded frames in order. Frames after the last segment's end are dropped."""
        self._coded.extend(bytes(packet) for packet in packets)
        while self._segments_written < len(self._ends):
            count = self._ends[self._segments_written] - self._first
            if len(self._coded) < count:
                return
            self._write_segment(self._coded[:count])
            del self._coded[:count]

    def finish(self) -> TrackOutcome:
        """Ends the track."""
        if self._segments_written < len(self._ends):
            msg = f"{self.frames_wanted} AAC frames are needed, {self._first + len(self._coded)} were made"
            raise RuntimeError(msg)
        target_s = self._spec.timeline.segment_frames / self._spec.timeline.frame_rate
        return self._writer.outcome("mp4a.40.2", target_s, channels=self._spec.channels)

    def _write_segment(self, coded: list[bytes]) -> None:
        end = self._first + len(coded)
        samples = [
            # The last frame may reach past the timeline's end: it is declared as long as it is heard.
            cmaf.Sample(
                self._packaged(data), self._heard_until(number + 1) - self._heard_until(number), 0, is_sync=True
            )
            for number, data in enumerate(coded, start=self._first)
        ]
        heard = self._heard_until(end) - max(0, self._heard_until(self._first))
        self._writer.write_segment(samples, heard, keyframe_apart=False)
        self._segments_written += 1
        self._first = end

    def _packaged(self, data: bytes) -> bytes:
        return data if self._adts is None else self._adts.before(data)

    def _heard_until(self, number: int) -> int:
        """The timeline's sample at which coded frame `number` begins; priming, number 0, lies before it."""
        return min((number - 1) * _FRAME_SAMPLES, self._total_samples)


def _opened_writer(spec: AudioSpec, audio_specific_config: bytes, reporter: Reporter) -> TrackWriter:
    if spec.packaging is Packaging.TS:
        # MPEG-TS has no edit lists: the priming frame is there to begin decoding with, and its time is before frame 0.
        segments = mpegts.TsSegments("aac", spec.sample_rate_hz, _FRAME_SAMPLES)
        return TrackWriter(reporter, mpegts.CONTENT_TYPE, spec.sample_rate_hz, b"", packaging=segments)
    init = cmaf.audio_init(
        audio_specific_config,
        channels=spec.channels,
        sample_rate_hz=spec.sample_rate_hz,
        bitrate_bps=spec.bitrate_bps,
        priming_ticks=_FRAME_SAMPLES,
        language=_language(spec.language),
    )
    return TrackWriter(reporter, "audio/mp4", spec.sample_rate_hz, init)


def _frame(planes: list[bytes], spec: AudioSpec, number: int) -> AudioFrame:
    frame = AudioFrame(format="fltp", layout=_layout(spec.channels), samples=_FRAME_SAMPLES)
    frame.sample_rate = spec.sample_rate_hz
    frame.time_base = Fraction(1, spec.sample_rate_hz)
    frame.pts = number * _FRAME_SAMPLES
    for plane, data in zip(frame.planes, planes, strict=True):
        plane.update(data)
    return frame


def _open_encoder(spec: AudioSpec) -> AudioCodecContext:
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate = spec.sample_rate_hz
    encoder.layout = _layout(spec.channels)
    encoder.format = "fltp"
    encoder.bit_rate = spec.bitrate_bps
    encoder.time_base = Fraction(1, spec.sample_rate_hz)
    encoder.flags |= _GLOBAL_HEADER
    encoder.open()
    return encoder


def _layout(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"


def _language(language: str | None) -> str:
    """Three small letters; "und" for whatever is not."""
    known = language is not None and len(language) == 3 and language.isascii() and language.islower()
    return language if known and language is not None and language.isalpha() else "und"
