"""A gRPC server with what every one of ours has: health, reflection, tracing, deadlines, errors, draining."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.instrumentation.grpc import aio_server_interceptor

from services.runtime.errors import Unavailable
from services.runtime.interceptors import ErrorInterceptor

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Room for the segment list of a day-long video; far above any other message."""

DRAIN_S: Final = 5.0
"""How long calls in flight may take after NOT_SERVING; below the usual 30 s grace of an orchestrator."""

_HEALTH: Final = f"/{health.SERVICE_NAME}/"

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def serving(listen: str, services: Sequence[tuple[str, Callable[[grpc.aio.Server], None]]]) -> AsyncIterator[str]:
    """Serves until the block ends, then drains: NOT_SERVING first, calls in flight get their time.

    Args:
        listen: `host:port`; port 0 takes a free one.
        services: full name of each service and the function that adds its servicer to a server.

    Yields:
        The address it serves at, as `host:port`.

    Raises:
        Unavailable: the address cannot be bound.
    """
    server = grpc.aio.server(
        interceptors=[
            aio_server_interceptor(filter_=_is_traced),
            ErrorInterceptor(),
        ],
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            # Without these a server takes the keepalive pings of our channels for a flood and hangs up.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ],
    )
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = [name for name, _ in services]
    for _, add_to in services:
        add_to(server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise Unavailable(f"cannot listen at {listen}") from error
    await server.start()
    for name in ["", *names]:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    address = f"{listen.rpartition(':')[0]}:{port}"
    _log.info("grpc_serving", address=address, services=names)
    try:
        yield address
    finally:
        await checks.enter_graceful_shutdown()
        await server.stop(DRAIN_S)


def _is_traced(call: grpc.HandlerCallDetails) -> bool:
    """Whether a call is more than a health check. The library's own filter inspects types on each call, at 0.1 ms."""
    method = call.method
    return not (method.startswith(_HEALTH) if isinstance(method, str) else method.startswith(_HEALTH.encode()))
