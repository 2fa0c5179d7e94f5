"""Shares a process's memory out among its children: a task begins only when what it will need fits.

First come, first served, whatever others need: so the largest one waits for those before it to end, and is never
overtaken by small ones for ever. A task that needs more than there is at all begins when nothing else runs.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
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


class Share:
    """What one task was promised."""

    def __init__(self, admission: "Admission", size_bytes: int) -> None:
        self._admission = admission
        self.size_bytes = size_bytes

    def resized(self, need_bytes: int) -> bool:
        """Whether the task may go on with another need than was thought; less is always granted, more without a wait.

        Where it is refused, nothing has changed.
        """
        return self._admission.resize(self, need_bytes)


class Admission:
    """The memory of a process, in shares. Of one event loop."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._held_bytes = 0
        self._waiting: deque[tuple[Share, asyncio.Event]] = deque()

    @property
    def held_bytes(self) -> int:
        """What those who run were promised, all together."""
        return self._held_bytes

    @asynccontextmanager
    async def admitted(
        self, need_bytes: int, *, on_wait: Callable[[], Awaitable[None]], every: timedelta
    ) -> AsyncIterator[Share]:
        """Waits for a share, and holds it while the block lasts.

        Args:
            need_bytes: how much; what is more than the whole budget counts as the whole.
            on_wait: called again and again while there is none.
            every: how often.
        """
        share, begins = Share(self, min(need_bytes, self._budget_bytes)), asyncio.Event()
        self._waiting.append((share, begins))
        self._begin()
        try:
            while not begins.is_set():
                try:
                    async with asyncio.timeout(every.total_seconds()):
                        await begins.wait()
                except TimeoutError:
                    await on_wait()
            yield share
        finally:
            if begins.is_set():
                self._held_bytes -= share.size_bytes
            else:
                self._waiting.remove((share, begins))
            self._begin()

    def resize(self, share: Share, need_bytes: int) -> bool:
        """See `Share.resized`. Whoever waits comes before whoever wants more."""
        need_bytes = min(need_bytes, self._budget_bytes)
        more_bytes = need_bytes - share.size_bytes
        if more_bytes > 0 and (self._waiting or self._held_bytes + more_bytes > self._budget_bytes):
            return False
        self._held_bytes += more_bytes
        share.size_bytes = need_bytes
        self._begin()
        return True

    def _begin(self) -> None:
        for _ in range(
            beginning(self._budget_bytes, self._held_bytes, (share.size_bytes for share, _ in self._waiting))
        ):
            share, begins = self._waiting.popleft()
            self._held_bytes += share.size_bytes
            begins.set()
