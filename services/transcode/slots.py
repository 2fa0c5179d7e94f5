"""What this process's workers are doing right now: one slot for each task that a lane may have in hand."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from services.transcode.tasks import Claimed


class Pulse:
    """The sign of life of one attempt: how far it is, and whether it came further since somebody last looked."""

    def __init__(self) -> None:
        self.fraction = 0.0
        self.changed = asyncio.Event()
        self._alive = True

    def advance(self, fraction: float) -> None:
        """Frames advanced: `fraction` of the task is done, 0 to 1; it never falls."""
        self.fraction = max(self.fraction, fraction)
        self.changed.set()
        self.touch()

    def touch(self) -> None:
        """Something other than frames advanced: a block arrived, an artifact was stored."""
        self._alive = True

    def beat(self) -> bool:
        """Whether anything advanced since the last call."""
        alive, self._alive = self._alive, False
        return alive


class Slots:
    """The slots of a process, by lane."""

    def __init__(self, worker: str, sizes: Mapping[str, int]) -> None:
        """All slots, idle.

        Args:
            worker: name of the process, for people.
            sizes: how many tasks each lane may have in hand.
        """
        self.worker = worker
        self._slots: dict[str, list[tuple[Claimed, Pulse] | None]] = {
            lane: [None] * size for lane, size in sizes.items()
        }

    @contextmanager
    def taken(self, claimed: Claimed, pulse: Pulse) -> Iterator[None]:
        """Shows a claimed task in a free slot of its lane while the block lasts; in a further one if none is free."""
        slots = self._slots.setdefault(claimed.task.lane, [])
        if None not in slots:
            slots.append(None)
        index = slots.index(None)
        slots[index] = (claimed, pulse)
        try:
            yield
        finally:
            slots[index] = None

    def __iter__(self) -> Iterator[tuple[str, tuple[Claimed, Pulse] | None]]:
        """Every slot: its lane, and what it has in hand."""
        return iter([(lane, work) for lane, slots in self._slots.items() for work in slots])
