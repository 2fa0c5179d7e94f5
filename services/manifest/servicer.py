"""The manifest service's answers over gRPC; only translation."""

from typing import Any

import grpc

from media.v1 import manifest_service_pb2
from media.v1.manifest_service_pb2_grpc import ManifestServiceServicer
from services.manifest.publisher import Publisher


class ManifestServicer(ManifestServiceServicer):
    """Verifies and warms what viewers see."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def VerifyMedia(
        self,
        request: manifest_service_pb2.VerifyMediaRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> manifest_service_pb2.VerifyMediaResponse:
        """Checks that every object of a generation exists with the size recorded for it."""
        checked_count, faults = await self._publisher.verify(request.media_id, request.generation)
        return manifest_service_pb2.VerifyMediaResponse(
            checked_count=checked_count,
            faults=[manifest_service_pb2.ObjectFault(s3_key=fault.s3_key, fault=fault.fault.value) for fault in faults],
        )

    async def WarmMedia(
        self,
        request: manifest_service_pb2.WarmMediaRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> manifest_service_pb2.WarmMediaResponse:
        """Asks the edge for a generation's playlists and first segments."""
        warmth = await self._publisher.warm(request.media_id, request.generation)
        return manifest_service_pb2.WarmMediaResponse(
            warmed_count=warmth.warmed_count, failed_count=warmth.failed_count
        )
