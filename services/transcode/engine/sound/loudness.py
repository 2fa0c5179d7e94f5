"""How loud sound is by EBU R 128, and by how much to turn it up or down. One gain for a whole track, nothing else.

A limiter would reach the target more often, at the price of changing what was mixed on purpose: sound whose peaks leave
no room stays quieter instead (ADR 0020).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from services.transcode.engine.sound.pcm import FRAME_SAMPLES, layout, pcm_frame
from services.transcode.specs import AudioSpec, LoudnessTarget

_GATE_LUFS = -70.0
"""ITU-R BS.1770-5's absolute gate: what is quieter counts as silence, and has no loudness."""

_MOST_GAIN_DB = 20.0
"""More would lift the noise of a microphone to where speech should be."""

_STEPS_A_SECOND = 10
"""The filter tells its figures so often; what came after the last time counts for nothing."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """What was measured of a track: over its whole length, and its highest peak between samples too."""

    integrated_lufs: float
    true_peak_dbtp: float


def gain_db(measured: Loudness | None, target: LoudnessTarget) -> float:
    """The gain that brings a track to the target, or as near as its peaks and `_MOST_GAIN_DB` allow.

    Args:
        measured: of the track; None for silence, which is left alone.
        target: how loud it is to be. Its ceiling holds also for a track that is loud enough: one whose peaks are
            beyond it is turned down.
    """
    if measured is None:
        return 0.0
    wanted_db = target.integrated_lufs - measured.integrated_lufs
    headroom_db = target.true_peak_ceiling_dbtp - measured.true_peak_dbtp
    return min(wanted_db, headroom_db, _MOST_GAIN_DB)


def amplified(planes: list[bytes], by_db: float) -> list[bytes]:
    """Planar 32-bit floats, louder by so much."""
    factor = np.float32(10 ** (by_db / 20))
    return [(np.frombuffer(plane, np.float32) * factor).tobytes() for plane in planes]


class LoudnessMeter:
    """Measures frames as they pass, as libavfilter's `ebur128` does; memory does not grow with them.

    One channel is measured as the two speakers that will play it, 3 LU more than as one channel of several.
    """

    def __init__(self, spec: AudioSpec) -> None:
        self._spec = spec
        self._graph = Graph()
        self._graph.threads = 1
        self._source = self._graph.add_abuffer(
            sample_rate=spec.sample_rate_hz,
            format="fltp",
            layout=layout(spec.channels),
            time_base=Fraction(1, spec.sample_rate_hz),
        )
        meter = self._graph.add("ebur128", "metadata=1:peak=true:dualmono=true:framelog=quiet")
        self._sink = self._graph.add("abuffersink")
        self._graph.link_nodes(self._source, meter, self._sink).configure()
        self._frame_count = 0
        self._integrated_lufs = _GATE_LUFS
        self._true_peak = 0.0

    def add(self, planes: list[bytes]) -> None:
        """Takes the next frame."""
        self._push(planes)
        for figures in self._figures():
            self._integrated_lufs = float(figures["lavfi.r128.I"])
            self._true_peak = float(figures["lavfi.r128.true_peak"])

    def measured(self) -> Loudness | None:
        """What was measured of all frames; None where nothing is loud enough to count. Ends the measurement."""
        # Peaks of the last tenth of a second are told only when it is full. The silence that fills it up counts for
        # the peaks alone: loudness is that of before.
        silence = [bytes(4 * FRAME_SAMPLES)] * self._spec.channels
        for _ in range(-(-self._spec.sample_rate_hz // _STEPS_A_SECOND // FRAME_SAMPLES) + 1):
            self._push(silence)
        for figures in self._figures():
            self._true_peak = float(figures["lavfi.r128.true_peak"])
        if self._integrated_lufs <= _GATE_LUFS or self._true_peak <= 0:
            return None
        return Loudness(self._integrated_lufs, 20 * math.log10(self._true_peak))

    def _push(self, planes: list[bytes]) -> None:
        self._source.push(pcm_frame(planes, self._spec, self._frame_count))
        self._frame_count += 1

    def _figures(self) -> Iterable[dict[str, str]]:
        while True:
            try:
                frame = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, AudioFrame)
            if "lavfi.r128.I" in (figures := frame.metadata):
                yield figures
