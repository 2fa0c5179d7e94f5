"""What is announced: each function makes the one message of its kind, body and all.

The trace context is that of the call in hand, so that what follows continues its trace; where there is none, for
instance in the reconciler, it is that of the call which created the media.
"""

from typing import Final

from media.v1 import events_pb2, media_pb2
from services.metadata.records import Failure, Media, MediaType, Message, PlannedTask, Task, TaskId
from services.runtime import telemetry

TASK: Final = "task"
"""Kind of the message that a task may be claimed; of every other one the kind is the subject."""

_TYPES: Final = {
    MediaType.IMAGE: media_pb2.MEDIA_TYPE_IMAGE,
    MediaType.VIDEO: media_pb2.MEDIA_TYPE_VIDEO,
}


def uploaded(media: Media, expected_sha256: bytes = b"") -> Message:
    """The original is pinned: plan it, if it has the SHA-256 that its owner gave (empty for none)."""
    original = media.original
    event = events_pb2.MediaUploaded(
        media_id=str(media.media_id),
        user_id=media.user_id,
        generation=media.generation,
        type=_TYPES[media.type],
        original=media_pb2.Original(s3_key=original.s3_key, etag=original.etag, size_bytes=original.size_bytes),
        expected_sha256=expected_sha256,
    )
    return _message(media, "media.uploaded", event.SerializeToString())


def planned(media: Media, task_count: int) -> Message:
    """A plan is recorded."""
    event = events_pb2.MediaPlanned(
        media_id=str(media.media_id), user_id=media.user_id, generation=media.generation, task_count=task_count
    )
    return _message(media, "media.planned", event.SerializeToString())


def task_ready(media: Media, task_id: TaskId, task: PlannedTask | Task) -> Message:
    """A task may be claimed."""
    event = events_pb2.TaskReady(
        task_id=str(task_id),
        media_id=str(media.media_id),
        generation=media.generation,
        memory_bytes=task.memory_bytes,
    )
    return _message(media, f"tasks.{task.lane}", event.SerializeToString(), kind=TASK, task_id=task_id)


def encoded(media: Media) -> Message:
    """Every task of the generation is done: publish it."""
    event = events_pb2.MediaEncoded(media_id=str(media.media_id), user_id=media.user_id, generation=media.generation)
    return _message(media, "media.encoded", event.SerializeToString())


def published(media: Media) -> Message:
    """Viewers may see it."""
    event = events_pb2.MediaPublished(media_id=str(media.media_id), user_id=media.user_id, generation=media.generation)
    return _message(media, "media.published", event.SerializeToString())


def failed(media: Media, failure: Failure) -> Message:
    """It ended without being published."""
    event = events_pb2.MediaFailed(
        media_id=str(media.media_id),
        user_id=media.user_id,
        generation=media.generation,
        failure=media_pb2.Failure(reason=failure.reason, message=failure.message),
    )
    return _message(media, "media.failed", event.SerializeToString())


def _message(
    media: Media, subject: str, body: bytes, *, kind: str | None = None, task_id: TaskId | None = None
) -> Message:
    return Message(
        shard=media.shard,
        media_id=media.media_id,
        generation=media.generation,
        kind=kind or subject,
        task_id=task_id,
        subject=subject,
        body=body,
        traceparent=telemetry.trace_headers().get("traceparent", media.traceparent),
    )
