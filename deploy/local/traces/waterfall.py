"""A trace as rows of a waterfall: the tree of its spans, each with its place on the time axis."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from deploy.local.traces.spans import Span


@dataclass(frozen=True, slots=True)
class Row:
    """One span in its place.

    Attributes:
        depth: 0 for a root.
        child_count: direct children.
        descendant_count: all that disappears when the row is collapsed.
        left: where its bar begins, as a fraction of the trace's duration, in [0, 1].
        width: the length of its bar, likewise; ``left + width <= 1``.
        is_orphan: its parent is named but not here (not arrived yet, or given up).
        linked_from: spans of this trace that link to it.
    """

    span: Span
    depth: int
    child_count: int
    descendant_count: int
    left: float
    width: float
    is_orphan: bool
    linked_from: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the time axis: where, as a fraction of the duration, and how long after the start."""

    left: float
    offset_ns: int


def waterfall(spans: Sequence[Span]) -> list[Row]:
    """Every span exactly once, parents before children, siblings by start time.

    Spans whose parent is missing stand as roots of their own. So do spans that name each other as parents in
    a circle, which no honest sender does: the earliest of them is shown as the root of the rest.
    """
    if not spans:
        return []
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    here = {span.span_id: span for span in ordered}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in ordered:
        if span.parent_span_id in here:
            children[span.parent_span_id].append(span)
    start_ns = ordered[0].start_ns
    total_ns = max(1, max(span.end_ns for span in ordered) - start_ns)
    linked_from = _linked_from(ordered)

    rows: list[Row] = []
    seen: set[str] = set()

    def descend(root: Span) -> Iterator[tuple[Span, int]]:
        pending = [(root, 0)]
        while pending:
            span, depth = pending.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            yield span, depth
            pending += [(child, depth + 1) for child in reversed(children[span.span_id])]

    roots = [span for span in ordered if span.parent_span_id not in here]
    for root in (*roots, *ordered):  # the second part finds circles
        for span, depth in descend(root):
            left = min(max((span.start_ns - start_ns) / total_ns, 0.0), 1.0)
            rows.append(
                Row(
                    span=span,
                    depth=depth,
                    child_count=len(children[span.span_id]),
                    descendant_count=0,
                    left=left,
                    width=min(span.duration_ns / total_ns, 1.0 - left),
                    is_orphan=span.is_orphan_among(here),
                    linked_from=tuple(linked_from[span.span_id]),
                )
            )
    return _with_descendants(rows)


def ticks(duration_ns: int, at_most: int = 6) -> list[Tick]:
    """Marks at round distances (1, 2 or 5 times a power of ten), at most ``at_most`` beside the first."""
    if duration_ns <= 0:
        return [Tick(0.0, 0)]
    step = next(
        factor * 10**power
        for power in range(len(str(duration_ns)) + 1)
        for factor in (1, 2, 5)
        if duration_ns / (factor * 10**power) <= at_most
    )
    return [Tick(offset / duration_ns, offset) for offset in range(0, duration_ns + 1, step)]


def _linked_from(spans: Sequence[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        for link in span.links:
            if link.trace_id == span.trace_id:
                found[link.span_id].append(span)
    return found


def _with_descendants(rows: list[Row]) -> list[Row]:
    """Count, for each row, how many of the following ones lie deeper before one that does not."""
    counts = [0] * len(rows)
    open_rows: list[int] = []  # the row itself is never among them while it is looked at
    for place, row in enumerate(rows):
        while open_rows and rows[open_rows[-1]].depth >= row.depth:
            open_rows.pop()
        for ancestor in open_rows:
            counts[ancestor] += 1
        open_rows.append(place)
    return [replace(row, descendant_count=count) for row, count in zip(rows, counts, strict=True)]
