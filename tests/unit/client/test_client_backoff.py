from hypothesis import given
from hypothesis import strategies as st

from millrace import Backoff


@given(failures=st.integers(1, 10_000), jitter=st.floats(0, 1))
def test_waits_between_half_and_all_of_the_doubled_base_up_to_the_cap(failures: int, jitter: float) -> None:
    backoff = Backoff(base_s=0.5, cap_s=20.0)
    longest_s = min(20.0, 0.5 * 2 ** min(failures - 1, 10))
    assert longest_s / 2 <= backoff.delay_s(failures, jitter) <= longest_s


def test_the_default_outlasts_a_link_that_is_gone_for_20_s() -> None:
    backoff = Backoff()
    assert sum(backoff.delay_s(failures, 0.0) for failures in range(1, backoff.attempts)) > 20
