"""Sharing a few slots among files: a large one takes all of them for its parts, a small one a single slot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """A number of slots, given in the order in which they were asked for, so that nobody waits for ever."""

    def __init__(self, count: int) -> None:
        """All slots are free; there is at least one."""
        self._count = count
        self._free = asyncio.Semaphore(count)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def taken(self, *, all_of_them: bool) -> AsyncIterator[None]:
        """One slot, or all, as long as the block lasts."""
        wanted, got = (self._count if all_of_them else 1), 0
        try:
            async with self._turn:  # two that each hold half and want all would wait for one another
                for _ in range(wanted):
                    await self._free.acquire()
                    got += 1
            yield
        finally:
            for _ in range(got):
                self._free.release()
