"""Messages in and out: `media.uploaded` to the planner, `tasks.<lane>` to the worker, progress to whoever listens."""

from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry import trace

from media.v1 import events_pb2
from services.runtime import semconv, topology
from services.runtime.bus import Bus, Delivery, Discard, RetryLater, held
from services.transcode import memory
from services.transcode.metadata_client import original_from_pb
from services.transcode.planner import Planner, Uploaded
from services.transcode.tasks import TaskRef
from services.transcode.worker import Progress, Worker

_SHA256_BYTES: Final = 32


class Consumer:
    """Translates deliveries into calls of the use cases, and their answers into what the broker is told."""

    def __init__(self, planner: Planner, worker: Worker) -> None:
        self._planner = planner
        self._worker = worker

    async def on_uploaded(self, delivery: Delivery) -> None:
        """Handles `media.uploaded`."""
        event = events_pb2.MediaUploaded()
        _parse(event, delivery)
        uploaded = _uploaded_from_pb(event)
        trace.get_current_span().set_attribute(semconv.MEDIA_ID, event.media_id)
        async with held(delivery, topology.PLANNER):  # probes and verifications are bounded in time, each by itself
            again_in = await self._planner.plan_media(uploaded, delivery.delivery_count)
        if again_in is not None:
            raise RetryLater(again_in)

    async def on_task(self, delivery: Delivery) -> None:
        """Handles `tasks.<lane>`."""
        event = events_pb2.TaskReady()
        _parse(event, delivery)
        trace.get_current_span().set_attributes({semconv.MEDIA_ID: event.media_id, semconv.TASK_ID: event.task_id})
        ref = TaskRef(event.task_id, event.media_id, event.generation)
        need_bytes = event.memory_bytes or memory.ORDINARY_BYTES
        again_in = await self._worker.work(ref, need_bytes, delivery.keep, delivery.delivery_count)
        if again_in is not None:
            raise RetryLater(again_in)


class BusAnnouncer:
    """Progress over core NATS: `progress.<media_id>`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def announce(self, progress: Progress) -> None:
        """Tells whoever listens right now."""
        task = progress.task
        event = events_pb2.TaskProgress(
            media_id=task.ref.media_id,
            task_id=task.ref.task_id,
            generation=task.ref.generation,
            label=task.label,
            fraction=progress.fraction,
            cost_share=task.cost_share,
        )
        await self._bus.announce(f"progress.{task.ref.media_id}", event.SerializeToString())


def _uploaded_from_pb(event: events_pb2.MediaUploaded) -> Uploaded:
    """The event without the type that it claims: what the bytes are is for the planner to find out."""
    if not event.original.s3_key:
        raise Discard(f"media {event.media_id} has no original")
    if event.expected_sha256 and len(event.expected_sha256) != _SHA256_BYTES:
        raise Discard(f"media {event.media_id}: {len(event.expected_sha256)} bytes are no SHA-256")
    original = original_from_pb(event.original)
    return Uploaded(event.user_id, event.media_id, event.generation, original, event.expected_sha256 or None)


def _parse(event: events_pb2.MediaUploaded | events_pb2.TaskReady, delivery: Delivery) -> None:
    try:
        event.ParseFromString(delivery.data)
    except DecodeError as error:
        raise Discard(f"{delivery.subject}: {error}") from error
    if not event.media_id:
        raise Discard(f"{delivery.subject}: names no media")
