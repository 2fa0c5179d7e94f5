"""The services behind the gateway, as gRPC stubs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from gateway.settings import GatewaySettings
from media.v1 import metadata_service_pb2_grpc, upload_service_pb2_grpc
from services.runtime import grpc_client

COMPLETE_TIMEOUT_S: Final = 25.0
"""Storage may take its time to join thousands of parts; the servers' own limit is 30 s."""

_HEALTH_TIMEOUT_S: Final = 1.0


_Check: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]"


@dataclass(frozen=True, slots=True)
class Clients:
    """Stubs, and the channel of each service by name."""

    upload: "upload_service_pb2_grpc.UploadServiceAsyncStub"
    metadata: "metadata_service_pb2_grpc.MetadataServiceAsyncStub"
    channels: dict[str, grpc.aio.Channel]

    async def is_serving(self, name: str) -> bool:
        """Whether a service says within a second that it serves."""
        try:
            answer = await _check(self.channels[name])(health_pb2.HealthCheckRequest(), timeout=_HEALTH_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING


@asynccontextmanager
async def connected(settings: GatewaySettings) -> AsyncIterator[Clients]:
    """Stubs that last as long as the block; nothing is dialled before the first call."""
    async with (
        grpc_client.channel(settings.upload_target) as upload,
        grpc_client.channel(settings.metadata_target) as metadata,
    ):
        yield Clients(
            upload=upload_service_pb2_grpc.UploadServiceStub(upload),
            metadata=metadata_service_pb2_grpc.MetadataServiceStub(metadata),
            channels={"upload": upload, "metadata": metadata},
        )


def _check(channel: grpc.aio.Channel) -> _Check:
    """The health check of a channel; the published stubs leave it without a type."""
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
