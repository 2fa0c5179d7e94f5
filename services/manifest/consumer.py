"""`media.encoded` to the publisher; only translation."""

from google.protobuf.message import DecodeError
from opentelemetry import trace

from media.v1 import events_pb2
from services.manifest.publisher import Publisher
from services.runtime import semconv, topology
from services.runtime.bus import Delivery, Discard, held


class Consumer:
    """Translates deliveries into calls of the use case."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def on_encoded(self, delivery: Delivery) -> None:
        """Handles `media.encoded`."""
        event = events_pb2.MediaEncoded()
        try:
            event.ParseFromString(delivery.data)
        except DecodeError as error:
            raise Discard(f"{delivery.subject}: {error}") from error
        if not event.media_id:
            raise Discard(f"{delivery.subject}: names no media")
        trace.get_current_span().set_attribute(semconv.MEDIA_ID, event.media_id)
        async with held(delivery, topology.PUBLISHER):  # every step has a deadline
            await self._publisher.publish(event.media_id, event.generation)
