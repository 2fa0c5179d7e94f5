"""Calls to other services: traced, always with a deadline, retried when they were refused, errors in our taxonomy."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.instrumentation.grpc import aio_client_interceptors

from services.runtime import errors, interceptors
from services.runtime.grpc_server import MAX_MESSAGE_BYTES

DEFAULT_TIMEOUT_S: Final = 5.0
"""Our calls are single transactions or single requests to storage; five seconds is already a fault."""

KEEPALIVE_TIME_MS: Final = 10_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000
"""A peer that vanished without a word (a pulled cable, a paused machine) is missed within both together."""

_MAX_ATTEMPTS: Final = 4
_BACKOFF_S: Final = 0.1
_ERRORS = {code: kind for kind, code in interceptors.STATUS_CODES.items()} | {
    grpc.StatusCode.CANCELLED: errors.DeadlineExceeded,  # what a peer says that ran out of time, or ends
}

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@asynccontextmanager
async def channel(target: str) -> AsyncIterator[grpc.aio.Channel]:
    """An open channel to `host:port` with tracing; it reconnects by itself, quickly enough for a restarted peer."""
    async with grpc.aio.insecure_channel(
        target,
        interceptors=aio_client_interceptors(),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            # gRPC also pings to measure the link; while such a ping is out, 60 s by default, no keepalive is sent.
            ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.lb_policy_name", "round_robin"),
        ],
    ) as opened:
        yield opened


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
    request: _Request,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> _Response:
    """Calls a unary method within a deadline, the caller's own one included.

    UNAVAILABLE is retried with jittered backoff inside the deadline: every method of ours is idempotent, creates by
    their `request_id`.

    Raises:
        MillraceError: the subclass that the status stands for, with its reason and details.
    """
    ends_at = time.monotonic() + timeout_s
    if (inherited := interceptors.deadline.get()) is not None:
        ends_at = min(ends_at, inherited)
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        remaining_s = ends_at - time.monotonic()
        if remaining_s <= 0:
            break
        try:
            return await method(request, timeout=remaining_s)
        except grpc.aio.AioRpcError as error:
            translated = from_rpc_error(error)
            if not isinstance(translated, errors.Unavailable) or attempt == _MAX_ATTEMPTS:
                raise translated from error
        await asyncio.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 jitter, no secret
    raise errors.DeadlineExceeded("the deadline passed before the call was answered")


def from_rpc_error(error: grpc.aio.AioRpcError) -> errors.MillraceError:
    """The error of our taxonomy that a status stands for."""
    kind = _ERRORS.get(error.code(), errors.Internal)
    reason, details = None, {}
    status = rpc_status.from_call(cast(grpc.Call, error))  # has the trailing metadata that the function reads
    for packed in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info) and info.domain == interceptors.ERROR_DOMAIN:
            reason, details = info.reason, dict(info.metadata)
    return kind(error.details() or error.code().name, reason=reason, details=details)
