"""Waiting out an outage of object storage: one that passes soon costs time, and no attempt.

The client below repeats what storage refuses for a fraction of a second, and not at all what breaks off in the middle
of a body. A restart or a failover of storage takes longer than that; encoding everything in hand once more, longer yet.
And of storage that takes connections and says nothing, the client waits for longer than anybody above it has time.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from services.runtime.errors import Unavailable

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call is made again, and again.

    Attributes:
        lasts_s: from the first try to the beginning of the last.
        first_wait_s: before the second try; each further wait is twice as long, with jitter of a half.
        longest_wait_s: bound of a wait, so that the end of an outage is noticed soon.
        try_s: bound of one try, besides the time that its bytes take.
        slowest_bytes_per_s: a line that carries less than this is as good as none: hours of work would hang on it.
    """

    lasts_s: float = 20.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 4.0
    try_s: float = 8.0
    slowest_bytes_per_s: int = 1_000_000

    async def bear(self, call: Callable[[], Awaitable[_T]], on_life: Callable[[], None], *, size_bytes: int = 0) -> _T:
        """What `call` answers in the end.

        Args:
            call: one try; safe to repeat, also while one that was given up still goes on: its thread cannot be stopped.
            on_life: told before each wait, and every `longest_wait_s` of a try. All of it ends in bounded time, so it
                may count as a sign of life.
            size_bytes: what one try carries, with whatever shares its line.

        Raises:
            Unavailable: it was still raised, or nothing answered, when patience ran out.
        """
        within_s = self.try_s + size_bytes / self.slowest_bytes_per_s
        ends_at_s = time.monotonic() + self.lasts_s
        ceiling_s = self.first_wait_s
        while True:
            try:
                with _alive(on_life, self.longest_wait_s):
                    return await _tried(call, within_s)
            except Unavailable:
                left_s = ends_at_s - time.monotonic()
                if left_s <= 0:
                    raise
            on_life()
            await asyncio.sleep(min(left_s, ceiling_s * random.uniform(0.5, 1.0)))  # noqa: S311 jitter, no secret
            ceiling_s = min(2 * ceiling_s, self.longest_wait_s)


PATIENT: Final = Patience()
"""Longer than storage takes to restart or to elect a leader. With its last try it may outlast a lease, which the signs
of life hold meanwhile: there are several to each."""


async def _tried(call: Callable[[], Awaitable[_T]], within_s: float) -> _T:
    clock = asyncio.timeout(within_s)
    try:
        async with clock:
            return await call()
    except TimeoutError as error:
        if not clock.expired():
            raise  # the call's own
        raise Unavailable(f"storage: no answer within {within_s:.0f} s", reason="STORAGE_UNAVAILABLE") from error


@contextmanager
def _alive(on_life: Callable[[], None], every_s: float) -> Iterator[None]:
    """Tells of life again and again while the block lasts."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def tell() -> None:
        nonlocal timer
        timer = loop.call_later(every_s, tell)
        on_life()

    timer = loop.call_later(every_s, tell)
    try:
        yield
    finally:
        timer.cancel()
