"""Sound that goes on after the last picture is heard, and the picture stays.

Recorders of screens send none while nothing changes.
"""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from services.transcode.engine.run import probe
from services.transcode.ladder import Step
from services.transcode.plan import Fleet
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource

LADDER = (Step("108p", 108, 18, 4_000_000, 6_000_000),)
RATE, RATE_HZ = 25, 48_000


def recording(container: str, pictures_s: int | Fraction, sound_s: Fraction, gap_s: int = 0) -> bytes:
    """Pictures that grow lighter, and a tone; after a gap, if any, one more second of it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 192, 108, "yuv420p"
        sound = output.add_stream("aac", rate=RATE_HZ, layout="mono")
        for number in range(int(pictures_s * RATE)):
            grey = np.full((108, 192, 3), 40 + number, np.uint8)
            output.mux(video.encode(VideoFrame.from_ndarray(grey, "rgb24")))
        output.mux(video.encode(None))
        for begin_s, end_s in [(Fraction(0), sound_s), *([(sound_s + gap_s, sound_s + gap_s + 1)] if gap_s else [])]:
            for at in range(round(begin_s * RATE_HZ), round(end_s * RATE_HZ), 1024):
                wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(at, at + 1024) / RATE_HZ)
                frame = AudioFrame.from_ndarray(wave.astype(np.float32).reshape(1, -1), "fltp", "mono")
                frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), at
                output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("container", ["matroska", "mp4"])
@pytest.mark.parametrize("slots", [1, 2])
async def test_the_last_picture_stays_while_sound_goes_on(container: str, slots: int) -> None:
    """With two workers, the second chunk begins long after the last picture."""
    data = recording(container, 2, Fraction(18))
    source, results = await sources.run_plan(data, LADDER, fleet=Fleet(slots))
    assert source.video is not None
    assert source.duration_s == pytest.approx(18, abs=0.1)
    assert source.video.still_s == pytest.approx(16, abs=0.1)
    frames = sources.decoded(results["108p"].file)
    assert len(frames) == pytest.approx(18 * RATE, abs=2)
    assert sources.frame_times(frames) == sources.constant_times(len(frames), Fraction(RATE))
    light = [float(sources.luma(frame).mean()) for frame in frames]
    assert light[2 * RATE - 1] > light[0] + 30
    assert light[2 * RATE :] == pytest.approx([light[2 * RATE - 1]] * (len(frames) - 2 * RATE), abs=1)
    heard, _ = sources.samples(results["audio"].file)
    assert np.abs(heard[0, 17 * RATE_HZ : round(17.9 * RATE_HZ)]).max() > 0.4


@pytest.mark.parametrize("container", ["matroska", "mp4"])
async def test_what_an_encoder_pads_lengthens_nothing(container: str) -> None:
    source = await probe(BytesSource(recording(container, 2, Fraction(29, 10))), LIMITS)
    assert source.duration_s == 2
    assert source.video is not None
    assert source.video.still_s == 0


@pytest.mark.parametrize("container", ["matroska", "mp4"])
async def test_a_stray_sound_long_after_the_film_does_not_count(container: str) -> None:
    source = await probe(BytesSource(recording(container, 2, Fraction(4), gap_s=600)), LIMITS)
    assert source.duration_s == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("container", ["matroska", "mp4"])
async def test_one_picture_is_shown_as_long_as_the_sound_lasts(container: str) -> None:
    source, results = await sources.run_plan(recording(container, Fraction(1, RATE), Fraction(5)), LADDER)
    assert source.video is not None
    assert source.duration_s == pytest.approx(5, abs=0.1)
    assert len(sources.decoded(results["108p"].file)) == pytest.approx(5 * float(source.video.frame_rate), abs=3)
