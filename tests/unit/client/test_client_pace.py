import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.pace import Pace, Sending, clock_text


def paced(rates: list[int], *, step_s: float = 0.5) -> tuple[Pace, float]:
    """A pace after this many bytes in each second, one after the other; and the time."""
    pace, now_s = Pace(100.0), 100.0
    for rate in rates:
        for _ in range(int(1 / step_s)):
            now_s += step_s
            pace.add(now_s, int(rate * step_s))
    return pace, now_s


@given(rate=st.integers(1000, 10**9), seconds=st.integers(3, 200))
def test_a_steady_stream_has_its_rate_from_the_beginning(rate: int, seconds: int) -> None:
    pace, now_s = paced([rate] * seconds)
    assert pace.rate_bytes_s(now_s) == pytest.approx(rate, rel=0.1)


def test_a_change_is_seen_soon_but_not_at_once() -> None:
    rates = [pace.rate_bytes_s(now_s) for pace, now_s in (paced([1000] * 60 + [100] * more) for more in (1, 10, 40))]
    assert rates[0] > 800
    assert 300 < rates[1] < 600
    assert rates[2] < 150


def test_a_stalled_link_takes_ever_longer() -> None:
    pace, now_s = paced([1000] * 30)
    left = [pace.left_s(now_s + waited_s, 10_000) for waited_s in (0, 5, 20)]
    assert left[0] == pytest.approx(10, rel=0.1)
    assert left == sorted(left, key=lambda one: one or 1e9)
    assert pace.left_s(now_s + 1000, 10_000) is None


def test_nothing_is_known_before_anything_was_sent() -> None:
    pace = Pace(5.0)
    assert pace.rate_bytes_s(5.0) == 0.0
    assert pace.left_s(6.0, 100) is None


def test_what_is_taken_back_never_makes_a_rate_negative() -> None:
    pace = Pace(0.0)
    pace.add(1.0, 1000)
    pace.add(2.0, -5000)
    assert pace.rate_bytes_s(2.0) == 0.0


def test_words_leave_out_what_is_not_known() -> None:
    now_s = 0.0
    sending = Sending(lambda: now_s, 1_000_000)
    assert sending.words() == ["0 bytes of 1.0 MB"]
    sending.skip(500_000)
    assert sending.words() == ["500.0 kB of 1.0 MB"]
    now_s = 1.0
    sending.add(100_000)
    assert sending.words() == ["600.0 kB of 1.0 MB", "105.1 kB/s", "0:03 left"]
    sending.add(400_000)
    assert len(sending.words()) == 2  # nothing is left


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.9, "1:05"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_durations_are_read_as_clocks(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
