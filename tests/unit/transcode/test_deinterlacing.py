"""Fields are joined wherever there are some, whatever a video begins with and wherever a chunk of it begins."""

import io
from fractions import Fraction

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from services.transcode.engine.run import probe
from services.transcode.engine.video.deinterlacing import deinterlaced
from services.transcode.ladder import Step
from services.transcode.plan import Output, plan
from services.transcode.specs import PosterSpec
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource

RATE = Fraction(25)
CLOCK = Fraction(1, 90_000)


def moving(number: int, picture: NDArray[np.uint8]) -> None:
    """Something that moves between the fields: shown as they are, they are combs."""
    picture[:] = 40
    picture[0::2, 4 * number : 4 * number + 20] = 230
    picture[1::2, 4 * number + 2 : 4 * number + 22] = 230


def standing(number: int, picture: NDArray[np.uint8]) -> None:
    picture[:] = 40
    picture[:, 4 * number : 4 * number + 20] = 230


def part(begin: int, end: int, *, interlaced: bool, size_px: tuple[int, int] = (160, 96)) -> bytes:
    times = [1 + number / RATE for number in range(begin, end)]  # at 0, the muxer would shift the first part alone
    paint = moving if interlaced else standing
    return sources.clip(
        times, rate=RATE, size_px=size_px, container="mpegts", interlaced=interlaced, paint=paint, gop_frames=10
    )


MIXED = part(0, 20, interlaced=False) + part(20, 40, interlaced=True) + part(40, 60, interlaced=False)
RESIZED = (
    part(0, 20, interlaced=True) + part(20, 40, interlaced=True, size_px=(192, 128)) + part(40, 42, interlaced=True)
)


def combing(picture: NDArray[np.uint8]) -> float:
    """How much lines differ from those above and below them alike."""
    rows = picture.astype(int)
    return float(np.minimum(np.abs(rows[1:-1] - rows[:-2]), np.abs(rows[1:-1] - rows[2:])).mean())


def planes(frame: VideoFrame) -> list[bytes]:
    return [bytes(plane) for plane in frame.reformat(format="rgb24").planes]


@pytest.mark.parametrize("data", [MIXED, RESIZED], ids=["mixed", "resized"])
def test_frames_pass_one_for_one_and_none_is_a_comb(data: bytes) -> None:
    frames = sources.decoded(data)
    times = sources.frame_times(frames)
    sizes = [(frame.width, frame.height) for frame in frames]
    combs = [frame.interlaced_frame for frame in frames]
    assert sum(combs) in {20, 42}
    joined = list(deinterlaced(frames, CLOCK))
    assert sources.frame_times(joined) == times
    assert [(frame.width, frame.height) for frame in joined] == sizes
    assert max(combing(sources.luma(frame)) for frame in joined) < 1
    assert max(combing(sources.luma(frame)) for frame in sources.decoded(data)) > 3


def test_progressive_frames_are_passed_on_themselves() -> None:
    frames = sources.decoded(part(0, 10, interlaced=False))
    assert all(one is other for one, other in zip(deinterlaced(frames, CLOCK), frames, strict=True))


@pytest.mark.parametrize("begin", [5, 19, 20, 25, 39, 45])
def test_pictures_are_the_same_wherever_one_begins(begin: int) -> None:
    whole = list(deinterlaced(sources.decoded(MIXED), CLOCK))
    later = list(deinterlaced(sources.decoded(MIXED)[begin:], CLOCK))
    assert len(later) == len(whole) - begin
    assert [planes(frame) for frame in later[1:]] == [planes(frame) for frame in whole[begin + 1 :]]


async def test_a_video_that_begins_with_progressive_frames_is_joined_where_it_is_interlaced() -> None:
    _, results = await sources.run_plan(MIXED, (Step("96p", 96, 12, 4_000_000, 6_000_000),))
    frames = sources.decoded(results["96p"].file)
    assert sources.frame_times(frames) == sources.constant_times(60, RATE)
    assert max(combing(sources.luma(frame)) for frame in frames) < 1


async def test_a_poster_is_joined_too() -> None:
    data = part(0, 40, interlaced=True)
    source = await probe(BytesSource(data), LIMITS)
    poster = next(spec for spec in plan(source, output=Output()) if isinstance(spec, PosterSpec))
    result = await sources.run(poster, data)
    image = Image.open(io.BytesIO(result.shelf.artifacts[result.images.images[0].name].data))
    assert combing(np.asarray(image.convert("L"))) < 1
