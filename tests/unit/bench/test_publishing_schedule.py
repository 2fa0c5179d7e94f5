import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.publishing_schedule import Cost, Placed, idle_share, makespan_s, scheduled


def chunk(label: str, cpu_s: float, wait_s: float = 0.0) -> Cost:
    return Cost(label, "video", cpu_s, wait_s)


def spans(placed: list[Placed]) -> dict[str, tuple[float, float]]:
    return {one.label: (pytest.approx(one.start_s), pytest.approx(one.end_s)) for one in placed}  # type: ignore[misc]


def test_a_free_slot_takes_the_next_task_of_the_queue() -> None:
    tasks = [chunk("a", 3), chunk("b", 1), chunk("c", 1), chunk("d", 4)]
    placed = scheduled(tasks, cores=2, slots={"video": 2})
    assert spans(placed) == {"a": (0, 3), "b": (0, 1), "c": (1, 2), "d": (2, 6)}
    assert makespan_s(placed) == pytest.approx(6)
    assert idle_share(tasks, placed, 2) == pytest.approx(1 / 4)


def test_a_task_that_waits_keeps_its_slot_and_no_core() -> None:
    placed = scheduled([chunk("a", 2, wait_s=1), chunk("b", 2)], cores=1, slots={"video": 1})
    assert spans(placed) == {"a": (0, 3), "b": (3, 5)}
    both = scheduled([chunk("a", 2, wait_s=1), chunk("b", 1)], cores=1, slots={"video": 2})
    assert spans(both) == {"b": (0, 1), "a": (0, 3)}


def test_lanes_share_the_cores_that_there_are() -> None:
    """Sound and picture of one worker: both take twice as long until the shorter one has ended."""
    tasks = [chunk("picture", 4), Cost("audio", "audio", 1, 0)]
    assert spans(scheduled(tasks, cores=1, slots={"video": 1, "audio": 1})) == {"audio": (0, 2), "picture": (0, 5)}


def test_without_tasks_nothing_takes_time() -> None:
    assert makespan_s(scheduled([], cores=1, slots={})) == 0
    assert idle_share([], [], 1) == 0


costs = st.lists(st.builds(chunk, st.uuids().map(str), st.floats(0, 50), st.floats(0, 2)), min_size=1, max_size=12)


@settings(deadline=None)
@given(costs, st.integers(1, 8))
def test_no_schedule_beats_its_bounds_and_none_wastes_more_than_a_list_may(tasks: list[Cost], workers: int) -> None:
    placed = scheduled(tasks, cores=workers, slots={"video": workers})
    assert sorted(one.label for one in placed) == sorted(task.label for task in tasks)
    whole_s = [task.cpu_s + task.wait_s for task in tasks]
    least_s = max(*whole_s, sum(whole_s) / workers)
    # Graham's bound: no list is worse than 2 - 1/m times the best.
    assert least_s - 1e-6 <= makespan_s(placed) <= (2 - 1 / workers) * least_s + 1e-6
