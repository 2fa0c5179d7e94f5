"""Sound is laid on the timeline as it plays, however much of it is missing."""

import tracemalloc
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from av.audio.frame import AudioFrame

from services.transcode.engine.sound.pcm import FRAME_SAMPLES, on_timeline
from services.transcode.specs import AudioSpec, Timeline

RATE_HZ = 48_000
DURATION_S = 600
SPEC = AudioSpec("audio", 1, 64_000, RATE_HZ, 1, None, Timeline(Fraction(1), DURATION_S, 2, 4, Fraction(0)), 1)


def tone(*at_s: int) -> Iterator[AudioFrame]:
    """A second of full scale at each of these times, in the middle of it an odd number of samples."""
    for begin_s in at_s:
        samples_at = begin_s * RATE_HZ
        for count in (1_000, 37, RATE_HZ - 1_037):
            frame = AudioFrame.from_ndarray(np.full((1, count), 0.5, np.float32), "fltp", "mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), samples_at
            samples_at += count
            yield frame


@pytest.mark.parametrize("heard_s", [(), (0,), (DURATION_S - 1,), (1, 300), (3, 4, DURATION_S)], ids=str)
def test_silence_is_made_as_it_is_needed(heard_s: tuple[int, ...]) -> None:
    heard, frame_count = set[int](), 0
    tracemalloc.start()
    try:
        for [plane] in on_timeline(tone(*heard_s), SPEC):
            assert len(plane) == 4 * FRAME_SAMPLES
            loud = np.flatnonzero(np.frombuffer(plane, np.float32))
            heard.update((frame_count * FRAME_SAMPLES + loud[[0, -1]]) // RATE_HZ if loud.size else ())
            frame_count += 1
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert frame_count == -(-DURATION_S * RATE_HZ // FRAME_SAMPLES)
    assert heard == {at_s for at_s in heard_s if at_s < DURATION_S}
    # All of it takes 115 MB.
    assert peak_bytes < 4_000_000
