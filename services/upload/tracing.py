"""One trace from initiate to published, also for clients that send no trace context on their later calls."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

from services.runtime import telemetry

_tracer = trace.get_tracer("millrace.upload")


@contextmanager
def continuing(name: str, traceparent: str) -> Iterator[None]:
    """Makes what happens inside the block part of the trace that the upload began with.

    Nothing changes when the call in hand belongs to that trace already. Otherwise a span of this name goes on where the
    upload began, linked to the call that caused it.

    Args:
        name: of the span.
        traceparent: as recorded when the upload began; empty changes nothing.
    """
    parent = telemetry.context_from({"traceparent": traceparent} if traceparent else None)
    began = trace.get_current_span(parent).get_span_context()
    here = trace.get_current_span().get_span_context()
    if not began.is_valid or began.trace_id == here.trace_id:
        yield
        return
    links = [trace.Link(here)] if here.is_valid else []
    with _tracer.start_as_current_span(name, context=parent, links=links):
        yield
