"""Sources as people have them, one of each kind, checked by an independent decoder: nothing is lost, turned, shifted or
discoloured on the way through the engine.

Every source shows the same scene for two seconds: a light mark in its upper left corner, a patch of one colour, and at
one second a flash, together with a beep.
"""

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.transcode.engine.run import probe
from services.transcode.ladder import Step
from services.transcode.source import RejectedSource, RejectionReason
from tests.unit.transcode import ebur128, sources
from tests.unit.transcode.sources import LIMITS, BytesSource, Result

LADDER = (Step("108p", 108, 18, 4_000_000, 6_000_000),)
FLASH_S = (1.0, 1.2)
BEEP_HZ = 1_000
COLOUR = (200, 60, 40)
NTSC, FILM = Fraction(30_000, 1_001), Fraction(24_000, 1_001)


@dataclass(frozen=True)
class Made:
    """A source, and what is to become of it.

    Attributes:
        frames: how many it has; two seconds of them unless told.
        sound: encoder of its sound; None for none.
        video_starts_s: on the container's clock, as `sound_starts_s`; the beep stays with the flash.
        shown: size of the largest rendition.
        corner: where the mark is seen, `upper left` and so on.
        shown_frames: as many as `frames` unless told.
        tolerance: of the colour, in steps of 8 bits.
        amplitude: of the beep in every channel; channels that are mixed down add up, and shall not exceed full scale.
        late_frames: by how many frames the source itself shows the flash late.
        trailer: what its camera appends.
    """

    name: str
    container: str = "mp4"
    codec: str = "libx264"
    rate: Fraction = Fraction(25)
    frames: int | None = None
    size_px: tuple[int, int] = (192, 108)
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    mux: Mapping[str, str] = field(default_factory=dict)
    sound: str | None = "aac"
    sound_rate_hz: int = 48_000
    layout: str = "stereo"
    sound_options: Mapping[str, str] = field(default_factory=dict)
    video_starts_s: Fraction = Fraction(0)
    sound_starts_s: Fraction = Fraction(0)
    rotation: int = 0
    matrix: tuple[int, int, int, int] | None = None
    sample_aspect_ratio: Fraction | None = None
    field_order: str = ""
    colorspace: Colorspace | None = None
    color_range: ColorRange | None = None
    shown: tuple[int, int] = (192, 108)
    corner: str = "upper left"
    shown_frames: int | None = None
    tolerance: int = 14
    amplitude: float = 0.5
    late_frames: int = 0
    trailer: bytes = b""

    def __str__(self) -> str:
        return self.name

    @property
    def frame_count(self) -> int:
        return round(2 * self.rate) if self.frames is None else self.frames


MADE = [
    *(Made(f"h264 at {float(rate):.3f}", rate=rate) for rate in (FILM, Fraction(24), Fraction(25), NTSC, Fraction(30))),
    *(Made(f"h264 at {float(rate):.2f}", rate=rate) for rate in (Fraction(50), 2 * NTSC, Fraction(60))),
    Made("h264 at 120", rate=Fraction(120), shown_frames=120),
    Made("h264 at 15", rate=Fraction(15)),
    Made("index at the front", mux={"movflags": "faststart"}),
    Made("fragmented mp4", mux={"movflags": "frag_keyframe+empty_moov"}),
    Made("mov", container="mov"),
    Made("mov, prores 4:2:2 10 bits", container="mov", codec="prores_ks", pix_fmt="yuv422p10le", sound="pcm_s24le"),
    Made("mov, motion jpeg", container="mov", codec="mjpeg", pix_fmt="yuvj420p", sound="pcm_s16le"),
    Made("hevc", codec="libx265", options={"x265-params": "log-level=none"}),
    Made("hevc, 10 bits", codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=none"}),
    Made("h264, 10 bits 4:2:2", pix_fmt="yuv422p10le"),
    Made("h264, 4:4:4", pix_fmt="yuv444p"),
    Made("mkv", container="matroska"),
    Made("mkv, opus", container="matroska", sound="libopus"),
    Made("mkv, ffv1 of RGB", container="matroska", codec="ffv1", pix_fmt="bgr0", sound="flac"),
    Made("webm, vp8", container="webm", codec="libvpx", sound="libopus", options={"deadline": "realtime"}),
    Made("webm, vp9", container="webm", codec="libvpx-vp9", sound="libopus", options={"deadline": "realtime"}),
    Made("webm, av1", container="webm", codec="libsvtav1", sound="libopus", options={"preset": "9"}),
    Made("mp4, av1", codec="libsvtav1", options={"preset": "9"}),
    Made("ts", container="mpegts"),
    Made("ts, mpeg-2 and mp2", container="mpegts", codec="mpeg2video", sound="mp2", tolerance=18),
    Made("m2ts of a camcorder", container="mpegts", mux={"mpegts_m2ts_mode": "1"}, sound="ac3"),
    Made("avi, mpeg-4 and mp3", container="avi", codec="mpeg4", sound="libmp3lame", tolerance=18, late_frames=1),
    Made("avi, motion jpeg", container="avi", codec="mjpeg", pix_fmt="yuvj420p", sound="pcm_s16le"),
    Made("no sound", sound=None),
    Made("mono", layout="mono"),
    Made("mono at 8 kHz", layout="mono", sound_rate_hz=8_000),
    Made("44.1 kHz", sound_rate_hz=44_100),
    Made("5.1", layout="5.1", amplitude=0.3),
    Made("96 kHz of 24 bits", container="matroska", sound="flac", sound_rate_hz=96_000),
    Made("nine channels that say nothing", container="matroska", sound="pcm_s16le", layout="9 channels"),
    Made(
        "a sound field",
        container="matroska",
        sound="libopus",
        layout="ambisonic 1",
        sound_options={"mapping_family": "2"},
    ),
    Made("a trailer that is no box", trailer=b"\xf0\xff\xff\xffTAG of a dashboard camera"),
    Made("a quarter turn", rotation=-90, shown=(108, 192), corner="upper right"),
    Made("upside down", rotation=180, corner="lower right"),
    Made("three quarters of a turn", rotation=90, shown=(108, 192), corner="lower left"),
    Made("mirrored", matrix=(-1, 0, 0, 1), corner="upper right"),
    Made("mirrored and turned", matrix=(0, 1, 1, 0), shown=(108, 192)),
    Made("portrait", size_px=(108, 192), shown=(108, 192)),
    Made("odd sides", size_px=(193, 109), pix_fmt="yuv444p"),
    Made("pixels that are not square", size_px=(144, 108), sample_aspect_ratio=Fraction(4, 3)),
    Made("pixels that nobody has", container="mov", sample_aspect_ratio=Fraction(60_000, 1)),
    Made("interlaced, upper field first", field_order="tff"),
    Made("interlaced, lower field first", field_order="bff"),
    Made("tagged BT.601", colorspace=Colorspace.ITU601),
    Made("tagged with a matrix that it cannot have", options={"x264-params": "colormatrix=YCgCo"}),
    Made("tagged BT.709", colorspace=Colorspace.ITU709),
    Made("full range", pix_fmt="yuvj420p", color_range=ColorRange.JPEG),
    Made("B-frames and open groups", options={"bf": "4", "x264-params": "open-gop=1:keyint=12:min-keyint=12"}),
    Made("one group of pictures", options={"g": "1000"}),
    Made("one frame", frames=1, sound=None),
    Made("picture starts late", container="matroska", video_starts_s=Fraction(1, 2), sound_starts_s=Fraction(1, 2)),
    Made("sound starts late", container="matroska", sound_starts_s=Fraction(3, 5)),
    Made(
        "ts whose clock starts at an hour",
        container="mpegts",
        video_starts_s=Fraction(3600),
        sound_starts_s=Fraction(3600),
    ),
]


def scene(made: Made, at_s: float) -> NDArray[np.uint8]:
    """The picture at a moment, as RGB."""
    width, height = made.size_px
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[: height // 4, : width // 4] = 230
    picture[height * 5 // 8 : height * 7 // 8, width * 5 // 8 : width * 7 // 8] = COLOUR
    if FLASH_S[0] <= at_s < FLASH_S[1]:
        picture[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8] = 230
    return picture


def made_file(made: Made) -> bytes:
    # To move an index to the front, a muxer reads what it wrote, by its name.
    with (
        tempfile.NamedTemporaryFile() as file,
        av.open(file.name, "w", format=made.container, options=dict(made.mux)) as output,
    ):
        _write(output, made)
        output.close()
        data = Path(file.name).read_bytes()
    return (sources.with_matrix(data, *made.matrix) if made.matrix else data) + made.trailer


def _write(output: OutputContainer, made: Made) -> None:
    video = _video_stream(output, made)
    sound = _sound_stream(output, made)
    for number in range(made.frame_count):
        at_s = number / made.rate
        frame = VideoFrame.from_ndarray(scene(made, float(at_s)), "rgb24").reformat(
            format=made.pix_fmt,
            dst_colorspace=made.colorspace or Colorspace.ITU601,
            dst_color_range=made.color_range,
        )
        frame.pts, frame.time_base = _ticks(made, at_s), video.codec_context.time_base
        output.mux(video.encode(frame))
    output.mux(video.encode(None))
    if sound is not None:
        for heard in _sound(made, sound):
            output.mux(sound.encode(heard))
        output.mux(sound.encode(None))


def _ticks(made: Made, at_s: Fraction) -> int:
    return round((made.video_starts_s + at_s) / _time_base(made))


def _time_base(made: Made) -> Fraction:
    return 1 / made.rate if made.codec in {"mpeg4", "mpeg2video"} or made.container == "avi" else 1 / (made.rate * 100)


def _video_stream(output: OutputContainer, made: Made) -> VideoStream:
    stream = output.add_stream(made.codec, rate=made.rate)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = made.size_px
    stream.pix_fmt = made.pix_fmt
    stream.codec_context.time_base = _time_base(made)
    quick = {"preset": "ultrafast", "crf": "8"} if made.codec in {"libx264", "libx265"} else {}
    fields = {"x264-params": f"{made.field_order}=1"} if made.field_order else {}
    stream.options = {**quick, **fields, **made.options}
    if made.codec not in {"libx264", "libx265", "libsvtav1"}:
        stream.bit_rate = 4_000_000
    if made.sample_aspect_ratio:
        stream.codec_context.sample_aspect_ratio = made.sample_aspect_ratio
    if made.colorspace is not None:
        stream.codec_context.colorspace = made.colorspace
    if made.color_range is not None:
        stream.codec_context.color_range = made.color_range
    if made.rotation:
        stream.set_display_rotation(made.rotation)
    return stream


def _sound_stream(output: OutputContainer, made: Made) -> AudioStream | None:
    if made.sound is None:
        return None
    stream = output.add_stream(
        made.sound, rate=made.sound_rate_hz, layout=made.layout, options=dict(made.sound_options)
    )
    assert isinstance(stream, AudioStream)
    return stream


def _sound(made: Made, stream: AudioStream) -> list[AudioFrame]:
    """Two seconds, or less where the sound starts late, with the beep where the flash is."""
    rate_hz = made.sound_rate_hz
    begins_s = float(made.sound_starts_s - made.video_starts_s)
    at_s = begins_s + np.arange(round((2 - begins_s) * rate_hz)) / rate_hz
    is_on = (at_s >= FLASH_S[0]) & (at_s < FLASH_S[1])
    wave = (made.amplitude * np.sin(2 * np.pi * BEEP_HZ * at_s) * is_on).astype(np.float32)
    channels = stream.codec_context.layout.nb_channels
    frame = AudioFrame.from_ndarray(wave.repeat(channels).reshape(1, -1), "flt", made.layout)
    frame.sample_rate = rate_hz
    frame.time_base = Fraction(1, rate_hz)
    frame.pts = round(made.sound_starts_s * rate_hz)
    resampler = av.AudioResampler(
        stream.codec_context.format, made.layout, rate_hz, frame_size=stream.codec_context.frame_size or None
    )
    return [*resampler.resample(frame), *resampler.resample(None)]


@pytest.mark.parametrize("made", MADE, ids=str)
async def test_nothing_is_lost_turned_shifted_or_discoloured(made: Made) -> None:
    data = made_file(made)
    _, results = await sources.run_plan(data, LADDER)
    picture = next(result for label, result in results.items() if label.endswith("p"))
    frames = sources.decoded(picture.file)
    wanted = made.frame_count if made.shown_frames is None else made.shown_frames
    assert len(frames) == wanted
    rate = min(made.rate, made.rate if made.rate <= 60 else made.rate / 2)
    assert sources.frame_times(frames) == sources.constant_times(wanted, rate)
    assert (frames[0].width, frames[0].height) == made.shown
    assert corner_of(frames[0]) == made.corner
    if made.matrix is None and not made.rotation:
        assert patch_of(frames[wanted // 4]) == pytest.approx(COLOUR, abs=made.tolerance)
    if made.sound is None:
        assert "audio" not in results
        return
    flash_s = next(number for number, frame in enumerate(frames) if is_flash(frame)) / float(rate)
    flash_at_s = FLASH_S[0] + made.late_frames / float(rate)
    assert flash_s == pytest.approx(flash_at_s, abs=0.5 / float(rate) + 1e-6)
    beep_s, level = beep_of(results["audio"])
    assert beep_s == pytest.approx(flash_s, abs=0.040)
    assert 0.2 < level < 0.75
    heard, _ = sources.samples(results["audio"].file)
    assert loudness_of(heard) == pytest.approx(loudness_of(ebur128.downmixed(sources.samples(data)[0])), abs=1)


def corner_of(frame: VideoFrame) -> str:
    picture = sources.luma(frame)
    height, width = picture.shape
    dy, dx = height // 8, width // 8
    corners = {
        "upper left": picture[:dy, :dx],
        "upper right": picture[:dy, -dx:],
        "lower left": picture[-dy:, :dx],
        "lower right": picture[-dy:, -dx:],
    }
    return max(corners, key=lambda name: float(corners[name].mean()))


def patch_of(frame: VideoFrame) -> tuple[float, ...]:
    """The colour of the patch, by BT.709."""
    picture = frame.to_ndarray(format="rgb24")
    height, width, _ = picture.shape
    return tuple(
        map(float, picture[height * 11 // 16 : height * 13 // 16, width * 11 // 16 : width * 13 // 16].mean((0, 1)))
    )


def is_flash(frame: VideoFrame) -> bool:
    picture = sources.luma(frame)
    height, width = picture.shape
    return float(picture[height * 7 // 16 : height * 9 // 16, width * 7 // 16 : width * 9 // 16].mean()) > 128


def loudness_of(samples: NDArray[np.float32]) -> float:
    return ebur128.integrated_lufs(samples, step=480)


def beep_of(result: Result) -> tuple[float, float]:
    """When the beep begins, in seconds, and its amplitude."""
    samples, start_s = sources.samples(result.file)
    loud = np.abs(samples).max(axis=0)
    onset = int(np.flatnonzero(loud > 0.1)[0])
    return onset / 48_000 + float(start_s), float(np.percentile(loud[onset + 2_400 : onset + 7_200], 95))


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
async def test_of_a_file_that_breaks_off_what_is_there_is_shown(container: str) -> None:
    """Their lengths are counted, not claimed: what is left is a shorter video."""
    made = Made("cut", container=container, options={"g": "10"})
    data = made_file(made)
    _, results = await sources.run_plan(data[: len(data) * 3 // 4], LADDER)
    frames = sources.decoded(results["108p"].file)
    assert 10 <= len(frames) < made.frame_count
    assert sources.frame_times(frames) == sources.constant_times(len(frames), made.rate)


async def test_of_a_file_with_an_index_nothing_is_shown_when_it_breaks_off() -> None:
    data = made_file(Made("cut", mux={"movflags": "faststart"}))
    with pytest.raises(RejectedSource) as rejection:
        await probe(BytesSource(data[: len(data) * 3 // 4]), LIMITS)
    assert rejection.value.reason is RejectionReason.TRUNCATED


async def test_sound_alone_is_refused() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        made = Made("sound")
        stream = _sound_stream(output, made)
        assert stream is not None
        for heard in _sound(made, stream):
            output.mux(stream.encode(heard))
        output.mux(stream.encode(None))
    with pytest.raises(RejectedSource) as rejection:
        await probe(BytesSource(buffer.getvalue()), LIMITS)
    assert rejection.value.reason is RejectionReason.NO_VIDEO_TRACK
