"""What the trace of a published video says of its time: the stretches before and after the tasks, and their costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.publishing_schedule import Cost

Span = Mapping[str, Any]

COMPLETE, PUBLISH = "POST /v1/complete-upload", "publish video"
_ENCODE, _CHILD, _CHILD_START, _CPU = "encode ", "child", "child start", "millrace.engine.cpu_s"
_LANE = "process tasks."


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the way that no fleet makes shorter."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Way:
    """From `complete` to `published`, as it was.

    Attributes:
        before: until the first task begins.
        tasks: in the order of their beginning.
        after: from the end of the last one.
        wall_s: of all.
        tasks_wall_s: from the beginning of the first task to the end of the last.
    """

    before: Sequence[Stretch]
    tasks: Sequence[Cost]
    after: Sequence[Stretch]
    wall_s: float
    tasks_wall_s: float


def is_whole(spans: Sequence[Span]) -> bool:
    """Whether all spans that `way` needs have arrived: each process sends its own in its own time."""
    names = {span["name"] for span in spans}
    encodes = {span["span_id"] for span in _encodes(spans)}
    measured = {span["parent_span_id"] for span in spans if span["name"] == _CHILD}
    return {COMPLETE, PUBLISH, "probe", "plan", "warm"} <= names and bool(encodes) and encodes <= measured


def way(spans: Sequence[Span], parent_cpu_s: float = 0.0) -> Way:
    """Reads a whole trace.

    Args:
        spans: of one media that was published at the first attempt.
        parent_cpu_s: what the transcode process itself spent; the tasks share it by what their children spent.
    """
    complete, publish = _one(spans, COMPLETE), _one(spans, PUBLISH)
    probe, warm = _one(spans, "probe"), _one(spans, "warm")
    encodes = sorted(_encodes(spans), key=lambda span: int(span["start_ns"]))
    begin_ns, end_ns = encodes[0]["start_ns"], max(span["end_ns"] for span in encodes)
    return Way(
        before=(
            Stretch("accept", _seconds(complete["start_ns"], probe["start_ns"])),
            Stretch("probe", _seconds(probe["start_ns"], probe["end_ns"])),
            Stretch("plan, queue", _seconds(probe["end_ns"], begin_ns)),
        ),
        tasks=_costs(spans, encodes, parent_cpu_s),
        after=(
            Stretch("join", _seconds(end_ns, publish["start_ns"])),
            Stretch("playlists, checks", _seconds(publish["start_ns"], warm["start_ns"])),
            Stretch("warm edge", _seconds(warm["start_ns"], warm["end_ns"])),
            Stretch("flip", _seconds(warm["end_ns"], publish["end_ns"])),
        ),
        wall_s=_seconds(complete["start_ns"], publish["end_ns"]),
        tasks_wall_s=_seconds(begin_ns, end_ns),
    )


def _costs(spans: Sequence[Span], encodes: Sequence[Span], parent_cpu_s: float) -> tuple[Cost, ...]:
    by_id = {span["span_id"]: span for span in spans}
    children = {span["parent_span_id"]: span for span in spans if span["name"] == _CHILD}
    starts = {span["parent_span_id"]: span for span in spans if span["name"] == _CHILD_START}
    spent_s = [float(children[span["span_id"]]["attributes"][_CPU]) for span in encodes]
    factor = 1 + parent_cpu_s / sum(spent_s)
    costs = []
    for span, cpu_s in zip(encodes, spent_s, strict=True):
        lane = next(one["name"] for one in _ancestry(span, by_id) if one["name"].startswith(_LANE))
        inside_s = sum(_duration_s(one[span["span_id"]]) for one in (children, starts))
        costs.append(
            Cost(
                label=span["name"].removeprefix(_ENCODE),
                lane=lane.removeprefix(_LANE),
                cpu_s=cpu_s * factor,
                wait_s=max(0.0, _duration_s(span) - inside_s),
            )
        )
    return tuple(costs)


def _encodes(spans: Sequence[Span]) -> list[Span]:
    return [span for span in spans if span["name"].startswith(_ENCODE) and span["service"] == "transcode"]


def _ancestry(span: Span | None, by_id: Mapping[str, Span]) -> Iterator[Span]:
    while span is not None:
        yield span
        span = by_id.get(span["parent_span_id"])


def _one(spans: Sequence[Span], name: str) -> Span:
    return next(span for span in spans if span["name"] == name)


def _duration_s(span: Span) -> float:
    return _seconds(span["start_ns"], span["end_ns"])


def _seconds(start_ns: int, end_ns: int) -> float:
    return max(0.0, (end_ns - start_ns) / 1e9)
