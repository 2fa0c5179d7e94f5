"""The metadata service as planner and worker use it, over gRPC."""

import base64
from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction

import grpc
from google.protobuf.duration_pb2 import Duration

from media.v1 import media_pb2, metadata_service_pb2
from media.v1.metadata_service_pb2_grpc import MetadataServiceStub
from services.runtime import grpc_client
from services.runtime.errors import Internal
from services.transcode.engine.outcome import ChunkOutcome, ImageOutcome, Segment, TrackOutcome
from services.transcode.originals import Original
from services.transcode.planner import PlannedTask
from services.transcode.source import MediaKind
from services.transcode.tasks import Claim, Claimed, Failure, Held, Obsolete, Result, Stored, Task, TaskRef

_TYPES = {MediaKind.IMAGE: media_pb2.MEDIA_TYPE_IMAGE, MediaKind.VIDEO: media_pb2.MEDIA_TYPE_VIDEO}
_RECORD_TIMEOUT_S = 15.0
"""A result or a plan may be large, and what it would cost to lose one is larger."""


class MetadataClient:
    """Implements the ports `Plans` and `Tasks`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = MetadataServiceStub(channel)

    async def is_wanted(self, user_id: str, media_id: str, generation: int) -> bool:
        """See `Plans`."""
        request = metadata_service_pb2.GetMediaRequest(user_id=user_id, media_id=media_id)
        media = (await grpc_client.call(self._stub.GetMedia, request)).media
        is_current = media.status == media_pb2.MEDIA_STATUS_PROCESSING and media.generation == generation
        return is_current and not media.tasks

    async def record(
        self, media_id: str, generation: int, kind: MediaKind, source_json: str, tasks: Sequence[PlannedTask]
    ) -> None:
        """See `Plans`."""
        request = metadata_service_pb2.RecordPlanRequest(
            media_id=media_id,
            generation=generation,
            type=_TYPES[kind],
            source_json=source_json,
            tasks=[
                metadata_service_pb2.PlannedTask(
                    label=task.label,
                    lane=task.lane,
                    spec_json=task.spec_json,
                    cost_share=task.cost_share,
                    memory_bytes=task.memory_bytes,
                )
                for task in tasks
            ],
        )
        await grpc_client.call(self._stub.RecordPlan, request, timeout_s=_RECORD_TIMEOUT_S)

    async def fail_media(self, media_id: str, generation: int, failure: Failure) -> None:
        """See `Plans`."""
        request = metadata_service_pb2.FailMediaRequest(
            media_id=media_id, generation=generation, failure=_failure_to_pb(failure)
        )
        await grpc_client.call(self._stub.FailMedia, request)

    async def claim(self, ref: TaskRef, *, worker: str, lease: timedelta, claim_id: str) -> Claim:
        """See `Tasks`."""
        request = metadata_service_pb2.ClaimTaskRequest(
            task_id=ref.task_id,
            media_id=ref.media_id,
            worker=worker,
            lease=_duration_to_pb(lease),
            claim_id=claim_id,
        )
        answer = await grpc_client.call(self._stub.ClaimTask, request)
        match answer.outcome:
            case metadata_service_pb2.CLAIM_OUTCOME_CLAIMED:
                return Claimed(_task_from_pb(answer.task), answer.attempt)
            case metadata_service_pb2.CLAIM_OUTCOME_HELD:
                return Held(answer.retry_after.ToTimedelta())
            case metadata_service_pb2.CLAIM_OUTCOME_OBSOLETE:
                return Obsolete()
            case unknown:
                raise Internal(f"unknown outcome of a claim: {unknown}")

    async def renew(self, ref: TaskRef, attempt: int, *, lease: timedelta) -> None:
        """See `Tasks`."""
        request = metadata_service_pb2.RenewTaskRequest(
            task_id=ref.task_id, media_id=ref.media_id, attempt=attempt, lease=_duration_to_pb(lease)
        )
        await grpc_client.call(self._stub.RenewTask, request)

    async def complete(self, ref: TaskRef, attempt: int, result: Result) -> None:
        """See `Tasks`."""
        request = metadata_service_pb2.CompleteTaskRequest(
            task_id=ref.task_id, media_id=ref.media_id, attempt=attempt, result=result_to_pb(result)
        )
        await grpc_client.call(self._stub.CompleteTask, request, timeout_s=_RECORD_TIMEOUT_S)

    async def fail(
        self,
        ref: TaskRef,
        attempt: int,
        failure: Failure,
        *,
        permanent: bool,
        release: bool,
        retry_after: timedelta = timedelta(0),
    ) -> None:
        """See `Tasks`."""
        request = metadata_service_pb2.FailTaskRequest(
            task_id=ref.task_id,
            media_id=ref.media_id,
            attempt=attempt,
            failure=_failure_to_pb(failure),
            permanent=permanent,
            release=release,
            retry_after=_duration_to_pb(retry_after) if retry_after else None,
        )
        await grpc_client.call(self._stub.FailTask, request)


def result_to_pb(result: Result) -> media_pb2.TaskResult:
    """A result as the contracts carry it: the engine's outcome joined with where each artifact lies."""
    match result.outcome:
        case ChunkOutcome() as chunk:
            pieces = [_track_to_pb(result, piece.track, piece.label) for piece in chunk.pieces]
            return media_pb2.TaskResult(pieces=media_pb2.Pieces(items=pieces))
        case TrackOutcome() as track:
            return media_pb2.TaskResult(track=_track_to_pb(result, track, result.label))
        case images:
            thumbhash = base64.b64decode(images.thumbhash)
            stills = [_still_to_pb(image, result.stored[image.name], thumbhash) for image in images.images]
            return media_pb2.TaskResult(stills=media_pb2.Stills(items=stills))


def _track_to_pb(result: Result, outcome: TrackOutcome, label: str) -> media_pb2.Track:
    init = result.stored[outcome.init_name] if outcome.init_name else None
    return media_pb2.Track(
        label=label,
        init_s3_key=init.s3_key if init else "",
        init_size_bytes=init.size_bytes if init else 0,
        init_sha256=init.sha256 if init else b"",
        segments=[_segment_to_pb(segment, result.stored[segment.name]) for segment in outcome.segments],
        timescale=outcome.timescale,
        codecs=outcome.codecs,
        width_px=outcome.width_px,
        height_px=outcome.height_px,
        frame_rate=_rational_to_pb(outcome.frame_rate),
        channels=outcome.channels,
        average_bps=outcome.average_bps,
        peak_bps=outcome.peak_bps,
        language=result.language,
    )


def _segment_to_pb(segment: Segment, stored: Stored) -> media_pb2.Segment:
    return media_pb2.Segment(
        s3_key=stored.s3_key,
        duration_ticks=segment.duration_ticks,
        size_bytes=stored.size_bytes,
        frame_count=segment.frame_count,
        sha256=stored.sha256,
        key_frame_chunk_bytes=segment.keyframe_size_bytes,
    )


def _still_to_pb(image: ImageOutcome, stored: Stored, thumbhash: bytes) -> media_pb2.Still:
    thumbnail = media_pb2.Thumbnail(
        size_px=image.size_px,
        s3_key=stored.s3_key,
        width_px=image.width_px,
        height_px=image.height_px,
        content_type=image.content_type,
        size_bytes=stored.size_bytes,
        thumbhash=thumbhash,
    )
    return media_pb2.Still(thumbnail=thumbnail, sha256=stored.sha256)


def _rational_to_pb(frame_rate: Fraction) -> media_pb2.Rational | None:
    """A frame rate; none for sound, whose rate is 0."""
    if not frame_rate:
        return None
    return media_pb2.Rational(numerator=frame_rate.numerator, denominator=frame_rate.denominator)


def _task_from_pb(task: media_pb2.Task) -> Task:
    return Task(
        ref=TaskRef(task.task_id, task.media_id, task.generation),
        lane=task.lane,
        label=task.label,
        spec_json=task.spec_json,
        cost_share=task.cost_share,
        original=original_from_pb(task.original),
        delivery_prefix=task.delivery_prefix,
    )


def original_from_pb(original: media_pb2.Original) -> Original:
    """A pinned original."""
    return Original(original.s3_key, original.etag, original.size_bytes)


def _failure_to_pb(failure: Failure) -> media_pb2.Failure:
    return media_pb2.Failure(reason=failure.reason, message=failure.message)


def _duration_to_pb(value: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(value)
    return duration
