from fractions import Fraction

from services.runtime.bitrate import average_bps, peak_bps


def test_the_average_is_that_of_all_bytes() -> None:
    assert average_bps([(4, 4000), (1, 6000)], 2) == 8 * 10_000 * 2 // 5


def test_the_peak_is_that_of_runs_near_the_target() -> None:
    # Ticks are seconds. The short last segment is dense, but no run of 2 to 6 s is as dense as it alone.
    assert peak_bps([(4, 4000), (4, 8000), (1, 6000)], 1, Fraction(4)) == 8 * (8000 + 6000) // 5


def test_the_peak_of_a_very_short_track_is_its_own() -> None:
    assert peak_bps([(1, 500)], 1, Fraction(4)) == 4000
