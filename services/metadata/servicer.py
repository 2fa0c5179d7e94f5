"""The rpcs of the metadata service: each reads its request, calls one use case, and writes the answer."""

from datetime import timedelta
from typing import Any, Final

import grpc
from opentelemetry import trace

from media.v1 import metadata_service_pb2 as pb
from media.v1.metadata_service_pb2_grpc import MetadataServiceServicer
from services.metadata import from_pb, state, to_pb
from services.metadata.publication import Playlist, Publications
from services.metadata.quotas import Quotas
from services.metadata.records import MediaStatus
from services.metadata.requests import Requests
from services.metadata.store.requests import Attempt
from services.metadata.sweeps import Sweeps
from services.metadata.tasks import ClaimedTask, Tasks
from services.metadata.uploads import UploadRequest, Uploads
from services.metadata.views import Views
from services.runtime import ids, semconv, telemetry
from services.runtime.errors import InvalidArgument
from services.runtime.ids import MediaId

MAX_TIME_TO_LIVE: Final = timedelta(days=30)
MAX_LEASE: Final = timedelta(hours=1)
MAX_RETRY_AFTER: Final = timedelta(hours=1)
MAX_SWEEPS: Final = 1_000

_Context = grpc.aio.ServicerContext[Any, Any]


class MetadataServicer(MetadataServiceServicer):
    """Translates; see the contract in `metadata_service.proto`."""

    def __init__(
        self,
        *,
        views: Views,
        uploads: Uploads,
        quotas: Quotas,
        sweeps: Sweeps,
        requests: Requests,
        tasks: Tasks,
        publications: Publications,
    ) -> None:
        self._views = views
        self._uploads = uploads
        self._quotas = quotas
        self._sweeps = sweeps
        self._requests = requests
        self._tasks = tasks
        self._publications = publications

    async def GetMedia(self, request: pb.GetMediaRequest, context: _Context) -> pb.GetMediaResponse:
        """Reads one media of one owner."""
        user_id = from_pb.user(request.user_id)
        view = await self._views.get(user_id, _media_id(request.media_id))
        return pb.GetMediaResponse(media=to_pb.media(view))

    async def ListMedia(self, request: pb.ListMediaRequest, context: _Context) -> pb.ListMediaResponse:
        """Lists an owner's media, newest first."""
        page = await self._views.page(
            from_pb.user(request.user_id),
            request.page_size,
            request.page_token,
            from_pb.media_status(request.status),
        )
        return pb.ListMediaResponse(
            media=[to_pb.media(view) for view in page.items], next_page_token=page.next_page_token
        )

    async def CreateMedia(self, request: pb.CreateMediaRequest, context: _Context) -> pb.CreateMediaResponse:
        """Records the intent to upload."""
        upload = await self._uploads.create(
            UploadRequest(
                user_id=from_pb.user(request.user_id),
                type=from_pb.media_type(request.type),
                filename=from_pb.name("filename", request.filename),
                content_type=from_pb.name("content_type", request.content_type),
                size_bytes=from_pb.not_negative("size_bytes", request.size_bytes),
                part_size_bytes=from_pb.not_negative("part_size_bytes", request.part_size_bytes),
                time_to_live=from_pb.duration("time_to_live", request.time_to_live, longest=MAX_TIME_TO_LIVE),
                request_id=(
                    from_pb.name("request_id", request.request_id, longest=255) if request.request_id else None
                ),
                kind=from_pb.upload_kind(request.kind),
                checksum_algorithm=from_pb.checksum_algorithm(request.checksum_algorithm),
                checksum=from_pb.checksum(request.checksum),
                media_id=ids.parse_media_id(request.media_id) if request.media_id else None,
                upload_id=from_pb.name("upload_id", request.upload_id) if request.upload_id else None,
            )
        )
        _note(semconv.MEDIA_ID, str(upload.media_id))
        return pb.CreateMediaResponse(upload=to_pb.upload(upload))

    async def AttachUpload(self, request: pb.AttachUploadRequest, context: _Context) -> pb.AttachUploadResponse:
        """Attaches storage's multipart upload; the first one stays."""
        upload_id = from_pb.name("upload_id", request.upload_id)
        upload = await self._uploads.attach(_media_id(request.media_id), upload_id)
        return pb.AttachUploadResponse(upload=to_pb.upload(upload))

    async def GetUpload(self, request: pb.GetUploadRequest, context: _Context) -> pb.GetUploadResponse:
        """Reads the upload session of a media of one owner."""
        user_id = from_pb.user(request.user_id)
        upload = await self._uploads.get(user_id, _media_id(request.media_id))
        return pb.GetUploadResponse(upload=to_pb.upload(upload))

    async def BeginComplete(self, request: pb.BeginCompleteRequest, context: _Context) -> pb.BeginCompleteResponse:
        """Moves an open upload to completing."""
        user_id = from_pb.user(request.user_id)
        upload = await self._uploads.begin_complete(
            user_id,
            _media_id(request.media_id),
            size_bytes=from_pb.not_negative("size_bytes", request.size_bytes),
            checksum=from_pb.checksum(request.checksum),
        )
        return pb.BeginCompleteResponse(upload=to_pb.upload(upload))

    async def ReopenUpload(self, request: pb.ReopenUploadRequest, context: _Context) -> pb.ReopenUploadResponse:
        """Gives a completing upload back to open."""
        upload = await self._uploads.reopen(_media_id(request.media_id))
        return pb.ReopenUploadResponse(upload=to_pb.upload(upload))

    async def BeginProcessing(
        self, request: pb.BeginProcessingRequest, context: _Context
    ) -> pb.BeginProcessingResponse:
        """Pins the original and moves the media to processing."""
        original = from_pb.original(request.original)
        media = await self._uploads.begin_processing(_media_id(request.media_id), original)
        return pb.BeginProcessingResponse(media=to_pb.media(await self._views.of(media)))

    async def AbortMedia(self, request: pb.AbortMediaRequest, context: _Context) -> pb.AbortMediaResponse:
        """Gives an open upload up."""
        user_id = from_pb.user(request.user_id) if request.user_id else None
        failure = from_pb.failure(request.failure)
        media, upload = await self._uploads.abort(user_id, _media_id(request.media_id), failure)
        return pb.AbortMediaResponse(media=to_pb.media(await self._views.of(media)), upload=to_pb.upload(upload))

    async def GetQuota(self, request: pb.GetQuotaRequest, context: _Context) -> pb.GetQuotaResponse:
        """Reads what an owner uses."""
        return to_pb.quota(await self._quotas.get(from_pb.user(request.user_id)))

    async def ClaimSweeps(self, request: pb.ClaimSweepsRequest, context: _Context) -> pb.ClaimSweepsResponse:
        """Takes uploads that are to be looked after."""
        limit = min(from_pb.positive("max_sweeps", request.max_sweeps), MAX_SWEEPS)
        lease = from_pb.duration("lease", request.lease, longest=MAX_LEASE)
        claimed = await self._sweeps.claim(limit, lease)
        return pb.ClaimSweepsResponse(sweeps=[to_pb.sweep(sweep) for sweep in claimed])

    async def FinishSweep(self, request: pb.FinishSweepRequest, context: _Context) -> pb.FinishSweepResponse:
        """Says when an upload is to be looked after again."""
        again_in = None
        if request.HasField("again_in"):
            again_in = from_pb.wait("again_in", request.again_in, longest=MAX_TIME_TO_LIVE)
        await self._sweeps.finish(
            _media_id(request.media_id), from_pb.upload_state(request.state), request.sweep_count, again_in
        )
        return pb.FinishSweepResponse()

    async def FindOrphans(self, request: pb.FindOrphansRequest, context: _Context) -> pb.FindOrphansResponse:
        """Says which multipart uploads belong to nothing."""
        if len(request.uploads) > MAX_SWEEPS:
            raise InvalidArgument(f"ask for up to {MAX_SWEEPS} uploads at once", details={"field": "uploads"})
        stored = [(ids.parse_media_id(one.media_id), one.upload_id) for one in request.uploads]
        orphans = await self._sweeps.orphans(stored)
        return pb.FindOrphansResponse(
            orphans=[pb.StoredUpload(media_id=str(media_id), upload_id=upload_id) for media_id, upload_id in orphans]
        )

    async def BeginRequest(self, request: pb.BeginRequestRequest, context: _Context) -> pb.BeginRequestResponse:
        """Begins a request with an idempotency key."""
        outcome = await self._requests.begin(
            from_pb.user(request.user_id),
            from_pb.name("idempotency_key", request.idempotency_key, longest=255),
            from_pb.fingerprint(request.fingerprint),
            claim_id=from_pb.claim_id(request.claim_id),
            lease=from_pb.duration("lease", request.lease, longest=MAX_LEASE),
            keep=from_pb.duration("keep", request.keep, longest=MAX_TIME_TO_LIVE),
        )
        response = pb.BeginRequestResponse(operation_id=str(outcome.operation_id))
        if outcome.answer is not None:
            response.answer.ParseFromString(outcome.answer)
        return response

    async def EndRequest(self, request: pb.EndRequestRequest, context: _Context) -> pb.EndRequestResponse:
        """Ends a request with an idempotency key."""
        await self._requests.end(
            Attempt(
                from_pb.user(request.user_id),
                from_pb.name("idempotency_key", request.idempotency_key, longest=255),
                from_pb.operation_id(request.operation_id),
                from_pb.claim_id(request.claim_id) if request.claim_id else None,
            ),
            request.answer.SerializeToString() if request.HasField("answer") else None,
            outcome_unknown=request.outcome_unknown,
        )
        return pb.EndRequestResponse()

    async def RecordPlan(self, request: pb.RecordPlanRequest, context: _Context) -> pb.RecordPlanResponse:
        """Records a plan and queues its tasks."""
        task_count = await self._tasks.record_plan(
            _media_id(request.media_id),
            request.generation,
            from_pb.json_object("source_json", request.source_json),
            from_pb.plan(request.tasks),
            from_pb.media_type(request.type) if request.type else None,
        )
        _note(semconv.TASK_COUNT, task_count)
        return pb.RecordPlanResponse(task_count=task_count)

    async def ClaimTask(self, request: pb.ClaimTaskRequest, context: _Context) -> pb.ClaimTaskResponse:
        """Leases a task to a new attempt."""
        claim = await self._tasks.claim(
            _media_id(request.media_id),
            from_pb.task_id(request.task_id),
            from_pb.name("worker", request.worker),
            from_pb.duration("lease", request.lease, longest=MAX_LEASE),
            from_pb.name("claim_id", request.claim_id, longest=64) if request.claim_id else None,
        )
        match claim:
            case ClaimedTask(task, media, attempt):
                _note(semconv.TASK_LABEL, task.label)
                _note(semconv.TASK_ATTEMPT, attempt)
                return pb.ClaimTaskResponse(
                    outcome=pb.CLAIM_OUTCOME_CLAIMED, task=to_pb.task(task, media), attempt=attempt
                )
            case state.Held(retry_after):
                return pb.ClaimTaskResponse(outcome=pb.CLAIM_OUTCOME_HELD, retry_after=to_pb.duration(retry_after))
            case state.Obsolete():
                return pb.ClaimTaskResponse(outcome=pb.CLAIM_OUTCOME_OBSOLETE)

    async def RenewTask(self, request: pb.RenewTaskRequest, context: _Context) -> pb.RenewTaskResponse:
        """Extends the lease of a live attempt."""
        await self._tasks.renew(
            _media_id(request.media_id),
            from_pb.task_id(request.task_id),
            request.attempt,
            from_pb.duration("lease", request.lease, longest=MAX_LEASE),
        )
        return pb.RenewTaskResponse()

    async def CompleteTask(self, request: pb.CompleteTaskRequest, context: _Context) -> pb.CompleteTaskResponse:
        """Records a result."""
        remaining = await self._tasks.complete(
            _media_id(request.media_id),
            from_pb.task_id(request.task_id),
            request.attempt,
            from_pb.result(request.result),
            _callers_traceparent(context),
        )
        return pb.CompleteTaskResponse(remaining=remaining)

    async def FailTask(self, request: pb.FailTaskRequest, context: _Context) -> pb.FailTaskResponse:
        """Records an attempt that ended without a result."""
        if request.permanent and request.release:
            raise InvalidArgument("release excludes permanent", details={"field": "release"})
        if request.HasField("retry_after") and not request.release:
            raise InvalidArgument("retry_after needs release", details={"field": "retry_after"})
        will_retry = await self._tasks.fail(
            _media_id(request.media_id),
            from_pb.task_id(request.task_id),
            request.attempt,
            from_pb.failure(request.failure),
            permanent=request.permanent,
            release=request.release,
            retry_after=from_pb.wait("retry_after", request.retry_after, longest=MAX_RETRY_AFTER),
        )
        return pb.FailTaskResponse(will_retry=will_retry)

    async def FailMedia(self, request: pb.FailMediaRequest, context: _Context) -> pb.FailMediaResponse:
        """Fails a media for good."""
        failure = from_pb.failure(request.failure)
        status = await self._publications.fail(_media_id(request.media_id), request.generation, failure)
        return pb.FailMediaResponse(status=to_pb.media_status(status))

    async def GetPublication(self, request: pb.GetPublicationRequest, context: _Context) -> pb.GetPublicationResponse:
        """Reads what a generation's playlists are made of."""
        publication = await self._publications.get(_media_id(request.media_id), request.generation)
        tracks, stills = to_pb.outputs(publication.results)
        return pb.GetPublicationResponse(
            type=to_pb.media_type(publication.media.type),
            user_id=publication.media.user_id,
            delivery_prefix=publication.media.delivery_prefix,
            tracks=tracks,
            stills=stills,
            published=publication.media.status is MediaStatus.PUBLISHED,
            task_traceparents=publication.traceparents,
        )

    async def PublishMedia(self, request: pb.PublishMediaRequest, context: _Context) -> pb.PublishMediaResponse:
        """Makes a generation visible."""
        published_at = await self._publications.publish(
            _media_id(request.media_id),
            request.generation,
            request.s3_manifest_key or None,
            [Playlist(playlist.label, playlist.s3_manifest_key) for playlist in request.playlists],
        )
        return pb.PublishMediaResponse(published_at=to_pb.timestamp(published_at))


def _media_id(text: str) -> MediaId:
    media_id = ids.parse_media_id(text)
    _note(semconv.MEDIA_ID, str(media_id))
    return media_id


def _note(name: str, value: str | int) -> None:
    trace.get_current_span().set_attribute(name, value)


def _callers_traceparent(context: _Context) -> str:
    """The span that called, so that links lead to the work itself; ours where the caller recorded none."""
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent" and isinstance(value, str):
            return value
    return telemetry.trace_headers().get("traceparent", "")
