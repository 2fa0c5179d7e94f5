"""How far a media is: what the tables say is done, and what workers announce in between. Pure.

Announcements get lost and a second attempt begins again at nothing; what is shown only ever grows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

PUBLISHING_SHARE: Final = 0.02
"""Kept back while anything remains to be done: the encodes are finished before the media is published."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a worker said last of one task; see `media.v1.TaskProgress`."""

    task_id: str
    label: str
    fraction: float
    cost_share: float


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task as the tables know it; see `media.v1.TaskSummary`."""

    task_id: str
    label: str
    is_done: bool
    cost_share: float


@dataclass(frozen=True, slots=True)
class LabelledFraction:
    """How far the tasks of one kind are, 0 to 1: those whose labels begin alike, as `video-001` and `video-002`."""

    label: str
    fraction: float


class Progress:
    """Progress of one generation of one media; no value of it ever falls."""

    def __init__(self) -> None:
        self._planned: dict[str, PlannedTask] = {}
        self._fractions: dict[str, float] = {}
        self._announced: dict[str, Announcement] = {}
        self._floor = 0.0
        self._floors: dict[str, float] = {}

    def plan(self, tasks: Iterable[PlannedTask]) -> None:
        """Takes over what the tables say; tasks in plan order."""
        for task in tasks:
            self._planned[task.task_id] = task
            if task.is_done:
                self._fractions[task.task_id] = 1.0

    def hear(self, announcement: Announcement) -> None:
        """Takes over what a worker says."""
        task_id = announcement.task_id
        self._announced[task_id] = announcement
        said = min(max(announcement.fraction, 0.0), 1.0)
        self._fractions[task_id] = max(said, self._fractions.get(task_id, 0.0))

    @property
    def fraction(self) -> float:
        """Of the media, 0 to 1 less what publishing takes."""
        shares = {task_id: one.cost_share for task_id, one in self._announced.items()}
        shares |= {task_id: one.cost_share for task_id, one in self._planned.items()}
        done = sum(shares[task_id] * fraction for task_id, fraction in self._fractions.items())
        self._floor = max(self._floor, min(done, 1.0) * (1 - PUBLISHING_SHARE))
        return self._floor

    @property
    def tasks(self) -> list[LabelledFraction]:
        """Of each kind of task, weighed by cost, in plan order; of none before the plan is known."""
        kinds: dict[str, list[str]] = {}
        for task_id, one in self._planned.items():
            kinds.setdefault(one.label.partition("-")[0], []).append(task_id)
        return [LabelledFraction(kind, self._of_kind(kind, task_ids)) for kind, task_ids in kinds.items()]

    def _of_kind(self, kind: str, task_ids: Sequence[str]) -> float:
        shares = {task_id: self._planned[task_id].cost_share for task_id in task_ids}
        total = sum(shares.values())
        done = sum(share * self._fractions.get(task_id, 0.0) for task_id, share in shares.items())
        all_done = all(self._fractions.get(task_id) == 1.0 for task_id in task_ids)
        fraction = 1.0 if all_done else min(done / total, 1.0) if total else 0.0
        self._floors[kind] = max(fraction, self._floors.get(kind, 0.0))
        return self._floors[kind]
