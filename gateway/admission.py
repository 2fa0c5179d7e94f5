"""How many uploads may be beginning at once; the others wait a little, in order, or are told when to come again.

In a burst everything would be let in, wait its turn somewhere behind, miss its deadline and be tried again, so that
most of the work is done for nobody. A bounded number under way keeps each of them quick, and what cannot be begun
within the patience of a client is refused at once, before it has cost anything. Each refusal names a later time, one
after the other about as fast as uploads begin: so a crowd comes back in a line, not all at once and again and again.

How fast they begin is measured at the door, while it is full: how long they stay inside says less, since in a crowd
they wait for each other there. Promises are a little faster than that. Whoever then comes too early finds room among
those who wait; were they slower, the line would leave places empty, and nobody can be called back sooner.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.runtime.errors import Unavailable

_LONGEST_RETRY_AFTER_S: Final = 600.0
_FIRST_TURN_S: Final = 0.01
"""Between two uploads that begin, until that has been measured."""
_WEIGHT: Final = 0.02
"""Of the latest in the running mean of turns: the mean of about the last fifty."""
_HASTE: Final = 0.8
"""A promised turn in measured ones."""


class Admission:
    """A door of so many places, with a bounded queue before it."""

    def __init__(self, places: int, patience_s: float) -> None:
        """Opens the door.

        Args:
            places: how many may be inside at once.
            patience_s: longest wait that anybody is let in for.
        """
        self._patience_s = patience_s
        self._free = asyncio.Semaphore(places)
        self._waiting_count = 0
        self._turn_s = _FIRST_TURN_S
        self._left_at_s: float | None = None
        """When the last one left a full door; None when it was not full."""
        self._promised_until_s = 0.0

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """A place, for as long as the block lasts.

        Raises:
            Unavailable: OVERLOADED, the wait would be too long; `retry_after_s` says when to come again.
        """
        wait_s = self._waiting_count * self._turn_s
        if wait_s > self._patience_s:
            raise self._refusal(wait_s)
        self._waiting_count += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting_count -= 1
        try:
            yield
        finally:
            self._measure()
            self._free.release()

    def _measure(self) -> None:
        now_s = time.monotonic()
        if self._left_at_s is not None:
            self._turn_s += _WEIGHT * (now_s - self._left_at_s - self._turn_s)
        self._left_at_s = now_s if self._waiting_count else None

    def _refusal(self, wait_s: float) -> Unavailable:
        """Names the first time that nobody else was promised; beyond what clients can be asked to wait, any."""
        now_s = time.monotonic()
        self._promised_until_s = max(self._promised_until_s, now_s + wait_s) + _HASTE * self._turn_s
        again_s = self._promised_until_s - now_s
        if again_s > _LONGEST_RETRY_AFTER_S:
            self._promised_until_s = now_s + _LONGEST_RETRY_AFTER_S
            again_s = _LONGEST_RETRY_AFTER_S * random.uniform(0.1, 1.0)  # noqa: S311 no secret
        return Unavailable(
            "more uploads begin than can be served",
            reason="OVERLOADED",
            details={"retry_after_s": str(math.ceil(again_s))},
        )
