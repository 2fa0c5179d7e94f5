"""Encodes the audio track: AAC-LC, exactly as long as the video's timeline and cut at its segment borders."""

from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.packet import Packet

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import TrackOutcome
from services.transcode.engine.packaging import adts, cmaf, mpegts
from services.transcode.engine.packaging.track import TrackWriter
from services.transcode.engine.reading.decoding import Damage, audio_frames
from services.transcode.engine.reading.opening import open_container, sniff_file
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.sound.loudness import LoudnessMeter, amplified, gain_db
from services.transcode.engine.sound.pcm import FRAME_SAMPLES, layout, on_timeline, pcm_frame
from services.transcode.formats import Packaging
from services.transcode.specs import AudioSpec, LoudnessTarget, Timeline

_MEASURING_SHARE = 0.3
"""Of the work, where loudness is measured first: the source is decoded twice, and measured and encoded once."""


def encode_audio(spec: AudioSpec, file: RemoteFile, limits: Limits, reporter: Reporter) -> TrackOutcome:
    """Encodes the track that `spec` asks for. Where it is to have a certain loudness, decodes it once more before, to
    measure it: so memory does not grow with its length.

    Raises:
        RejectedSource: CORRUPT, too much of it cannot be decoded.
    """
    measuring_share = _MEASURING_SHARE if spec.loudness else 0.0
    by_db = _gain_db(spec, spec.loudness, file, limits, reporter) if spec.loudness else 0.0
    damage = Damage()
    frames = _decoded(spec, file, limits, damage, reporter)
    encoder = _open_encoder(spec)
    track = _Track(spec, encoder.extradata or b"", reporter)
    with stage(reporter, "encode") as attributes:
        frame_count = 0
        for planes in frames:
            heard = amplified(planes, by_db) if by_db else planes
            track.add(encoder.encode(pcm_frame(heard, spec, frame_count)))
            frame_count += 1
            reporter.progress(measuring_share + (1 - measuring_share) * frame_count / track.frames_wanted)
        track.add(encoder.encode(None))
        attributes.update(frames=frame_count, bytes_read=file.bytes_fetched)
    damage.check()
    return track.finish()


def _decoded(
    spec: AudioSpec, file: RemoteFile, limits: Limits, damage: Damage, reporter: Reporter
) -> Iterator[list[bytes]]:
    """The track on the timeline, from its start."""
    with stage(reporter, "open") as attributes:
        container = open_container(file, sniff_file(file))
        stream = cast(AudioStream, container.streams[spec.stream_index])
        stream.codec_context.thread_count = limits.threads
        attributes["codec"] = stream.codec_context.name
    return on_timeline(audio_frames(container, stream, damage), spec)


def _gain_db(spec: AudioSpec, target: LoudnessTarget, file: RemoteFile, limits: Limits, reporter: Reporter) -> float:
    """By how much the track is to be turned up or down, after all of it was listened to."""
    damage = Damage()
    frames = _decoded(spec, file, limits, damage, reporter)
    meter = LoudnessMeter(spec)
    frames_wanted = segment_ends(spec.timeline, spec.sample_rate_hz)[-1]
    with stage(reporter, "measure loudness") as attributes:
        for frame_count, planes in enumerate(frames, start=1):
            meter.add(planes)
            reporter.progress(_MEASURING_SHARE * frame_count / frames_wanted)
        measured = meter.measured()
        by_db = gain_db(measured, target)
        if measured is not None:
            attributes["integrated_lufs"] = round(measured.integrated_lufs, 2)
            attributes["true_peak_dbtp"] = round(measured.true_peak_dbtp, 2)
        attributes["gain_db"] = round(by_db, 2)
    damage.check()
    return by_db


def segment_ends(timeline: Timeline, sample_rate_hz: int) -> list[int]:
    """The AAC frame after the last one of each segment, counted with the priming frame as number 0.

    Frame `i` is heard from sample `(i - 1) * 1024` on. Segments are cut at the frame whose start is nearest
    to the video's border, so the two drift by no more than half a frame (11 ms at 48 kHz).
    """
    samples_per_segment = timeline.segment_frames / timeline.frame_rate * sample_rate_hz
    inner = [1 + round(number * samples_per_segment / FRAME_SAMPLES) for number in range(1, timeline.segment_count)]
    total_samples = round(timeline.duration_s * sample_rate_hz)
    return [*inner, 1 + -(-total_samples // FRAME_SAMPLES)]


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
        return min((number - 1) * FRAME_SAMPLES, self._total_samples)


def _opened_writer(spec: AudioSpec, audio_specific_config: bytes, reporter: Reporter) -> TrackWriter:
    if spec.packaging is Packaging.TS:
        # MPEG-TS has no edit lists: the priming frame is there to begin decoding with, and its time is before frame 0.
        segments = mpegts.TsSegments("aac", spec.sample_rate_hz, FRAME_SAMPLES)
        return TrackWriter(reporter, mpegts.CONTENT_TYPE, spec.sample_rate_hz, b"", packaging=segments)
    init = cmaf.audio_init(
        audio_specific_config,
        channels=spec.channels,
        sample_rate_hz=spec.sample_rate_hz,
        bitrate_bps=spec.bitrate_bps,
        priming_ticks=FRAME_SAMPLES,
        language=_language(spec.language),
    )
    return TrackWriter(reporter, "audio/mp4", spec.sample_rate_hz, init)


def _open_encoder(spec: AudioSpec) -> AudioCodecContext:
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate = spec.sample_rate_hz
    encoder.layout = layout(spec.channels)
    encoder.format = "fltp"
    encoder.bit_rate = spec.bitrate_bps
    encoder.time_base = Fraction(1, spec.sample_rate_hz)
    encoder.flags |= Flags.global_header  # the decoder's configuration goes into extradata
    encoder.open()
    return encoder


def _language(language: str | None) -> str:
    """Three small letters; "und" for whatever is not."""
    known = language is not None and len(language) == 3 and language.isascii() and language.islower()
    return language if known and language is not None and language.isalpha() else "und"
