from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcode.formats import Codec
from services.transcode.ladder import LADDER, fitting_steps, ladder_of

sides = st.integers(2, 9000)


@given(sides, sides)
def test_nothing_is_scaled_up_or_has_an_odd_side(width_px: int, height_px: int) -> None:
    for _, scaled_width_px, scaled_height_px in fitting_steps(width_px, height_px):
        assert scaled_width_px <= width_px
        assert scaled_height_px <= height_px
        assert scaled_width_px % 2 == scaled_height_px % 2 == 0
        assert min(scaled_width_px, scaled_height_px) >= 2


@given(sides, sides)
def test_steps_come_largest_first_each_once_and_at_least_one(width_px: int, height_px: int) -> None:
    labels = [step.label for step, _, _ in fitting_steps(width_px, height_px)]
    areas = [w * h for _, w, h in fitting_steps(width_px, height_px)]
    assert labels
    assert len(set(labels)) == len(labels)
    assert areas == sorted(areas, reverse=True)


@given(st.integers(360, 9000), st.integers(360, 9000))
def test_the_step_is_the_shorter_side_and_the_aspect_ratio_stays(width_px: int, height_px: int) -> None:
    for step, scaled_width_px, scaled_height_px in fitting_steps(width_px, height_px):
        assert min(scaled_width_px, scaled_height_px) == step.shorter_side_px
        exact = Fraction(max(width_px, height_px) * step.shorter_side_px, min(width_px, height_px))
        # To the nearest even pixel; an odd full-size side loses one.
        assert abs(max(scaled_width_px, scaled_height_px) - exact) <= 1
        assert (scaled_width_px - scaled_height_px) * (width_px - height_px) >= 0


@pytest.mark.parametrize(
    ("source_px", "expected"),
    [
        ((1920, 1080), {"1080p": (1920, 1080), "720p": (1280, 720), "480p": (854, 480), "360p": (640, 360)}),
        ((1080, 1920), {"1080p": (1080, 1920), "720p": (720, 1280), "480p": (480, 854), "360p": (360, 640)}),
        ((3840, 1600), {"1080p": (2592, 1080), "720p": (1728, 720), "480p": (1152, 480), "360p": (864, 360)}),
        ((768, 576), {"480p": (640, 480), "360p": (480, 360)}),
        ((320, 241), {"241p": (320, 240)}),
    ],
)
def test_sizes_of_common_sources(source_px: tuple[int, int], expected: dict[str, tuple[int, int]]) -> None:
    assert {step.label: (w, h) for step, w, h in fitting_steps(*source_px)} == expected


def test_every_peak_stays_below_twice_the_cap() -> None:
    # A segment can hold the cap over its length plus one full buffer.
    for step in LADDER:
        assert step.maxrate_bps + step.bufsize_bits / 4 < 2 * step.maxrate_bps


def test_every_codec_has_the_steps_of_h264_under_names_of_its_own() -> None:
    ladder = ladder_of([Codec.H264, Codec.HEVC, Codec.AV1])
    assert len({step.label for step in ladder}) == len(ladder) == 12
    for codec in Codec:
        assert [step.shorter_side_px for step in ladder if step.codec is codec] == [1080, 720, 480, 360]
    assert {step.encoder for step in ladder} == {"libx264", "libx265", "libsvtav1"}


@given(sides, sides)
def test_codecs_keep_their_order_and_sizes(width_px: int, height_px: int) -> None:
    fitting = fitting_steps(width_px, height_px, ladder_of([Codec.H264, Codec.AV1]))
    plain = [sized for sized in fitting if sized[0].codec is Codec.H264]
    assert plain == list(fitting_steps(width_px, height_px))
    if min(width_px, height_px) < 360:
        assert fitting == tuple(plain), "so small a source has nothing to spare"
    else:
        others = fitting[len(plain) :]
        assert [sized[1:] for sized in others] == [sized[1:] for sized in plain]
        assert [step.label for step, _, _ in others] == [f"{step.label}-av1" for step, _, _ in plain]
