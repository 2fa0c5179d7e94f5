"""Blocking calls in threads that nobody has to wait for at the end.

The threads of a `ThreadPoolExecutor` are joined when the interpreter exits, even after `shutdown(wait=False)`: one call
that hangs on a silent server would hold the whole process. These are daemons, and so end with it. They are kept between
calls: to start one holds the event loop up until it runs.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")


class Threads:
    """Runs blocking calls, so many at once; further ones wait their turn without a thread."""

    def __init__(self, limit: int, name: str) -> None:
        """So many threads at most, with this name in a debugger; they start as they are needed."""
        self._slots = asyncio.Semaphore(limit)
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread_count = 0
        self._busy_count = 0

    async def run(self, call: Callable[[], _T]) -> _T:
        """Runs a call in a thread, within the current context, and passes on what it returns or raises.

        A caller that is cancelled no longer waits; the call itself cannot be stopped and keeps its slot to its end.
        """
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        outcome: Future[_T] = Future()
        outcome.set_running_or_notify_cancel()
        context = copy_context()

        def work() -> None:
            try:
                outcome.set_result(context.run(call))
            except BaseException as error:  # else the slot would be lost, and the caller would wait for ever
                outcome.set_exception(error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits for a slot any more
                loop.call_soon_threadsafe(self._done)

        try:
            if self._busy_count == self._thread_count:
                threading.Thread(target=_serve, args=(self._work,), name=self._name, daemon=True).start()
                self._thread_count += 1
        except RuntimeError:
            self._slots.release()
            raise
        self._busy_count += 1
        self._work.put(work)
        return await asyncio.wrap_future(outcome)

    def close(self) -> None:
        """Lets every thread end once it is free."""
        for _ in range(self._thread_count):
            self._work.put(None)

    def _done(self) -> None:
        self._busy_count -= 1
        self._slots.release()


def _serve(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := queue.get()) is not None:
        work()
