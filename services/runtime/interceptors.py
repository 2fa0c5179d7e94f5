"""What happens around every gRPC call on the server: a deadline, and the translation of errors.

Our taxonomy becomes a status with `google.rpc.ErrorInfo` (AIP-193). Anything else is a defect: the caller gets a bland
INTERNAL, the log gets the whole story with the trace id.
"""

from __future__ import annotations  # grpc.RpcMethodHandler is generic in its stubs only

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, cast

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.runtime import errors

ERROR_DOMAIN: Final = "millrace.dev"
"""`domain` of every ErrorInfo; with `reason` it names an error for all time."""

MAX_DEADLINE_S: Final = 30.0
"""For callers that set no deadline, or a longer one; no call of ours takes long, work goes over the queue."""

STATUS_CODES: Final[dict[type[errors.MillraceError], grpc.StatusCode]] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Stale: grpc.StatusCode.ABORTED,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
"""How each error of the taxonomy travels; read backwards by `grpc_client`."""

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""Monotonic time at which the call in hand must be over; calls made on its behalf end by then too."""

_log = structlog.get_logger(__name__)
_Behaviour = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Bounds every unary call in time and gives every error its status."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler of a unary call; streams (health watch, reflection) pass as they are."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _guarded(cast(_Behaviour, handler.unary_unary), handler_call_details.method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _guarded(behaviour: _Behaviour, method: str) -> _Behaviour:
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        remaining_s = context.time_remaining()
        limit_s = MAX_DEADLINE_S if remaining_s is None else min(remaining_s, MAX_DEADLINE_S)
        token = deadline.set(time.monotonic() + limit_s)
        try:
            async with asyncio.timeout(limit_s):
                return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except errors.MillraceError as error:
            await _abort(context, error)
        except TimeoutError:
            await _abort(context, errors.DeadlineExceeded(f"{method} did not finish within {limit_s:.1f} s"))
        except Exception:
            _log.exception("unhandled_error", method=method)
            await _abort(context, errors.Internal("internal error"))
        finally:
            deadline.reset(token)

    return guarded


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: errors.MillraceError) -> None:
    code = STATUS_CODES[type(error)]
    await context.abort_with_status(rpc_status.to_status(to_rpc_status(error, code)))


def to_rpc_status(error: errors.MillraceError, code: grpc.StatusCode) -> status_pb2.Status:
    """The rich status of an error: code, message and one ErrorInfo."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.details))
    return status_pb2.Status(code=code_pb2.Code.Value(code.name), message=error.message, details=[info])
