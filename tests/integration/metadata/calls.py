"""The service's rpcs as short calls, and the way of a media through them."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TypeAlias

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration
from opentelemetry import context

from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from media.v1.metadata_service_pb2_grpc import MetadataServiceStub
from services.runtime import telemetry
from services.runtime.grpc_client import call

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
ETAG = "0123abcd-2"
SIZE_BYTES = 25_000_000
FAILURE = media_pb2.Failure(reason="broken", message="It broke.")
MEMORY_BYTES = 6 << 30
LADDER = ("1080p", "720p", "audio", "poster")


def duration(span: timedelta) -> Duration:
    """A proto duration."""
    message = Duration()
    message.FromTimedelta(span)
    return message


@contextmanager
def within(traceparent: str) -> Iterator[None]:
    """Calls in the block belong to this trace."""
    token = context.attach(telemetry.context_from({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)


@asynccontextmanager
async def refusing_updates(sql: Sql, media_id: str) -> AsyncIterator[None]:
    """The database refuses, for a reason nobody thought of, to change outbox rows of one media in the block."""
    await sql.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'out of sorts'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON outbox FOR EACH ROW
        WHEN (OLD.media_id = '{media_id}') EXECUTE FUNCTION refuse();
        """
    )
    try:
        yield
    finally:
        await sql.execute("DROP FUNCTION refuse CASCADE")


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 20.0) -> None:
    """Waits for something that nobody announces.

    Raises:
        TimeoutError: it did not come.
    """
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 a database has no event to wait for
            await asyncio.sleep(0.02)


class Metadata:
    """One method an rpc, with defaults for what a test does not care about; errors are our taxonomy."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = MetadataServiceStub(channel)

    async def create(
        self,
        user: str,
        *,
        media_type: "media_pb2.MediaType.ValueType" = media_pb2.MEDIA_TYPE_VIDEO,
        request_id: str = "",
        filename: str = "holiday.mp4",
        time_to_live: timedelta = timedelta(hours=1),
        size_bytes: int = SIZE_BYTES,
        kind: "media_pb2.UploadKind.ValueType" = media_pb2.UPLOAD_KIND_MULTIPART,
        algorithm: "media_pb2.ChecksumAlgorithm.ValueType" = media_pb2.CHECKSUM_ALGORITHM_UNSPECIFIED,
        checksum: str = "",
        media_id: str = "",
        upload_id: str = "",
    ) -> pb.Upload:
        request = pb.CreateMediaRequest(
            user_id=user,
            type=media_type,
            filename=filename,
            content_type="video/mp4",
            size_bytes=size_bytes,
            part_size_bytes=10_000_000 if size_bytes else 0,
            time_to_live=duration(time_to_live),
            request_id=request_id,
            kind=kind,
            checksum_algorithm=algorithm,
            checksum=checksum,
            media_id=media_id,
            upload_id=upload_id,
        )
        return (await call(self.stub.CreateMedia, request)).upload

    async def attach(self, media_id: str, upload_id: str = "upload-1") -> pb.Upload:
        return (
            await call(self.stub.AttachUpload, pb.AttachUploadRequest(media_id=media_id, upload_id=upload_id))
        ).upload

    async def upload(self, user: str, media_id: str) -> pb.Upload:
        return (await call(self.stub.GetUpload, pb.GetUploadRequest(user_id=user, media_id=media_id))).upload

    async def begin_complete(self, user: str, media_id: str, *, size_bytes: int = 0, checksum: str = "") -> pb.Upload:
        request = pb.BeginCompleteRequest(user_id=user, media_id=media_id, size_bytes=size_bytes, checksum=checksum)
        return (await call(self.stub.BeginComplete, request)).upload

    async def reopen(self, media_id: str) -> pb.Upload:
        return (await call(self.stub.ReopenUpload, pb.ReopenUploadRequest(media_id=media_id))).upload

    async def begin_processing(
        self, upload: pb.Upload, etag: str = ETAG, *, size_bytes: int = SIZE_BYTES
    ) -> media_pb2.Media:
        original = media_pb2.Original(s3_key=upload.s3_key, etag=etag, size_bytes=size_bytes)
        request = pb.BeginProcessingRequest(media_id=upload.media_id, original=original)
        return (await call(self.stub.BeginProcessing, request)).media

    async def abort(self, user: str, media_id: str) -> pb.AbortMediaResponse:
        return await call(self.stub.AbortMedia, pb.AbortMediaRequest(user_id=user, media_id=media_id, failure=FAILURE))

    async def quota(self, user: str) -> pb.GetQuotaResponse:
        return await call(self.stub.GetQuota, pb.GetQuotaRequest(user_id=user))

    async def claim_sweeps(self, *, limit: int = 1_000, lease: timedelta = timedelta(seconds=60)) -> Sequence[pb.Sweep]:
        request = pb.ClaimSweepsRequest(max_sweeps=limit, lease=duration(lease))
        return (await call(self.stub.ClaimSweeps, request)).sweeps

    async def finish_sweep(self, sweep: pb.Sweep, again_in: timedelta | None) -> None:
        request = pb.FinishSweepRequest(
            media_id=sweep.upload.media_id,
            sweep_count=sweep.sweep_count,
            state=sweep.upload.state,
            again_in=None if again_in is None else duration(again_in),
        )
        await call(self.stub.FinishSweep, request)

    async def orphans(self, *stored: tuple[str, str]) -> set[tuple[str, str]]:
        uploads = [pb.StoredUpload(media_id=media_id, upload_id=upload_id) for media_id, upload_id in stored]
        answer = await call(self.stub.FindOrphans, pb.FindOrphansRequest(uploads=uploads))
        return {(orphan.media_id, orphan.upload_id) for orphan in answer.orphans}

    async def begin_request(
        self,
        user: str,
        key: str = "key",
        *,
        body: bytes = b"",
        lease: timedelta = timedelta(minutes=1),
        keep: timedelta = timedelta(hours=24),
        claim_id: str = "",
    ) -> pb.BeginRequestResponse:
        request = pb.BeginRequestRequest(
            user_id=user,
            idempotency_key=key,
            fingerprint=hashlib.sha256(body).digest(),
            lease=duration(lease),
            keep=duration(keep),
            claim_id=claim_id,
        )
        return await call(self.stub.BeginRequest, request)

    async def end_request(
        self,
        user: str,
        operation_id: str,
        key: str = "key",
        *,
        answer: pb.StoredAnswer | None = None,
        outcome_unknown: bool = False,
        claim_id: str = "",
    ) -> None:
        request = pb.EndRequestRequest(
            user_id=user,
            idempotency_key=key,
            operation_id=operation_id,
            answer=answer,
            outcome_unknown=outcome_unknown,
            claim_id=claim_id,
        )
        await call(self.stub.EndRequest, request)

    async def media(self, user: str, media_id: str) -> media_pb2.Media:
        return (await call(self.stub.GetMedia, pb.GetMediaRequest(user_id=user, media_id=media_id))).media

    async def page(
        self,
        user: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        status: "media_pb2.MediaStatus.ValueType" = media_pb2.MEDIA_STATUS_UNSPECIFIED,
    ) -> pb.ListMediaResponse:
        request = pb.ListMediaRequest(user_id=user, page_size=page_size, page_token=page_token, status=status)
        return await call(self.stub.ListMedia, request)

    async def plan(
        self,
        media_id: str,
        labels: Sequence[str] = LADDER,
        *,
        generation: int = 1,
        source_json: str = '{"duration_s": 10}',
        found_type: "media_pb2.MediaType.ValueType" = media_pb2.MEDIA_TYPE_UNSPECIFIED,
    ) -> int:
        tasks = [
            pb.PlannedTask(
                label=label,
                lane="audio" if label == "audio" else "video",
                spec_json=json.dumps({"label": label}),
                cost_share=1 / len(labels),
                memory_bytes=MEMORY_BYTES,
            )
            for label in labels
        ]
        request = pb.RecordPlanRequest(
            media_id=media_id, generation=generation, source_json=source_json, tasks=tasks, type=found_type
        )
        return (await call(self.stub.RecordPlan, request)).task_count

    async def claim(
        self,
        media_id: str,
        task_id: str,
        *,
        worker: str = "worker-1",
        lease: timedelta = timedelta(seconds=30),
        claim_id: str = "",
    ) -> pb.ClaimTaskResponse:
        request = pb.ClaimTaskRequest(
            media_id=media_id, task_id=task_id, worker=worker, lease=duration(lease), claim_id=claim_id
        )
        return await call(self.stub.ClaimTask, request)

    async def renew(
        self, media_id: str, task_id: str, attempt: int, *, lease: timedelta = timedelta(seconds=30)
    ) -> None:
        request = pb.RenewTaskRequest(media_id=media_id, task_id=task_id, attempt=attempt, lease=duration(lease))
        await call(self.stub.RenewTask, request)

    async def complete(self, claimed: pb.ClaimTaskResponse, result: media_pb2.TaskResult | None = None) -> int:
        request = pb.CompleteTaskRequest(
            media_id=claimed.task.media_id,
            task_id=claimed.task.task_id,
            attempt=claimed.attempt,
            result=result or result_of(claimed),
        )
        return (await call(self.stub.CompleteTask, request)).remaining

    async def fail_task(
        self,
        claimed: pb.ClaimTaskResponse,
        *,
        permanent: bool = False,
        release: bool = False,
        retry_after: timedelta | None = None,
    ) -> bool:
        request = pb.FailTaskRequest(
            media_id=claimed.task.media_id,
            task_id=claimed.task.task_id,
            attempt=claimed.attempt,
            failure=FAILURE,
            permanent=permanent,
            release=release,
            retry_after=None if retry_after is None else duration(retry_after),
        )
        return (await call(self.stub.FailTask, request)).will_retry

    async def fail_media(self, media_id: str, *, generation: int = 1) -> "media_pb2.MediaStatus.ValueType":
        request = pb.FailMediaRequest(media_id=media_id, generation=generation, failure=FAILURE)
        return (await call(self.stub.FailMedia, request)).status

    async def publication(self, media_id: str, *, generation: int = 1) -> pb.GetPublicationResponse:
        return await call(self.stub.GetPublication, pb.GetPublicationRequest(media_id=media_id, generation=generation))

    async def publish(self, publication: pb.GetPublicationResponse, media_id: str, *, generation: int = 1) -> float:
        prefix = publication.delivery_prefix
        is_video = publication.type == media_pb2.MEDIA_TYPE_VIDEO
        request = pb.PublishMediaRequest(
            media_id=media_id,
            generation=generation,
            s3_manifest_key=f"{prefix}/main.m3u8" if is_video else "",
            playlists=[
                pb.PublishedPlaylist(label=track.label, s3_manifest_key=f"{prefix}/{track.label}/a1/playlist.m3u8")
                for track in publication.tracks
            ],
        )
        return (await call(self.stub.PublishMedia, request)).published_at.ToMicroseconds()

    async def processing(self, user: str, **created: object) -> pb.Upload:
        """A media whose original is pinned."""
        upload = await self.create(user, **created)  # type: ignore[arg-type]
        await self.attach(upload.media_id)
        await self.begin_complete(user, upload.media_id)
        await self.begin_processing(upload)
        return upload

    async def planned(self, user: str, labels: Sequence[str] = LADDER) -> tuple[str, list[str]]:
        """A media whose tasks are queued: its id, and theirs in plan order."""
        media_id = (await self.processing(user)).media_id
        await self.plan(media_id, labels)
        return media_id, [task.task_id for task in (await self.media(user, media_id)).tasks]

    async def encoded(self, user: str, labels: Sequence[str] = LADDER) -> str:
        """A media whose tasks are done."""
        media_id, task_ids = await self.planned(user, labels)
        for task_id in task_ids:
            await self.complete(await self.claim(media_id, task_id))
        return media_id


THUMBHASH = bytes(range(21))


def result_of(claimed: pb.ClaimTaskResponse) -> media_pb2.TaskResult:
    """What a worker would have made of a task."""
    folder = f"{claimed.task.delivery_prefix}/{claimed.task.label}/a{claimed.attempt}"
    if claimed.task.label in {"poster", "image"}:
        return media_pb2.TaskResult(stills=stills_of(folder, (1_200, 600, 150), ("jpeg", "webp")))
    return media_pb2.TaskResult(track=track_of(claimed.task.label, folder))


def stills_of(folder: str, sizes_px: Sequence[int], formats: Sequence[str] = ("jpeg",)) -> media_pb2.Stills:
    return media_pb2.Stills(
        items=[
            media_pb2.Still(
                thumbnail=media_pb2.Thumbnail(
                    size_px=size_px,
                    s3_key=f"{folder}/{size_px}.{'jpg' if one == 'jpeg' else one}",
                    width_px=size_px,
                    height_px=size_px // 2,
                    content_type=f"image/{one}",
                    size_bytes=size_px * 50,
                    thumbhash=THUMBHASH,
                ),
                sha256=secrets.token_bytes(32),
            )
            for size_px in sizes_px
            for one in formats
        ]
    )


def track_of(label: str, folder: str) -> media_pb2.Track:
    is_audio = label == "audio"
    return media_pb2.Track(
        label=label,
        init_s3_key=f"{folder}/init.mp4",
        init_size_bytes=800,
        segments=[
            media_pb2.Segment(s3_key=f"{folder}/{number}.m4s", duration_ticks=360_000, size_bytes=1_000_000)
            for number in range(3)
        ],
        timescale=90_000,
        codecs="mp4a.40.2" if is_audio else "avc1.640028",
        width_px=0 if is_audio else 1_920,
        height_px=0 if is_audio else 1_080,
        frame_rate=None if is_audio else media_pb2.Rational(numerator=30_000, denominator=1_001),
        average_bps=2_000_400,
        peak_bps=2_500_600,
    )
