from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcode.engine.reading.pacing import Timed, paced

RATES = [Fraction(24_000, 1001), Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(60)]


def shown(times: list[Fraction | None], rate: Fraction, origin_s: Fraction = Fraction(0)) -> list[int]:
    """The number of the source's frame in each slot."""
    frames = (Timed(number, at_s, Fraction(0)) for number, at_s in enumerate(times))
    slots: list[int] = []
    for number, span in paced(frames, rate, origin_s):
        assert span.start == len(slots)
        assert span
        slots += [number] * len(span)
    return slots


@given(st.sampled_from(RATES), st.integers(1, 400), st.sampled_from([1, 90_000, 1000]))
def test_a_constant_rate_passes_frame_by_frame_whatever_the_clock(rate: Fraction, count: int, ticks: int) -> None:
    # Matroska rounds to milliseconds, TS to 1/90000: no frame may be lost or doubled for that.
    clock = Fraction(1, ticks) if ticks > 1 else 1 / rate
    times: list[Fraction | None] = [round(n / rate / clock) * clock for n in range(count)]
    assert shown(times, rate) == list(range(count))


@given(st.lists(st.fractions(min_value=0, max_value=20, max_denominator=1000), min_size=1, max_size=60))
def test_any_times_fill_the_timeline_in_order(times: list[Fraction]) -> None:
    in_order: list[Fraction | None] = [*sorted(times)]
    slots = shown(in_order, Fraction(10))
    assert slots == sorted(slots)
    for slot, number in enumerate(slots):
        at_s = in_order[number]
        assert at_s is not None
        assert number == 0 or at_s <= Fraction(slot, 10) + Fraction(9, 160)


def test_half_the_rate_shows_every_other_frame() -> None:
    assert shown([Fraction(n, 120) for n in range(8)], Fraction(60)) == [1, 3, 5, 7]


@pytest.mark.parametrize("every", [2, 4])
@pytest.mark.parametrize("clock", [Fraction(1, 1_000), Fraction(1, 90_000)])
@pytest.mark.parametrize("rate", [Fraction(60), Fraction(60_000, 1001)])
def test_every_slot_has_its_share_of_frames_at_a_part_of_the_rate_whatever_the_clock(
    rate: Fraction, clock: Fraction, every: int
) -> None:
    times: list[Fraction | None] = [round(n / rate / every / clock) * clock for n in range(1_200)]
    count = 1_200 // every - 1  # the last one shows whatever is left
    assert shown(times, rate)[:count] == [every // 2 + every * slot for slot in range(count)]


def test_a_late_frame_repeats_the_one_before() -> None:
    assert shown([Fraction(0), Fraction(1, 10), Fraction(5, 10)], Fraction(10)) == [0, 1, 1, 1, 1, 2]


def test_the_origin_is_slot_0() -> None:
    assert shown([Fraction(7), Fraction(71, 10)], Fraction(10), Fraction(7)) == [0, 1]


def test_time_that_runs_backwards_goes_on_with_the_next_slot() -> None:
    times: list[Fraction | None] = [Fraction(5), Fraction(51, 10), Fraction(0), Fraction(1, 10), Fraction(2, 10)]
    assert shown(times, Fraction(10), Fraction(5)) == [0, 1, 2, 3, 4]


def test_a_frame_out_of_order_is_left_out() -> None:
    times: list[Fraction | None] = [Fraction(n, 10) for n in (0, 1, 3, 2, 4, 5)]
    assert shown(times, Fraction(10)) == [0, 1, 1, 2, 4, 5]


def test_frames_without_a_time_follow_one_by_one() -> None:
    assert shown([None, None, None], Fraction(25)) == [0, 1, 2]


@pytest.mark.parametrize(("duration_s", "count"), [(Fraction(0), 1), (Fraction(1, 10), 1), (Fraction(3), 30)])
def test_the_last_frame_lasts_as_long_as_it_says(duration_s: Fraction, count: int) -> None:
    ((_, span),) = paced([Timed("only", Fraction(0), duration_s)], Fraction(10), Fraction(0))
    assert span == range(count)
