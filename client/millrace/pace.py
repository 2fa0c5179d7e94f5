"""How fast bytes go, and how long the rest takes: smoothed, so that the numbers can be read."""

from collections.abc import Callable
from math import exp
from typing import Final

from rich.filesize import decimal

_SPAN_S: Final = 10.0
"""What lies this far back counts for a third: long enough for parts that are counted in bursts, short enough to see a
link that changed."""


class Pace:
    """A rate with a memory that fades. What was done before the first moment, as on resuming, is no part of it."""

    def __init__(self, now_s: float) -> None:
        """Begins at a moment of a clock that only goes forwards."""
        self._began_s = self._at_s = now_s
        self._faded_bytes = 0.0

    def add(self, now_s: float, more_bytes: int) -> None:
        """Counts bytes that were sent by now; negative ones are taken back, since they have to be sent again."""
        self._fade(now_s)
        self._faded_bytes += more_bytes

    def rate_bytes_s(self, now_s: float) -> float:
        """Bytes a second, lately; 0 where nothing is known yet."""
        self._fade(now_s)
        # At the beginning the memory is not full: the same fading, applied to a constant 1, says how full it is.
        weight_s = _SPAN_S * (1.0 - exp(-(now_s - self._began_s) / _SPAN_S))
        return max(0.0, self._faded_bytes / weight_s) if weight_s > 0.0 else 0.0

    def left_s(self, now_s: float, remaining_bytes: int) -> float | None:
        """Seconds until the remaining bytes are sent, if it goes on so; None where nobody can tell."""
        rate = self.rate_bytes_s(now_s)
        return remaining_bytes / rate if rate >= 1.0 else None

    def _fade(self, now_s: float) -> None:
        self._faded_bytes *= exp(-max(0.0, now_s - self._at_s) / _SPAN_S)
        self._at_s = max(self._at_s, now_s)


class Sending:
    """Bytes on their way, of one file or of many: how many, how fast, and how long yet."""

    def __init__(self, clock: Callable[[], float], total_bytes: int) -> None:
        """Begins now, with nothing sent."""
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self._clock = clock
        self._pace = Pace(clock())

    def skip(self, done_bytes: int) -> None:
        """Counts bytes that need not be sent any more."""
        self.done_bytes += done_bytes

    def add(self, more_bytes: int) -> None:
        """Counts bytes that were sent; negative ones have to be sent again."""
        self.done_bytes += more_bytes
        self._pace.add(self._clock(), more_bytes)

    def words(self) -> list[str]:
        """For instance `40.0 MB of 1.2 GB`, `5.0 MB/s`, `3:52 left`; without what is not known."""
        now_s, remaining_bytes = self._clock(), self.total_bytes - self.done_bytes
        words = [f"{decimal(self.done_bytes)} of {decimal(self.total_bytes)}"]
        if rate := int(self._pace.rate_bytes_s(now_s)):
            words.append(f"{decimal(rate)}/s")
        left_s = self._pace.left_s(now_s, remaining_bytes)
        if left_s is not None and remaining_bytes > 0:
            words.append(f"{clock_text(left_s)} left")
        return words


def clock_text(seconds: float) -> str:
    """A duration as `m:ss` or `h:mm:ss`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
