"""Loudness as a setting: measured over what is heard, reached by one gain, checked by a meter of our own."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.transcode.engine.run import probe
from services.transcode.engine.sound.loudness import Loudness, LoudnessMeter, gain_db
from services.transcode.plan import Output, plan
from services.transcode.specs import AudioSpec, LoudnessTarget, Timeline
from tests.unit.transcode import ebur128, sources
from tests.unit.transcode.sources import LIMITS, BytesSource, Result

SPEECH, BROADCAST = LoudnessTarget(-16.0, -1.0), LoudnessTarget(-23.0, -1.0)
ENCODER_DB = 0.5
"""A lossy encoder makes other peaks than it was given; the ceiling leaves room for that."""


@dataclass(frozen=True)
class Sound:
    """One track: channels by samples."""

    wave: NDArray[np.float32]
    layout: str = "stereo"
    rate_hz: int = 48_000
    codec: str = "pcm_f32le"
    language: str = "und"


def noise(seconds: float, level_db: float, *, channels: int = 2, rate_hz: int = 48_000) -> NDArray[np.float32]:
    """Noise that falls with frequency as speech does and comes and goes, so that gates and blocks matter."""
    count = round(seconds * rate_hz)
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal((channels, count)))
    frequencies_hz = np.fft.rfftfreq(count, 1 / rate_hz)
    shape = np.where(frequencies_hz < 80, 0, 1 / np.maximum(frequencies_hz, 300)) * (frequencies_hz < 3_400)
    wave = np.fft.irfft(spectrum * shape, count)
    wave *= np.where(np.arange(count) // rate_hz % 3 == 2, 0.1, 1.0)  # every third second is 20 dB quieter
    return np.asarray(wave / np.sqrt((wave**2).mean()) * 10 ** (level_db / 20), np.float32)


def film(sounds: Sequence[Sound], duration_s: int) -> bytes:
    """A slide show with these tracks of sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        video = output.add_stream("libx264", rate=Fraction(2))
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        tracks = [_track(output.add_stream(sound.codec, rate=sound.rate_hz, layout=sound.layout)) for sound in sounds]
        for track, sound in zip(tracks, sounds, strict=True):
            track.metadata["language"] = sound.language
        for number in range(2 * duration_s):
            frame = VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for track, sound in zip(tracks, sounds, strict=True):
            whole = AudioFrame.from_ndarray(sound.wave, "fltp", sound.layout)
            whole.sample_rate = sound.rate_hz
            codec = track.codec_context
            size = codec.frame_size or 4_096
            resampler = av.AudioResampler(codec.format, sound.layout, sound.rate_hz, frame_size=size)
            for piece in [*resampler.resample(whole), *resampler.resample(None)]:
                output.mux(track.encode(piece))
            output.mux(track.encode(None))
    return buffer.getvalue()


def _track(stream: object) -> AudioStream:
    assert isinstance(stream, AudioStream)
    return stream


async def heard(data: bytes, target: LoudnessTarget | None, number: int = 0) -> Result:
    """A track as it comes out."""
    specs = plan(await probe(BytesSource(data), LIMITS), output=Output(loudness=target))
    return await sources.run([spec for spec in specs if isinstance(spec, AudioSpec)][number], data)


def lufs(result: Result) -> float:
    return ebur128.integrated_lufs(sources.samples(result.file)[0])


def peak(result: Result) -> float:
    return ebur128.true_peak_dbtp(sources.samples(result.file)[0])


def test_the_meter_of_the_tests_agrees_with_ebu_tech_3341() -> None:
    """Cases 1 and 2: a tone of 1 kHz in both channels has the loudness of its peak, by definition of the curve."""
    at_s = np.arange(20 * 48_000) / 48_000
    tone = np.tile(np.sin(2 * np.pi * 1_000 * at_s), (2, 1)).astype(np.float32)
    for level in (-23.0, -33.0):
        assert ebur128.integrated_lufs(tone * np.float32(10 ** (level / 20))) == pytest.approx(level, abs=0.1)


@pytest.mark.parametrize(
    ("measured", "gain"),
    [
        (Loudness(-30.0, -20.0), 14.0),  # up to the target
        (Loudness(-10.0, -3.0), -6.0),  # down to it
        (Loudness(-16.0, -5.0), 0.0),
        (Loudness(-30.0, -8.0), 7.0),  # peaks leave no more room
        (Loudness(-16.0, 1.5), -2.5),  # loud enough, with peaks beyond the ceiling
        (Loudness(-60.0, -50.0), 20.0),  # noise is not made a roar
        (None, 0.0),  # silence
    ],
)
def test_one_gain_as_far_as_peaks_allow(measured: Loudness | None, gain: float) -> None:
    assert gain_db(measured, SPEECH) == pytest.approx(gain)


SOUNDS = {
    "quiet stereo": Sound(noise(6, -34)),
    "loud stereo": Sound(noise(6, -9)),
    "44.1 kHz": Sound(noise(6, -30, rate_hz=44_100), rate_hz=44_100),
    "mono": Sound(noise(6, -30, channels=1), "mono"),
    "mono at 8 kHz": Sound(noise(6, -30, channels=1, rate_hz=8_000), "mono", 8_000),
    "5.1": Sound(noise(6, -34, channels=6), "5.1"),
    "5.1 of dialogue alone": Sound(
        noise(6, -26, channels=6) * np.array([[0], [0], [1], [0], [0], [0]], np.float32), "5.1"
    ),
}


@pytest.mark.parametrize(
    ("name", "target"), [*((name, SPEECH) for name in SOUNDS), ("loud stereo", BROADCAST), ("mono", BROADCAST)]
)
async def test_sound_gets_the_loudness_that_was_set(name: str, target: LoudnessTarget) -> None:
    data = film([SOUNDS[name]], 6)
    result = await heard(data, target)
    assert lufs(result) == pytest.approx(target.integrated_lufs, abs=0.5)
    assert peak(result) <= target.true_peak_ceiling_dbtp + ENCODER_DB
    assert result.progress == sorted(result.progress)


async def test_without_the_setting_sound_is_as_loud_as_it_came() -> None:
    sound = SOUNDS["quiet stereo"]
    result = await heard(film([sound], 6), None)
    assert lufs(result) == pytest.approx(ebur128.integrated_lufs(sound.wave), abs=0.5)
    assert "measure loudness" not in {stage.name for stage in result.stages}


async def test_each_language_is_measured_for_itself() -> None:
    data = film([Sound(noise(8, -40), language="eng"), Sound(noise(8, -12), language="deu")], 8)
    for number in (0, 1):
        assert lufs(await heard(data, BROADCAST, number)) == pytest.approx(-23.0, abs=0.5)


async def test_peaks_stay_below_the_ceiling_and_the_mix_stays_as_it_was() -> None:
    """A clap in quiet sound leaves little room: all is turned up by that much, and the clap is not flattened."""
    wave = noise(10, -40)
    wave[:, 240_000:240_480] += np.float32(0.5) * np.sin(2 * np.pi * np.arange(480) / 48).astype(np.float32)
    result = await heard(film([Sound(wave)], 10), SPEECH)
    came_db, clap_dbtp = ebur128.integrated_lufs(wave), ebur128.true_peak_dbtp(wave)
    assert peak(result) == pytest.approx(SPEECH.true_peak_ceiling_dbtp, abs=ENCODER_DB)
    assert lufs(result) - came_db == pytest.approx(SPEECH.true_peak_ceiling_dbtp - clap_dbtp, abs=0.5)


def test_a_peak_in_the_last_moments_counts() -> None:
    """The filter tells its figures every tenth of a second; this peak comes after the last time."""
    timeline = Timeline(Fraction(25), 25, 50, 100, Fraction(0))
    meter = LoudnessMeter(AudioSpec("audio", 1, 64_000, 48_000, 1, None, timeline, 1, loudness=SPEECH))
    hum = 0.01 * np.sin(2 * np.pi * np.arange(46 * 1_024) / 48).astype(np.float32)
    hum[-960:] *= np.float32(50)
    for frame in hum.reshape(46, 1_024):
        meter.add([frame.tobytes()])
    measured = meter.measured()
    assert measured is not None
    assert measured.integrated_lufs == pytest.approx(ebur128.integrated_lufs(hum[None, :-1_024]), abs=0.1)
    assert measured.true_peak_dbtp == pytest.approx(ebur128.true_peak_dbtp(hum[None]), abs=0.3)


@pytest.mark.parametrize("level_db", [-85.0, None], ids=["nearly silent", "silent"])
async def test_silence_is_left_alone(level_db: float | None) -> None:
    wave = np.zeros((2, 4 * 48_000), np.float32) if level_db is None else noise(4, level_db)
    data = film([Sound(wave)], 4)
    assert (await heard(data, SPEECH)).file == (await heard(data, None)).file


async def test_what_is_cut_off_is_not_measured() -> None:
    """Roaring after the last picture would turn the film down."""
    wave = np.concatenate([noise(6, -30), noise(9, -6)], axis=1)
    assert lufs(await heard(film([Sound(wave)], 6), BROADCAST)) == pytest.approx(-23.0, abs=0.5)


async def test_the_flash_and_the_beep_stay_together(sample: bytes) -> None:
    _, audio = sources.specs_of(await probe(BytesSource(sample), LIMITS))
    onsets = []
    for target in (None, SPEECH):
        sound, start_s = sources.samples((await sources.run(replace(audio, loudness=target), sample)).file)
        assert start_s == 0
        envelope = np.abs(sound).max(axis=0)
        loud = np.flatnonzero(envelope > 0.4 * envelope.max())
        onsets.append([loud[0] / 48_000, *(loud[1:][np.diff(loud) > 24_000] / 48_000)])
    assert onsets[1] == pytest.approx([0, 1, 2, 3, 4], abs=0.040)
    assert onsets[1] == pytest.approx(onsets[0], abs=0.001)


async def test_the_trace_says_what_was_measured() -> None:
    sound = SOUNDS["quiet stereo"]
    result = await heard(film([sound], 6), BROADCAST)
    found = next(stage for stage in result.stages if stage.name == "measure loudness").attributes
    assert found["integrated_lufs"] == pytest.approx(ebur128.integrated_lufs(sound.wave), abs=0.2)
    assert found["true_peak_dbtp"] == pytest.approx(ebur128.true_peak_dbtp(sound.wave), abs=0.3)
    assert found["gain_db"] == pytest.approx(-23.0 - float(found["integrated_lufs"]), abs=0.02)


@pytest.mark.parametrize("target", [None, SPEECH], ids=["as it came", "-16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
async def test_samples_that_are_no_sound_do_no_harm(value: float, target: LoudnessTarget | None) -> None:
    wave = noise(4, -30)
    wave[:, 48_000:48_010] = value
    heard_again, _ = sources.samples((await heard(film([Sound(wave)], 4), target)).file)
    assert np.isfinite(heard_again).all()
    assert np.abs(heard_again[:, 96_000:]).max() > 0


async def test_memory_does_not_grow_with_the_length() -> None:
    peaks = []
    for duration_s in (20, 140):
        wave = np.tile(noise(20, -30, channels=1, rate_hz=8_000), (1, duration_s // 20))
        result = await heard(film([Sound(wave, "mono", 8_000)], duration_s), SPEECH)
        stages = {stage.name: stage for stage in result.stages}
        peaks.append(int(stages["child"].attributes["max_rss_bytes"]))
    # Kept as PCM, the longer one would need 120 s x 48,000 x 4 bytes more.
    assert peaks[1] - peaks[0] < 15_000_000
