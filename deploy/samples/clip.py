"""Writes the generated clips: H.264 High with AAC stereo, at what a phone would spend on it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from deploy.samples.scenes import Luma, Picture

_SAMPLE_RATE_HZ = 48_000
_BEEP_HZ, _BEEP_S = 1000.0, 0.1
_ENCODER_THREADS = 2
"""Fixed, not the machine's: the number of threads changes x264's decisions, and thereby the file.

No bit rate cap, for the same reason: with one, decisions also depend on which thread is ahead.
"""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip to generate. Scenes change every `scene_frames`."""

    name: str
    width_px: int
    height_px: int
    frame_rate: int
    frame_count: int
    scene_frames: int
    crf: int


CLIPS = (
    Clip("millrace-1080p30.mp4", 1920, 1080, 30, 360, 90, 25),
    Clip("clip-360p.mp4", 640, 360, 30, 75, 25, 23),
)


def write_clip(clip: Clip, path: Path) -> None:
    """Writes one clip; the same bytes each time with the same libraries."""
    picture = Picture(clip.width_px, clip.height_px, clip.frame_rate, clip.scene_frames)
    sound = _sound(clip.frame_count / clip.frame_rate)
    with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as container:
        video, audio = _add_video(container, clip), _add_audio(container)
        sent_samples = 0
        for number in range(clip.frame_count):
            for packet in video.encode(_video_frame(picture.frame(number), number, clip)):
                container.mux(packet)
            until = min(sound.shape[1], (number + 1) * _SAMPLE_RATE_HZ // clip.frame_rate)
            sent_samples = _send_sound(container, audio, sound, sent_samples, until)
        for packet in video.encode(None):
            container.mux(packet)
        _send_sound(container, audio, sound, sent_samples, sound.shape[1])
        for audio_packet in audio.encode(None):
            container.mux(audio_packet)


def _add_video(container: OutputContainer, clip: Clip) -> VideoStream:
    stream = container.add_stream("libx264", rate=clip.frame_rate)
    stream.width, stream.height, stream.pix_fmt = clip.width_px, clip.height_px, "yuv420p"
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
    context.color_range = 1  # limited
    context.thread_count = _ENCODER_THREADS
    stream.options = {
        "preset": "superfast",
        "profile": "high",
        "crf": str(clip.crf),
        "bf": "2",
        "g": str(clip.frame_rate * 2),
        "x264-params": "8x8dct=1:cabac=1",
    }
    return stream


def _add_audio(container: OutputContainer) -> AudioStream:
    stream = container.add_stream("aac", rate=_SAMPLE_RATE_HZ, layout="stereo")
    stream.bit_rate = 160_000
    return stream


def _video_frame(planes: tuple[Luma, Luma, Luma], number: int, clip: Clip) -> VideoFrame:
    frame = VideoFrame(clip.width_px, clip.height_px, "yuv420p")
    for plane, data in zip(frame.planes, planes, strict=True):
        padded = np.zeros((data.shape[0], plane.line_size), np.uint8)
        padded[:, : data.shape[1]] = data
        plane.update(padded.tobytes())
    frame.pts = number
    frame.time_base = Fraction(1, clip.frame_rate)
    return frame


def _send_sound(
    container: OutputContainer, stream: AudioStream, sound: NDArray[np.float32], start: int, stop: int
) -> int:
    """Encodes whole AAC frames from `start` up to `stop` (to the end there, whole or not); returns how
    far.
    """
    size = 1024
    while start + size <= stop or (stop == sound.shape[1] and start < stop):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound[:, start : min(start + size, stop)]), "fltp", "stereo"
        )
        frame.sample_rate = _SAMPLE_RATE_HZ
        frame.time_base = Fraction(1, _SAMPLE_RATE_HZ)
        frame.pts = start
        for packet in stream.encode(frame):
            container.mux(packet)
        start += frame.samples
    return start


def _sound(duration_s: float) -> NDArray[np.float32]:
    """A quiet chord that drifts between the channels, a breath of noise, and a beep on every full second."""
    rng = np.random.default_rng(7)
    t = np.arange(round(duration_s * _SAMPLE_RATE_HZ)) / _SAMPLE_RATE_HZ
    chord = sum(np.sin(2 * np.pi * hertz * t + hertz) for hertz in (196.0, 246.94, 293.66, 392.0))
    balance = 0.5 + 0.4 * np.sin(2 * np.pi * t / 5)
    noise = rng.standard_normal((2, len(t))) * 0.002
    beep = np.where(t % 1 < _BEEP_S, 0.5 * np.sin(2 * np.pi * _BEEP_HZ * t), 0)
    channels = np.stack([chord * balance, chord * (1 - balance)]) * 0.01
    return (channels + noise + beep).astype(np.float32)
