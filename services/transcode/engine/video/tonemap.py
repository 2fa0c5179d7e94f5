"""HDR pictures as SDR ones: a table from the colours of BT.2020 in PQ or HLG to those of BT.709.

The table is a Hald image, a cube of colours unrolled into a picture, in which libavfilter looks colours up; between its
points it interpolates. Display light is what is kept: up to about half of diffuse white as it is, and what is brighter
is rolled off by the spline of BT.2390 so that 1,000 cd/m² become white. Hues stay, since the components of a colour are
scaled alike, by the largest of them; what BT.709 cannot show is cut.

Sources: ITU-R BT.2100-3 (transfer functions), BT.2390-11 §5.4.1 (the spline), BT.2408-7 (diffuse white of 203 cd/m²),
BT.2087-0 (primaries), BT.1886 (gamma of SDR displays).
"""

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

from av.video.frame import VideoFrame

PQ: Final = 16
"""Transfer characteristics of SMPTE ST 2084, as ISO/IEC 23091-2 numbers them."""
HLG: Final = 18
"""Those of ARIB STD-B67."""

_LEVEL: Final = 6
"""A cube of 36 points a side: PQ and HLG are close to perceptual, so that steps are even to the eye."""
_SIDE: Final = _LEVEL * _LEVEL
_WHITE_NITS: Final = 203.0
_PEAK_NITS: Final = 1_000.0
"""What HDR is mastered for as a rule. Brighter light, which masters for better displays have, is white."""
_GAMMA: Final = 2.4

_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_PQ_MOST_NITS: Final = 10_000.0

_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073
_HLG_SYSTEM_GAMMA: Final = 1.2
"""Of a display with a peak of 1,000 cd/m²."""

_LUMA_2020: Final = (0.2627, 0.6780, 0.0593)
_2020_TO_709: Final = (
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)

_Colour = Sequence[float]
"""Red, green and blue."""


def is_hdr(frame: VideoFrame) -> bool:
    """Whether a frame's transfer function is one of HDR."""
    return int(frame.color_trc) in {PQ, HLG}


def hald(transfer: int) -> VideoFrame:
    """The table for a transfer function, as planar RGB of 16 bits."""
    table = VideoFrame(_LEVEL**3, _LEVEL**3, "gbrp16le")
    # PyAV names the planes of GBR in the order of RGB.
    for plane, component in zip(table.planes, _components(transfer), strict=True):
        rows = (component[start : start + 2 * _LEVEL**3] for start in range(0, len(component), 2 * _LEVEL**3))
        plane.update(b"".join(row.ljust(plane.line_size, b"\0") for row in rows))
    table.pts = 0
    return table


@cache
def _components(transfer: int) -> list[bytes]:
    light = _pq_light if transfer == PQ else _hlg_light
    axis = [index / (_SIDE - 1) for index in range(_SIDE)]
    colours = [_sdr((red, green, blue), light) for blue in axis for green in axis for red in axis]
    return [struct.pack(f"<{len(colours)}H", *(round(65_535 * one[n]) for one in colours)) for n in range(3)]


def _sdr(signal: _Colour, light: Callable[[_Colour], _Colour]) -> _Colour:
    """A colour of HDR as one of SDR; components are 0 to 1."""
    nits = light(signal)
    brightest = max(nits)
    scale = _rolled_off(brightest) / brightest / _WHITE_NITS if brightest > 0 else 0.0
    mixed = [scale * sum(weight * one for weight, one in zip(row, nits, strict=True)) for row in _2020_TO_709]
    return [min(1.0, max(0.0, component)) ** (1 / _GAMMA) for component in mixed]


def _rolled_off(nits: float) -> float:
    """Light of a master for 1,000 cd/m² as one whose white is diffuse white: BT.2390's spline, in PQ."""
    peak = _pq_signal(_PEAK_NITS)
    most = _pq_signal(_WHITE_NITS) / peak
    knee = 1.5 * most - 0.5
    signal = min(1.0, _pq_signal(nits) / peak)
    if signal > knee:
        t = (signal - knee) / (1 - knee)
        signal = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return _pq_nits(signal * peak)


def _pq_light(signal: _Colour) -> _Colour:
    return [_pq_nits(component) for component in signal]


def _hlg_light(signal: _Colour) -> _Colour:
    scene = [component**2 / 3 if component <= 0.5 else _hlg_scene(component) for component in signal]
    luma = sum(weight * component for weight, component in zip(_LUMA_2020, scene, strict=True))
    gain = _PEAK_NITS * luma ** (_HLG_SYSTEM_GAMMA - 1) if luma > 0 else 0.0
    return [gain * component for component in scene]


def _hlg_scene(signal: float) -> float:
    result: float = (2.718281828459045 ** ((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12
    return result


def _pq_nits(signal: float) -> float:
    power = max(0.0, signal) ** (1 / _PQ_M2)
    result: float = _PQ_MOST_NITS * (max(0.0, power - _PQ_C1) / (_PQ_C2 - _PQ_C3 * power)) ** (1 / _PQ_M1)
    return result


def _pq_signal(nits: float) -> float:
    power = (max(0.0, nits) / _PQ_MOST_NITS) ** _PQ_M1
    result: float = ((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2
    return result
