from typing import Any

import pytest

from bench.publishing_trace import COMPLETE, PUBLISH, is_whole, way

Span = dict[str, Any]


def span(name: str, start_s: float, end_s: float, *, parent: str = "", service: str = "", **attributes: float) -> Span:
    return {
        "span_id": name if name not in {"child", "child start"} else f"{parent} {name}",
        "parent_span_id": parent,
        "service": service,
        "name": name,
        "start_ns": int(start_s * 1e9),
        "end_ns": int(end_s * 1e9),
        "attributes": {f"millrace.engine.{key}": value for key, value in attributes.items()},
    }


def encode(label: str, lane: str, start_s: float, end_s: float, cpu_s: float) -> list[Span]:
    """A task whose child starts at once and ends half a second before the task does."""
    name, message = f"encode {label}", f"process tasks.{lane}"
    delivery = {**span(message, start_s, end_s), "span_id": f"{label} message"}
    return [
        delivery,
        span(name, start_s, end_s, parent=delivery["span_id"], service="transcode"),
        span("child start", start_s, start_s + 0.1, parent=name),
        span("child", start_s + 0.1, end_s - 0.5, parent=name, cpu_s=cpu_s),
    ]


TRACE = [
    span(COMPLETE, 10.0, 10.1),
    span("probe", 10.5, 11.5),
    span("plan", 11.5, 11.6),
    *encode("video-001", "video", 12.0, 20.0, 6.0),
    *encode("audio", "audio", 12.2, 14.0, 2.0),
    span(PUBLISH, 20.25, 22.0),
    span("warm", 20.75, 21.75),
]


def test_the_way_is_cut_into_what_a_fleet_shortens_and_what_it_does_not() -> None:
    found = way(TRACE)
    assert [stretch.name for stretch in found.before] == ["accept", "probe", "plan, queue"]
    assert [stretch.seconds for stretch in found.before] == pytest.approx([0.5, 1.0, 0.5])
    assert [stretch.seconds for stretch in found.after] == pytest.approx([0.25, 0.5, 1.0, 0.25])
    assert sum(stretch.seconds for stretch in (*found.before, *found.after)) + found.tasks_wall_s == found.wall_s == 12


def test_the_process_around_the_children_is_shared_out() -> None:
    costs = way(TRACE, parent_cpu_s=4.0).tasks
    assert [(cost.label, cost.lane) for cost in costs] == [("video-001", "video"), ("audio", "audio")]
    assert [cost.cpu_s for cost in costs] == pytest.approx([9.0, 3.0])
    assert [cost.wait_s for cost in costs] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("missing", ["warm", PUBLISH, "probe", "child"])
def test_a_trace_is_waited_for_until_it_is_whole(missing: str) -> None:
    assert is_whole(TRACE)
    assert not is_whole([one for one in TRACE if one["name"] != missing])
