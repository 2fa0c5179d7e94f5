"""Waiting out an outage of object storage: one that passes soon costs time, and no attempt.

The client below repeats what storage refuses for a fraction of a second, and not at all what breaks off in the middle
of a body. A restart or a failover of storage takes longer than that; encoding everything in hand once more, longer yet.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
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
    """

    lasts_s: float = 20.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 4.0

    async def bear(self, call: Callable[[], Awaitable[_T]], on_wait: Callable[[], None]) -> _T:
        """What `call` answers in the end.

        Args:
            call: one try; safe to repeat.
            on_wait: told before each wait. They end in bounded time, so they may count as a sign of life.

        Raises:
            Unavailable: it was still raised when patience ran out.
        """
        ends_at_s = time.monotonic() + self.lasts_s
        ceiling_s = self.first_wait_s
        while True:
            try:
                return await call()
            except Unavailable:
                left_s = ends_at_s - time.monotonic()
                if left_s <= 0:
                    raise
            on_wait()
            await asyncio.sleep(min(left_s, ceiling_s * random.uniform(0.5, 1.0)))  # noqa: S311 jitter, no secret
            ceiling_s = min(2 * ceiling_s, self.longest_wait_s)


PATIENT: Final = Patience()
"""Longer than storage takes to restart or to elect a leader; shorter than a lease, together with the beats before."""
