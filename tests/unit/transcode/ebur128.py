"""Loudness and true peak by ITU-R BS.1770-5, computed with NumPy alone, so that libav does not judge itself."""

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 48_000
SILENCE_LUFS = -70.0

_SHELF = (1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)
_HIGH_PASS = (1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)
_BLOCK, _STEP = RATE_HZ * 4 // 10, RATE_HZ // 10


def integrated_lufs(samples: NDArray[np.float32], step: int = _STEP) -> float:
    """Gated loudness of channels by samples at 48 kHz; one channel counts as the two speakers that play it.

    A block begins every `step` samples. With smaller steps than the standard's, what is as short as a block does not
    depend on where in the steps it lies.
    """
    heard = np.concatenate([samples, samples]) if len(samples) == 1 else samples
    power = (_weighted(heard) ** 2).sum(axis=0)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    starts = np.arange(0, len(power) - _BLOCK + 1, step)
    blocks = (sums[starts + _BLOCK] - sums[starts]) / _BLOCK
    blocks = blocks[_lufs(blocks) > SILENCE_LUFS]
    if not len(blocks):
        return SILENCE_LUFS
    gated = blocks[_lufs(blocks) > _lufs(blocks.mean()) - 10]
    return float(_lufs(gated.mean()))


def true_peak_dbtp(samples: NDArray[np.float32], times: int = 4) -> float:
    """The highest peak after band-limited oversampling."""
    size = samples.shape[1]
    spectrum = np.fft.rfft(samples.astype(np.float64), axis=1)
    peaks = np.abs(np.fft.irfft(spectrum, size * times, axis=1)).max() * times
    return float(20 * np.log10(max(peaks, 1e-9)))


def downmixed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sound of 5.1 (L, R, C, LFE, Ls, Rs) as stereo, by ITU-R BS.775: the centre and each side at -3 dB, no effects.

    Of all else, the first two channels.
    """
    if len(samples) != 6:
        return samples[:2]
    left, right, centre, _, left_side, right_side = samples
    half = np.float32(np.sqrt(0.5))
    return np.stack([left + half * (centre + left_side), right + half * (centre + right_side)])


def _weighted(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """By the K curve, applied to the whole at once; as many zeros behind keep the end from reaching the start."""
    size = 2 * samples.shape[1]
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    curve = np.ones_like(turn)
    for above, below in (_SHELF, _HIGH_PASS):
        curve *= np.polyval(above[::-1], turn) / np.polyval(below[::-1], turn)
    weighted: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(samples.astype(np.float64), size, axis=1) * curve, size)
    return weighted[:, : samples.shape[1]]


def _lufs(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-12))
