"""Shares a process's memory out among its children: a task begins only when what it will need fits.

First come, first served, whatever others need: so the largest one waits for those before it to end, and is never
overtaken by small ones for ever. A task that needs more than there is at all begins when nothing else runs.
"""

import asyncio
import time
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


class NoRoom(Exception):
    """There was no share in time, or there will be none any more."""


class Share:
    """What one task was promised."""

    def __init__(self, admission: "Admission", size_bytes: int) -> None:
        self._admission = admission
        self.size_bytes = size_bytes
        self.is_granted = False

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
        self._is_closed = False

    @property
    def held_bytes(self) -> int:
        """What those who run were promised, all together."""
        return self._held_bytes

    @asynccontextmanager
    async def admitted(
        self, need_bytes: int, *, on_wait: Callable[[], Awaitable[None]], every: timedelta, within: timedelta
    ) -> AsyncIterator[Share]:
        """Waits for a share, and holds it while the block lasts.

        Args:
            need_bytes: how much; what is more than the whole budget counts as the whole.
            on_wait: called again and again while there is none.
            every: how often.
            within: how long to wait at most.

        Raises:
            NoRoom: that was too long, or the admission was closed.
        """
        share, woken = Share(self, min(need_bytes, self._budget_bytes)), asyncio.Event()
        self._waiting.append((share, woken))
        self._begin()
        try:
            until_s = time.monotonic() + within.total_seconds()
            while not (share.is_granted or self._is_closed):
                if (left_s := until_s - time.monotonic()) <= 0:
                    raise NoRoom
                try:
                    async with asyncio.timeout(min(every.total_seconds(), left_s)):
                        await woken.wait()
                except TimeoutError:
                    await on_wait()
            if self._is_closed:
                raise NoRoom
            yield share
        finally:
            if share.is_granted:
                self._held_bytes -= share.size_bytes
            else:
                self._waiting.remove((share, woken))
            self._begin()

    def close(self) -> None:
        """From now on nobody begins: neither who waits nor who comes. Those who have begun keep their shares."""
        self._is_closed = True
        for _, woken in self._waiting:
            woken.set()

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
            share, woken = self._waiting.popleft()
            self._held_bytes += share.size_bytes
            share.is_granted = True
            woken.set()
