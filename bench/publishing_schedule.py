"""How long a fleet takes for tasks whose costs are known: list scheduling over the cores of its workers. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_NOTHING_S = 1e-9


@dataclass(frozen=True, slots=True)
class Cost:
    """What one task took, wherever it ran.

    Attributes:
        label: of the task.
        lane: whose slot it takes.
        cpu_s: of one core, in the child and around it.
        wait_s: with its slot taken and no core in use: claim, last objects to storage, recording.
    """

    label: str
    lane: str
    cpu_s: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class Placed:
    """A task on the clock of its schedule: when its slot was taken, and when it was free again."""

    label: str
    lane: str
    start_s: float
    end_s: float


@dataclass(slots=True)
class _Running:
    task: Cost
    start_s: float
    wait_s: float
    cpu_s: float


def scheduled(tasks: Sequence[Cost], *, cores: int, slots: Mapping[str, int]) -> list[Placed]:
    """When each task would begin and end.

    Tasks begin in their order, each as soon as its lane has a free slot. One that computes has a core to itself, or an
    equal share of all where more compute than there are cores.

    Args:
        tasks: in the order of the queue.
        cores: of all workers together, at least 1.
        slots: tasks in hand at once by lane, at least 1 for each lane of the tasks.

    Returns:
        A placement for each task, in the order of their ends.
    """
    queued, running, placed, now_s = list(tasks), list[_Running](), list[Placed](), 0.0
    while queued or running:
        for task in list(queued):
            if sum(one.task.lane == task.lane for one in running) < slots[task.lane]:
                queued.remove(task)
                running.append(_Running(task, now_s, task.wait_s, task.cpu_s))
        computing = sum(one.wait_s <= _NOTHING_S for one in running)
        share = min(1.0, cores / computing) if computing else 1.0
        step_s = min(one.cpu_s / share if one.wait_s <= _NOTHING_S else one.wait_s for one in running)
        now_s += step_s
        for one in running:
            if one.wait_s > _NOTHING_S:
                one.wait_s -= step_s
            else:
                one.cpu_s -= step_s * share
        for one in [each for each in running if each.wait_s <= _NOTHING_S and each.cpu_s <= _NOTHING_S]:
            running.remove(one)
            placed.append(Placed(one.task.label, one.task.lane, one.start_s, now_s))
    return placed


def makespan_s(placed: Sequence[Placed]) -> float:
    """Until the last task has ended; 0 without tasks."""
    return max((one.end_s for one in placed), default=0.0)


def idle_share(tasks: Sequence[Cost], placed: Sequence[Placed], cores: int) -> float:
    """The part of all cores' time, 0 to 1, in which nothing computes before the last task ends."""
    total_s = cores * makespan_s(placed)
    return 1 - sum(task.cpu_s for task in tasks) / total_s if total_s else 0.0
