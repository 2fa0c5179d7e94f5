"""Spans of planning and encoding: names, attributes, and the engine's stages as spans of their own."""

from collections.abc import Callable
from typing import Final

from opentelemetry import context, trace

from services.runtime import semconv
from services.transcode.engine.outcome import ChunkOutcome, Outcome, Stage, TrackOutcome

TRACER: Final = trace.get_tracer("millrace.transcode")


def stage_recorder() -> Callable[[Stage], None]:
    """Records stages of a child as children of the span that is current now, at the times that the child measured."""
    parent = context.get_current()

    def record(stage: Stage) -> None:
        attributes = {f"{semconv.ENGINE_PREFIX}{name}": value for name, value in stage.attributes.items()}
        span = TRACER.start_span(stage.name, context=parent, start_time=stage.start_unix_ns, attributes=attributes)
        span.end(stage.end_unix_ns)

    return record


def outcome_attributes(outcome: Outcome, output_bytes: int) -> dict[str, int]:
    """What an encode's span says of what was made."""
    counts = {semconv.OUTPUT_BYTES: output_bytes}
    tracks = [outcome] if isinstance(outcome, TrackOutcome) else []
    if isinstance(outcome, ChunkOutcome):
        tracks = [piece.track for piece in outcome.pieces]
    if tracks:
        counts[semconv.FRAME_COUNT] = sum(track.frame_count for track in tracks)
        counts[semconv.SEGMENT_COUNT] = sum(len(track.segments) for track in tracks)
    return counts


def failed(span: trace.Span, reason: str, error: Exception) -> None:
    """Marks a span as failed for a reason that is recorded elsewhere too."""
    span.set_attribute(semconv.FAILURE_REASON, reason)
    span.set_attribute(semconv.ERROR_TYPE, type(error).__name__)
    span.set_status(trace.StatusCode.ERROR, reason)
    span.record_exception(error)
