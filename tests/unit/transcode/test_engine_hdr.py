"""HDR originals: what comes out is SDR, with the greys and hues of what went in."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from services.transcode.engine.video import tonemap
from tests.unit.transcode import sources
from tests.unit.transcode.sources import SMALL_LADDER

SIZE_PX = (320, 180)

Signal = tuple[float, float, float]


def ycbcr(signal: Signal) -> tuple[int, int, int]:
    """R'G'B' of 0 to 1 as 10-bit Y'CbCr, non-constant luminance (BT.2020-2, tables 4 and 5)."""
    red, green, blue = signal
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    return (
        round(64 + 876 * luma),
        round(512 + 896 * (blue - luma) / 1.8814),
        round(512 + 896 * (red - luma) / 1.4746),
    )


def hdr_clip(transfer: int, colours: list[Signal]) -> bytes:
    """A frame of each colour, HEVC Main 10 as phones write it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("libx265", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = SIZE_PX
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc = ColorPrimaries.BT2020, ColorTrc(transfer)
        context.colorspace, context.color_range = Colorspace.BT2020, ColorRange.MPEG
        stream.options = {"preset": "ultrafast", "crf": "4", "x265-params": "log-level=none"}
        for number, colour in enumerate(colours):
            frame = VideoFrame(*SIZE_PX, "yuv420p10le")
            for plane, value in zip(frame.planes, ycbcr(colour), strict=True):
                plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
            frame.color_trc, frame.color_primaries = ColorTrc(transfer), ColorPrimaries.BT2020
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


async def shown(transfer: int, colours: list[Signal]) -> list[Signal]:
    """What a player of SDR shows of each: R'G'B' of 0 to 255, in the middle of the picture."""
    _, results = await sources.run_plan(hdr_clip(transfer, colours), SMALL_LADDER[:1])
    frames = sources.decoded(results["180p"].file)
    assert [int(frame.color_trc) for frame in frames] == [1] * len(colours)
    assert {frame.format.name for frame in frames} == {"yuv420p"}
    pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
    means = [picture[80:100, 150:170].mean(axis=(0, 1)) for picture in pictures]
    return [(float(red), float(green), float(blue)) for red, green, blue in means]


def pq(nits: float) -> float:
    """ST 2084 by its own formula."""
    power = (nits / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


async def test_greys_of_pq_keep_their_light_and_highlights_their_order() -> None:
    nits = [0, 5, 20, 50, 100, 203, 400, 700, 1_000, 4_000]
    found = await shown(tonemap.PQ, [(pq(one),) * 3 for one in nits])
    for colour in found:
        assert max(colour) - min(colour) < 5, "a grey became coloured"
    grey = [sum(colour) / 3 for colour in found]
    assert grey == sorted(grey)
    assert grey[0] < 3
    # Below the knee light is kept, on a display of 203 cd/m² with a gamma of 2.4.
    for light, value in zip(nits[1:4], grey[1:4], strict=True):
        assert value == pytest.approx(255 * (light / 203) ** (1 / 2.4), abs=5)
    assert 200 < grey[5] < 240
    assert grey[8] > 250


async def test_greys_of_hlg_do_too() -> None:
    found = await shown(tonemap.HLG, [(one,) * 3 for one in (0.0, 0.25, 0.5, 0.75, 1.0)])
    grey = [sum(colour) / 3 for colour in found]
    assert grey == sorted(grey)
    assert grey[0] < 3
    assert 200 < grey[3] < 240, "diffuse white is 0.75 in HLG"
    assert grey[4] > 250


@pytest.mark.parametrize("leading", [0, 1, 2], ids=["red", "green", "blue"])
async def test_the_hues_of_bt709_stay(leading: int) -> None:
    """BT.709's own primaries at 80 cd/m², written in BT.2020 (BT.2087, table 1)."""
    matrix = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = matrix @ np.eye(3)[leading] * 80
    (found,) = await shown(tonemap.PQ, [(pq(light[0]), pq(light[1]), pq(light[2]))])
    assert found[leading] == pytest.approx(255 * (80 / 203) ** (1 / 2.4), abs=12)
    assert max(value for number, value in enumerate(found) if number != leading) < 40
