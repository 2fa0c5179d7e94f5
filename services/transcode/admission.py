"""Shares a process's memory out among its children: a task begins only when what it will need fits.

First come, first served, whatever others need: so the largest one waits for those before it to end, and is never
overtaken by small ones for ever. A task that needs more than there is at all begins when nothing else runs.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta


def beginning(budget_bytes: int, held_bytes: int, waiting: Iterable[int]) -> int:
    """How many of those who wait may begin now.

    Args:
        budget_bytes: what there is.
        held_bytes: what those who run were promised.
        waiting: the needs of those who wait, in the order in which they came.
    """
    count = 0
    for need_bytes in waiting:
        held_bytes += min(need_bytes, budget_bytes)
        if held_bytes > budget_bytes:
            break
        count += 1
    return count


class NoRoom(Exception):
    """There was no share in time, or there will be none any more."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """Who waits, and for how much; `begun` is set once it was granted, or nothing will be any more."""

    need_bytes: int
    begun: asyncio.Event = field(default_factory=asyncio.Event)


class Admission:
    """The memory of a process, in shares. Of one event loop."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._held_bytes = 0
        self._queue: deque[_Waiting] = deque()
        self._is_closed = False

    @property
    def held_bytes(self) -> int:
        """What those who run were promised, all together."""
        return self._held_bytes

    @asynccontextmanager
    async def admitted(
        self,
        need_bytes: int,
        *,
        within: timedelta,
        on_wait: Callable[[], Awaitable[None]] | None = None,
        every: timedelta = timedelta.max,
    ) -> AsyncIterator[None]:
        """Waits for a share, and holds it while the block lasts.

        Args:
            need_bytes: how much; what is more than the whole budget counts as the whole.
            within: how long to wait at most.
            on_wait: called again and again while there is none.
            every: how often.

        Raises:
            NoRoom: that was too long, or the admission was closed.
        """
        one = _Waiting(min(need_bytes, self._budget_bytes))
        self._queue.append(one)
        self._begin()
        try:
            await self._begun(one, within, on_wait, every)
            if self._is_closed:
                raise NoRoom
            yield
        finally:
            if one in self._queue:
                self._queue.remove(one)
            else:
                self._held_bytes -= one.need_bytes
            self._begin()

    def close(self) -> None:
        """From now on nobody begins: neither who waits nor who comes. Those who have begun keep their shares."""
        self._is_closed = True
        for one in self._queue:
            one.begun.set()

    async def _begun(
        self, one: _Waiting, within: timedelta, on_wait: Callable[[], Awaitable[None]] | None, every: timedelta
    ) -> None:
        until_s = time.monotonic() + within.total_seconds()
        while not (one.begun.is_set() or self._is_closed):
            if (left_s := until_s - time.monotonic()) <= 0:
                raise NoRoom
            try:
                async with asyncio.timeout(min(every.total_seconds(), left_s)):
                    await one.begun.wait()
            except TimeoutError:
                if on_wait is not None:
                    await on_wait()

    def _begin(self) -> None:
        for _ in range(beginning(self._budget_bytes, self._held_bytes, (one.need_bytes for one in self._queue))):
            one = self._queue.popleft()
            self._held_bytes += one.need_bytes
            one.begun.set()
