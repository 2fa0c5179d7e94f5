"""The OTLP/gRPC end: takes export requests and puts their spans into the store."""

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from deploy.local.traces.spans import spans_from_pb
from deploy.local.traces.store import TraceStore

_MAX_REQUEST_BYTES = 16 * 2**20


class _TraceService(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def Export(  # noqa: N802 - the rpc's name
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        context: grpc.aio.ServicerContext[
            trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse
        ],
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self._store.add(spans_from_pb(request))
        return trace_service_pb2.ExportTraceServiceResponse()


def receiver(store: TraceStore, address: str) -> tuple[grpc.aio.Server, int]:
    """A server, not started yet, that listens on ``host:port``; returned with the port it has bound.

    Raises:
        RuntimeError: the address is taken.
    """
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", _MAX_REQUEST_BYTES), ("grpc.so_reuseport", 0)]
    )
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_TraceService(store), server)  # type: ignore[no-untyped-call]
    return server, server.add_insecure_port(address)
