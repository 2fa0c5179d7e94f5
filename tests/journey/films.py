"""Films as people have them, twelve seconds of each kind, made by libav: what a browser is asked to play."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

DURATION_S = 12
RATE = 25
_TICKS = Fraction(1, 1_000)


@dataclass(frozen=True)
class Sound:
    """A track: its encoder, its channels, what the file says is spoken, and the tone that is heard."""

    codec: str = "aac"
    layout: str = "stereo"
    language: str = "und"
    tone_hz: int = 440


@dataclass(frozen=True)
class Film:
    """A kind of source, and what a browser is to show of it.

    Attributes:
        shown: width and height in the browser.
        jitter_ms: by so much every other frame comes late, and every fifth is missing.
    """

    name: str
    container: str
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=lambda: {"preset": "ultrafast"})
    size_px: tuple[int, int] = (480, 270)
    shown: tuple[int, int] = (480, 270)
    rotation: int = 0
    hdr: bool = False
    jitter_ms: int = 0
    sounds: Sequence[Sound] = (Sound(),)

    def __str__(self) -> str:
        return self.name


FILMS = (
    Film("portrait.mov", "mov", rotation=-90, shown=(270, 480)),
    Film(
        "hdr10.mp4", "mp4", "libx265", "yuv420p10le", {"preset": "ultrafast", "x265-params": "log-level=none"}, hdr=True
    ),
    Film("variable-rate.mp4", "mp4", jitter_ms=13),
    Film(
        "interlaced.ts",
        "mpegts",
        size_px=(480, 272),
        shown=(480, 272),
        options={"preset": "ultrafast", "x264-params": "tff=1"},
        sounds=(Sound(codec="mp2"),),
    ),
    Film(
        "vp9.webm",
        "webm",
        "libvpx-vp9",
        options={"deadline": "realtime", "cpu-used": "8"},
        sounds=(Sound(codec="libopus"),),
    ),
    Film(
        "surround.mkv",
        "matroska",
        sounds=(Sound("ac3", "5.1", "eng", 440), Sound("ac3", "5.1", "ger", 660)),
    ),
)


def write(film: Film, path: Path) -> None:
    """Writes the film."""
    with av.open(str(path), "w", format=film.container) as output:
        video = _video(output, film)
        sounds = [_sound(output, sound) for sound in film.sounds]
        for frame in _pictures(film):
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for stream, sound in zip(sounds, film.sounds, strict=True):
            for heard in _tone(stream, sound):
                output.mux(stream.encode(heard))
            output.mux(stream.encode(None))


def _video(output: OutputContainer, film: Film) -> VideoStream:
    stream = output.add_stream(film.codec, rate=RATE)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = film.size_px
    stream.pix_fmt = film.pix_fmt
    stream.options = dict(film.options)
    context = stream.codec_context
    context.time_base = _TICKS
    if film.hdr:
        context.color_primaries, context.color_trc = ColorPrimaries.BT2020, ColorTrc.SMPTE2084
        context.colorspace, context.color_range = Colorspace.BT2020, ColorRange.MPEG
    if film.rotation:
        stream.set_display_rotation(film.rotation)
    return stream


def _sound(output: OutputContainer, sound: Sound) -> AudioStream:
    stream = output.add_stream(sound.codec, rate=48_000, layout=sound.layout)
    assert isinstance(stream, AudioStream)
    stream.metadata["language"] = sound.language
    return stream


def _pictures(film: Film) -> Iterator[VideoFrame]:
    width_px, height_px = film.size_px
    graph = Graph()
    pattern = graph.add("testsrc2", f"size={width_px}x{height_px}:rate={RATE}:duration={DURATION_S}")
    shaped = graph.add("format", film.pix_fmt)
    graph.link_nodes(pattern, shaped, graph.add("buffersink")).configure()
    for number in range(DURATION_S * RATE):
        frame = graph.vpull()
        frame.pts, frame.time_base = number * 1_000 // RATE + number % 2 * film.jitter_ms, _TICKS
        if film.hdr:
            frame.color_trc, frame.color_primaries = ColorTrc.SMPTE2084, ColorPrimaries.BT2020
        if not film.jitter_ms or number % 5 != 3:
            yield frame


def _tone(stream: AudioStream, sound: Sound) -> Iterator[AudioFrame]:
    context = stream.codec_context
    at_s = np.arange(DURATION_S * 48_000) / 48_000
    wave = (0.1 * np.sin(2 * np.pi * sound.tone_hz * at_s)).astype(np.float32)
    whole = AudioFrame.from_ndarray(np.tile(wave, (context.layout.nb_channels, 1)), "fltp", sound.layout)
    whole.sample_rate = 48_000
    resampler = av.AudioResampler(context.format, sound.layout, 48_000, frame_size=context.frame_size or 1_024)
    yield from resampler.resample(whole)
    yield from resampler.resample(None)
