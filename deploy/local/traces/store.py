"""The recent traces, in memory, bounded by their number of spans."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from deploy.local.traces.spans import Attributes, Span, Value

MEDIA_ID = "millrace.media.id"
"""The attribute that names the media a span works on, as ``services.runtime.semconv`` has it. Written once more
here because the trace store knows nothing of the services."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One trace at a glance.

    Attributes:
        name: the root span's name; of the earliest span while no root has arrived.
        service: the root's (or that span's) service.
        services: every service that took part, in the order of their first spans.
        start_ns: Unix time, nanoseconds, of the earliest span.
        duration_ns: from the earliest start to the latest end.
        error_count: spans that failed.
        media_ids: every media named by an attribute, in order of appearance.
        is_complete: whether a root and every span's parent have arrived.
    """

    trace_id: str
    name: str
    service: str
    services: tuple[str, ...]
    start_ns: int
    duration_ns: int
    span_count: int
    error_count: int
    media_ids: tuple[str, ...]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """Which traces are wanted; empty fields match everything, several must all match.

    Attributes:
        service: took part in the trace.
        media_id: named by a span of the trace.
        text: part of a trace id, or of a span's name, status message or attribute value, in any case.
        errors_only: at least one span failed.
    """

    service: str = ""
    media_id: str = ""
    text: str = ""
    errors_only: bool = False


@dataclass(slots=True)
class _Trace:
    spans: dict[str, Span] = field(default_factory=dict)
    summary: Summary | None = None  # of the spans so far; None after a change


class TraceStore:
    """Keeps whole traces, and gives up the ones that began to arrive first when there are too many spans.

    Not thread-safe: the receiver and the pages share one event loop.
    """

    def __init__(self, max_spans: int) -> None:
        """Make an empty store that holds at most ``max_spans`` (at least 1) spans."""
        if max_spans < 1:
            raise ValueError(f"max_spans must be at least 1, not {max_spans}")
        self._max_spans = max_spans
        self._span_count = 0
        self._traces: dict[str, _Trace] = {}  # by arrival
        self._services: dict[str, None] = {}  # an ordered set

    @property
    def span_count(self) -> int:
        """Spans held now."""
        return self._span_count

    @property
    def services(self) -> tuple[str, ...]:
        """Every service ever seen, in order of appearance; a service's place never changes."""
        return tuple(self._services)

    def add(self, spans: Iterable[Span]) -> None:
        """Take in spans; one sent again replaces itself."""
        for span in spans:
            trace = self._traces.setdefault(span.trace_id, _Trace())
            self._span_count += span.span_id not in trace.spans
            trace.spans[span.span_id] = span
            trace.summary = None
            self._services.setdefault(span.service)
            while self._span_count > self._max_spans:
                self._evict()

    def trace(self, trace_id: str) -> tuple[Span, ...]:
        """The spans of a trace by start time; empty when there is no such trace (any more)."""
        trace = self._traces.get(trace_id)
        return tuple(sorted(trace.spans.values(), key=_by_start)) if trace else ()

    def find(self, wanted: Filter, limit: int) -> list[Summary]:
        """At most ``limit`` matching traces, latest start first."""
        matching = [self._summary(trace) for trace in self._traces.values() if self._matches(trace, wanted)]
        matching.sort(key=lambda summary: summary.start_ns, reverse=True)
        return matching[:limit]

    def _evict(self) -> None:
        oldest = next(iter(self._traces))
        self._span_count -= len(self._traces.pop(oldest).spans)

    def _summary(self, trace: _Trace) -> Summary:
        if trace.summary is None:
            trace.summary = summarise(trace.spans.values())
        return trace.summary

    def _matches(self, trace: _Trace, wanted: Filter) -> bool:
        summary = self._summary(trace)
        return (
            (not wanted.service or wanted.service in summary.services)
            and (not wanted.media_id or wanted.media_id in summary.media_ids)
            and (not wanted.errors_only or summary.error_count > 0)
            and (not wanted.text or _mentions(trace.spans.values(), wanted.text.casefold()))
        )


def summarise(spans: Iterable[Span]) -> Summary:
    """Look at all spans (at least one) of a trace at once."""
    ordered = sorted(spans, key=_by_start)
    ids = {span.span_id for span in ordered}
    tops = [span for span in ordered if span.parent_span_id not in ids]
    roots = [span for span in tops if not span.is_orphan_among(ids)]
    top = next(iter((*roots, *tops)), ordered[0])
    start_ns = ordered[0].start_ns
    return Summary(
        trace_id=top.trace_id,
        name=top.name,
        service=top.service,
        services=tuple(dict.fromkeys(span.service for span in ordered)),
        start_ns=start_ns,
        duration_ns=max(span.end_ns for span in ordered) - start_ns,
        span_count=len(ordered),
        error_count=sum(span.is_error for span in ordered),
        media_ids=tuple(
            dict.fromkeys(str(span.attributes[MEDIA_ID]) for span in ordered if MEDIA_ID in span.attributes)
        ),
        is_complete=bool(roots) and len(roots) == len(tops),
    )


def _by_start(span: Span) -> tuple[int, str]:
    return span.start_ns, span.span_id


def _mentions(spans: Iterable[Span], text: str) -> bool:
    return any(
        text in span.name.casefold()
        or text in span.trace_id
        or text in span.status_message.casefold()
        or _value_mentions(span.attributes, text)
        or any(text in event.name.casefold() or _value_mentions(event.attributes, text) for event in span.events)
        for span in spans
    )


def _value_mentions(value: "Value | Attributes", text: str) -> bool:
    if isinstance(value, list):
        return any(_value_mentions(one, text) for one in value)
    if isinstance(value, dict):
        return any(_value_mentions(one, text) for one in value.values())
    return text in str(value).casefold()
