"""Traces and logs of one process: set up once in `app`, used through the OpenTelemetry API everywhere else.

A trace begins at the gateway and rides on as W3C trace context: in HTTP and gRPC headers, outbox rows, NATS headers.
"""

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.runtime import semconv
from services.runtime.settings import TelemetrySettings

_PROPAGATOR = TraceContextTextMapPropagator()
_EXPORT_INTERVAL_MS = 500
"""Spans of a killed process are lost from here on back; half a second keeps the loss small at little cost."""


@contextmanager
def configured(service_name: str, settings: TelemetrySettings) -> Iterator[None]:
    """Sets up logs and traces for this process, and flushes what is left at the end.

    Args:
        service_name: `service.name` of every span; the services' names joined by `+` when a process runs several.
        settings: where spans go and what is logged.
    """
    _configure_logs(settings.log_level)
    resource = Resource.create(
        {
            semconv.SERVICE_NAME: service_name,
            semconv.SERVICE_NAMESPACE: "millrace",
            semconv.SERVICE_INSTANCE_ID: f"{socket.gethostname()}:{os.getpid()}",
            semconv.SERVICE_VERSION: metadata.version("millrace"),
        }
    )
    provider = TracerProvider(
        resource=resource,
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
        shutdown_on_exit=False,
    )
    if settings.otlp_endpoint:
        exporter = OTLPSpanExporter(
            endpoint=settings.otlp_endpoint,
            insecure=not settings.otlp_endpoint.startswith("https://"),
            timeout=5,
        )
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_INTERVAL_MS))
    trace.set_tracer_provider(provider)
    AsyncPGInstrumentor().instrument(tracer_provider=provider)
    BotocoreInstrumentor().instrument(tracer_provider=provider)
    HTTPXClientInstrumentor().instrument(tracer_provider=provider)
    try:
        yield
    finally:
        provider.shutdown()


@contextmanager
def untraced() -> Iterator[None]:
    """Records nothing of what happens inside the block, here or in the services that it calls.

    For questions that are asked all the time: a parent that is not sampled travels with them.
    """
    ids = RandomIdGenerator()
    parent = trace.SpanContext(
        ids.generate_trace_id(), ids.generate_span_id(), is_remote=False, trace_flags=trace.TraceFlags(0)
    )
    with trace.use_span(trace.NonRecordingSpan(parent)):
        yield


def trace_headers() -> dict[str, str]:
    """The current span as W3C `traceparent` and `tracestate`; empty outside any span."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


def context_from(headers: Mapping[str, str] | None) -> Context:
    """The remote span that headers name, as parent for what follows; an empty context when they name none."""
    return _PROPAGATOR.extract(dict(headers or {}), context=Context())


def link_from(traceparent: str) -> trace.Link | None:
    """A link to the span that a `traceparent` names; None when it names none."""
    context = trace.get_current_span(context_from({"traceparent": traceparent})).get_span_context()
    return trace.Link(context) if context.is_valid else None


def current_trace_id() -> str:
    """The current trace as 32 hex digits; empty when nothing is recorded."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def _add_trace_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if trace_id := current_trace_id():
        event["trace_id"] = trace_id
    return event


def _configure_logs(level: str) -> None:
    """One JSON object a line on standard error, ours and the libraries' alike."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_id,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared)
    )
    logging.basicConfig(level=max(logging.WARNING, getattr(logging, level)), handlers=[handler], force=True)
