"""Translation at the transcode service's edges: settings, messages, protos."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest
from pydantic import ValidationError

from media.v1 import events_pb2, media_pb2, metadata_service_pb2, metadata_service_pb2_grpc, transcode_service_pb2
from services.runtime import grpc_client, grpc_server
from services.runtime.bus import Delivery, Discard, RetryLater
from services.runtime.errors import InvalidArgument, Unavailable
from services.transcode import memory
from services.transcode.admission import Admission
from services.transcode.artifacts import folder_of
from services.transcode.consumer import Consumer
from services.transcode.encoders import IN_SOFTWARE
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, ChunkOutcome, Outcome, TrackPiece
from services.transcode.failures import WORKER_STOPPING
from services.transcode.formats import ImageFormat, Packaging
from services.transcode.ladder import LADDER
from services.transcode.language import bcp47
from services.transcode.metadata_client import MetadataClient, result_to_pb
from services.transcode.plan import Fleet
from services.transcode.planner import PlannedTask
from services.transcode.servicer import TranscodeServicer
from services.transcode.settings import TranscodeSettings
from services.transcode.slots import Pulse, Slots
from services.transcode.source import MediaKind, SourceInfo
from services.transcode.specs import LoudnessTarget
from services.transcode.tasks import Claimed, Held, Result, Stored
from services.transcode.worker import Worker, WorkerPolicy
from tests.unit.pipeline import fakes
from tests.unit.pipeline.fakes import FakeAnnouncer, FakeEngine, FakePlans, FakeStorage, FakeTasks, Job
from tests.unit.pipeline.rig import Rig


def stored(*artifacts: Artifact) -> dict[str, Stored]:
    return {each.name: Stored(f"folder/{each.name}", len(each.data), bytes.fromhex(each.sha256)) for each in artifacts}


def test_a_track_travels_with_keys_and_checksums() -> None:
    result = Result("audio", "", fakes.TRACK, stored(fakes.INIT, *fakes.SEGMENTS))
    track = result_to_pb(result).track
    assert track.init_s3_key == "folder/720p/init.mp4"
    assert [segment.s3_key for segment in track.segments] == [f"folder/{each.name}" for each in fakes.SEGMENTS]
    assert [segment.size_bytes for segment in track.segments] == [len(each.data) for each in fakes.SEGMENTS]
    assert track.segments[0].sha256.hex() == fakes.SEGMENTS[0].sha256
    assert track.segments[0].key_frame_chunk_bytes == 4
    assert (track.frame_rate.numerator, track.frame_rate.denominator) == (30, 1)


def test_pieces_travel_as_tracks_with_the_labels_of_their_renditions() -> None:
    outcome = ChunkOutcome((TrackPiece("720p", fakes.TRACK),))
    [piece] = result_to_pb(Result("video-001", "", outcome, stored(fakes.INIT, *fakes.SEGMENTS))).pieces.items
    assert piece.label == "720p"
    assert piece.init_s3_key == "folder/720p/init.mp4"


def test_stills_travel_with_keys_and_checksums() -> None:
    [still] = result_to_pb(Result("image", "", fakes.IMAGES, stored(fakes.JPEG))).stills.items
    assert still.thumbnail.s3_key == "folder/1200.jpg"
    assert (still.thumbnail.size_px, still.thumbnail.width_px, still.thumbnail.height_px) == (1200, 900, 1200)
    assert still.thumbnail.thumbhash == bytes(range(6))
    assert still.sha256.hex() == fakes.JPEG.sha256


class _Metadata(metadata_service_pb2_grpc.MetadataServiceServicer):
    """Keeps what it is asked; answers nothing to the first claim."""

    def __init__(self, media: media_pb2.Media | None = None) -> None:
        self.media = media
        self.questions: list[metadata_service_pb2.GetMediaRequest] = []
        self.plans: list[metadata_service_pb2.RecordPlanRequest] = []
        self.claims: list[metadata_service_pb2.ClaimTaskRequest] = []
        self.failures: list[metadata_service_pb2.FailTaskRequest] = []

    async def ClaimTask(
        self, request: metadata_service_pb2.ClaimTaskRequest, context: object
    ) -> metadata_service_pb2.ClaimTaskResponse:
        self.claims.append(request)
        if len(self.claims) == 1:
            raise Unavailable("the reply is lost")
        return metadata_service_pb2.ClaimTaskResponse(outcome=metadata_service_pb2.CLAIM_OUTCOME_HELD)

    async def GetMedia(
        self, request: metadata_service_pb2.GetMediaRequest, context: object
    ) -> metadata_service_pb2.GetMediaResponse:
        self.questions.append(request)
        return metadata_service_pb2.GetMediaResponse(media=self.media)

    async def RecordPlan(
        self, request: metadata_service_pb2.RecordPlanRequest, context: object
    ) -> metadata_service_pb2.RecordPlanResponse:
        self.plans.append(request)
        return metadata_service_pb2.RecordPlanResponse()

    async def FailTask(
        self, request: metadata_service_pb2.FailTaskRequest, context: object
    ) -> metadata_service_pb2.FailTaskResponse:
        self.failures.append(request)
        return metadata_service_pb2.FailTaskResponse()


@asynccontextmanager
async def _connected(servicer: _Metadata) -> AsyncIterator[MetadataClient]:
    def add_to(server: grpc.aio.Server) -> None:
        metadata_service_pb2_grpc.add_MetadataServiceServicer_to_server(servicer, server)

    async with (
        grpc_server.serving("127.0.0.1:0", [("media.v1.MetadataService", add_to)]) as address,
        grpc_client.channel(address) as channel,
    ):
        yield MetadataClient(channel)


async def test_plans_travel_with_what_the_bytes_are() -> None:
    servicer = _Metadata()  # type: ignore[abstract] # the other methods are not called
    planned = PlannedTask("image", "image", "{}", 1.0, 12_345)
    async with _connected(servicer) as client:
        await client.record(fakes.MEDIA_ID, 1, MediaKind.IMAGE, "{}", [planned])
        await client.record(fakes.MEDIA_ID, 1, MediaKind.VIDEO, "{}", [planned])
    assert [request.type for request in servicer.plans] == [media_pb2.MEDIA_TYPE_IMAGE, media_pb2.MEDIA_TYPE_VIDEO]
    assert [request.tasks[0].label for request in servicer.plans] == ["image", "image"]
    assert servicer.plans[0].tasks[0].memory_bytes == 12_345


@pytest.mark.parametrize(
    ("media", "is_wanted"),
    [
        (media_pb2.Media(status=media_pb2.MEDIA_STATUS_PROCESSING, generation=2), True),
        (media_pb2.Media(status=media_pb2.MEDIA_STATUS_PROCESSING, generation=1), False),
        (media_pb2.Media(status=media_pb2.MEDIA_STATUS_FAILED, generation=2), False),
        (
            media_pb2.Media(
                status=media_pb2.MEDIA_STATUS_PROCESSING, generation=2, tasks=[media_pb2.TaskSummary(label="image")]
            ),
            False,
        ),
    ],
)
async def test_a_plan_is_wanted_until_there_is_one(media: media_pb2.Media, is_wanted: bool) -> None:
    servicer = _Metadata(media)  # type: ignore[abstract] # the other methods are not called
    async with _connected(servicer) as client:
        assert await client.is_wanted(fakes.USER_ID, fakes.MEDIA_ID, 2) is is_wanted
    assert [(request.user_id, request.media_id) for request in servicer.questions] == [(fakes.USER_ID, fakes.MEDIA_ID)]


async def test_claims_and_releases_travel_whole() -> None:
    servicer = _Metadata()  # type: ignore[abstract] # the other methods are not called
    ref = fakes.task().ref
    async with _connected(servicer) as client:
        claim = await client.claim(ref, worker="w", lease=timedelta(seconds=30), claim_id="claim-1")
        waits = (timedelta(0), timedelta(seconds=7.5))
        for wait in waits:
            await client.fail(ref, 1, WORKER_STOPPING, permanent=False, release=True, retry_after=wait)
    assert claim == Held(timedelta(0))
    assert [request.claim_id for request in servicer.claims] == ["claim-1", "claim-1"]
    assert [request.release for request in servicer.failures] == [True, True]
    assert [request.HasField("retry_after") for request in servicer.failures] == [False, True]
    assert servicer.failures[1].retry_after.ToTimedelta() == waits[1]


def test_attempts_never_share_a_folder() -> None:
    task = fakes.task()
    assert folder_of(task, 1) == "abc/media/1/token/image/a1"
    assert folder_of(task, 2) != folder_of(task, 1)


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        ("eng", "en"),
        ("ger", "de"),
        ("DEU", "de"),
        ("en-US", "en-US"),
        ("und", ""),
        (None, ""),
        ('x"\n', ""),
        ("tlh", "tlh"),
    ],
)
def test_languages_become_bcp47(said: str | None, tag: str) -> None:
    assert bcp47(said) == tag


def test_formats_of_stills_come_from_a_list_and_jpeg_is_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TranscodeSettings().transcode_image_formats == (ImageFormat.JPEG, ImageFormat.WEBP)
    monkeypatch.setenv("MILLRACE_TRANSCODE_IMAGE_FORMATS", "avif, jpeg")
    assert TranscodeSettings().transcode_image_formats == (ImageFormat.JPEG, ImageFormat.AVIF)
    for wrong in ("webp", "jpeg,gif", ""):
        monkeypatch.setenv("MILLRACE_TRANSCODE_IMAGE_FORMATS", wrong)
        with pytest.raises(ValidationError):
            TranscodeSettings()


def test_lanes_are_named_and_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_TRANSCODE_LANES", "video, audio")
    monkeypatch.setenv("MILLRACE_TRANSCODE_VIDEO_SLOTS", "3")
    assert TranscodeSettings().slots == {"video": 3, "audio": 1}
    monkeypatch.setenv("MILLRACE_TRANSCODE_LANES", "")
    assert TranscodeSettings().slots == {}
    monkeypatch.setenv("MILLRACE_TRANSCODE_LANES", "vidoe")
    with pytest.raises(ValidationError, match="no such lane: vidoe"):
        TranscodeSettings()


def test_codecs_are_named_h264_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TranscodeSettings().output(IN_SOFTWARE).ladder == LADDER
    monkeypatch.setenv("MILLRACE_TRANSCODE_CODECS", "h264, av1")
    ladder = TranscodeSettings().output(IN_SOFTWARE).ladder
    assert [(step.label, step.encoder) for step in ladder[3:5]] == [("360p", "libx264"), ("1080p-av1", "libsvtav1")]
    for value, complaint in (
        ("av1", "h264 comes first"),
        ("h264,h264", "twice"),
        ("h264,theora", "theora"),
        ("", "at least 1"),
    ):
        monkeypatch.setenv("MILLRACE_TRANSCODE_CODECS", value)
        with pytest.raises(ValidationError, match=complaint):
            TranscodeSettings()


def test_mpeg_ts_carries_h264_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TranscodeSettings().transcode_packaging is Packaging.CMAF
    monkeypatch.setenv("MILLRACE_TRANSCODE_PACKAGING", "ts")
    assert TranscodeSettings().transcode_packaging is Packaging.TS
    monkeypatch.setenv("MILLRACE_TRANSCODE_CODECS", "h264,hevc")
    with pytest.raises(ValidationError, match="h264 alone"):
        TranscodeSettings()


def test_the_limits_of_uploads_are_held_for_what_the_bytes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_UPLOAD_MAX_IMAGE_BYTES", "123")
    monkeypatch.setenv("MILLRACE_UPLOAD_MAX_VIDEO_BYTES", "456")
    limits = TranscodeSettings().probe_limits
    assert (limits.max_image_bytes, limits.max_video_bytes) == (123, 456)


def test_alone_a_process_plans_for_its_own_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_TRANSCODE_VIDEO_SLOTS", "3")
    assert TranscodeSettings().fleet == Fleet(3)
    monkeypatch.setenv("MILLRACE_TRANSCODE_FLEET_VIDEO_SLOTS", "40")
    assert TranscodeSettings().fleet == Fleet(40)


def test_loudness_is_set_or_left_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TranscodeSettings().loudness is None
    monkeypatch.setenv("MILLRACE_TRANSCODE_LOUDNESS_LUFS", "-16")
    assert TranscodeSettings().loudness == LoudnessTarget(-16.0, -1.0)
    monkeypatch.setenv("MILLRACE_TRANSCODE_TRUE_PEAK_CEILING_DBTP", "-2.5")
    assert TranscodeSettings().loudness == LoudnessTarget(-16.0, -2.5)
    monkeypatch.setenv("MILLRACE_TRANSCODE_LOUDNESS_LUFS", "16")
    with pytest.raises(ValidationError, match="less than or equal to -5"):
        TranscodeSettings()


async def _keep() -> None:
    pass


def _delivery(subject: str, data: bytes, count: int = 1) -> Delivery:
    return Delivery(subject, data, {}, count, _keep)


def _consumer(
    plans: FakePlans, tasks: FakeTasks, engine: FakeEngine | None = None, storage: FakeStorage | None = None
) -> Consumer:
    storage = storage or FakeStorage()
    planner = fakes.planner(engine or FakeEngine(), plans, storage)
    worker = Worker(
        engine=FakeEngine(),
        storage=storage,
        tasks=tasks,
        announcer=FakeAnnouncer(),
        slots=Slots("worker", {"image": 1}),
        admission=Admission(memory.ORDINARY_BYTES),
        policy=WorkerPolicy(
            TranscodeSettings().lease, timedelta(seconds=30), {"image": Limits()}, "originals", "delivery"
        ),
    )
    return Consumer(planner, worker)


def _uploaded(
    *, claimed: media_pb2.MediaType.ValueType = media_pb2.MEDIA_TYPE_UNSPECIFIED, sha256: bytes = b""
) -> bytes:
    return events_pb2.MediaUploaded(
        user_id=fakes.USER_ID,
        media_id=fakes.MEDIA_ID,
        generation=1,
        type=claimed,
        original=media_pb2.Original(
            s3_key=fakes.ORIGINAL.s3_key, etag=fakes.ORIGINAL.etag, size_bytes=fakes.ORIGINAL.size_bytes
        ),
        expected_sha256=sha256,
    ).SerializeToString()


async def test_messages_reach_the_use_cases() -> None:
    plans, tasks = FakePlans(), FakeTasks()
    consumer = _consumer(plans, tasks)
    await consumer.on_uploaded(_delivery("media.uploaded", _uploaded()))
    assert len(plans.recorded) == 1
    ready = events_pb2.TaskReady(task_id="task-1", media_id=fakes.MEDIA_ID, generation=1)
    await consumer.on_task(_delivery("tasks.image", ready.SerializeToString()))
    assert tasks.done is not None


@pytest.mark.parametrize(("said_bytes", "need_bytes"), [(0, memory.ORDINARY_BYTES), (12_345, 12_345)])
async def test_a_message_says_how_much_memory_its_task_takes(said_bytes: int, need_bytes: int) -> None:
    rig, held = Rig(), list[int]()

    async def looks(job: Job) -> Outcome:
        held.append(rig.admission.held_bytes)
        return await fakes.make_image(job)

    rig.engine.behaviour = looks
    ready = events_pb2.TaskReady(task_id="task-1", media_id=fakes.MEDIA_ID, generation=1, memory_bytes=said_bytes)
    consumer = Consumer(fakes.planner(FakeEngine(), FakePlans()), rig.made())
    await consumer.on_task(_delivery("tasks.image", ready.SerializeToString()))
    assert held == [need_bytes]


@pytest.mark.parametrize("claimed", media_pb2.MediaType.values())
@pytest.mark.parametrize("found", [fakes.IMAGE_SOURCE, fakes.VIDEO_SOURCE])
async def test_whatever_is_claimed_the_bytes_decide(claimed: media_pb2.MediaType.ValueType, found: SourceInfo) -> None:
    plans = FakePlans()
    consumer = _consumer(plans, FakeTasks(), FakeEngine(found=found))
    await consumer.on_uploaded(_delivery("media.uploaded", _uploaded(claimed=claimed)))
    [(_, _, kind, _, tasks)] = plans.recorded
    assert kind is found.kind
    assert ("image" in [task.label for task in tasks]) is (found.kind is MediaKind.IMAGE)
    assert plans.failed == []


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"",
        events_pb2.MediaUploaded(media_id="m").SerializeToString(),
        _uploaded(sha256=b"x"),
        _uploaded(sha256=bytes(31)),
        _uploaded(sha256=bytes(64)),
    ],
)
async def test_what_makes_no_sense_is_discarded(data: bytes) -> None:
    plans = FakePlans()
    with pytest.raises(Discard):
        await _consumer(plans, FakeTasks()).on_uploaded(_delivery("media.uploaded", data))
    assert (plans.recorded, plans.failed) == ([], [])


async def test_an_expected_checksum_reaches_the_use_case() -> None:
    plans = FakePlans()
    consumer = _consumer(plans, FakeTasks())
    await consumer.on_uploaded(_delivery("media.uploaded", _uploaded(sha256=bytes(32))))
    assert [failure.reason for failure in plans.failed] == ["checksum_mismatch"]
    right = hashlib.sha256(fakes.ORIGINAL_BYTES).digest()
    await consumer.on_uploaded(_delivery("media.uploaded", _uploaded(sha256=right)))
    assert len(plans.recorded) == 1


async def test_a_message_without_a_slot_comes_again_and_its_wait_is_no_fault() -> None:
    class Stuck(FakeStorage):
        async def read(self, bucket: str, key: str, *, etag: str, offset: int, length: int) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

    consumer = _consumer(FakePlans(), FakeTasks(), storage=Stuck())
    hands = [  # as many as there are slots
        asyncio.create_task(consumer.on_uploaded(_delivery("media.uploaded", _uploaded_again(f"media-{number}"))))
        for number in range(2)
    ]
    await asyncio.sleep(0.01)
    with pytest.raises(RetryLater):
        await consumer.on_uploaded(_delivery("media.uploaded", _uploaded_again("media-2")))
    for hand in hands:
        hand.cancel()
    await asyncio.gather(*hands, return_exceptions=True)


def _uploaded_again(media_id: str) -> bytes:
    event = events_pb2.MediaUploaded.FromString(_uploaded(sha256=bytes(32)))
    event.media_id = media_id
    return event.SerializeToString()


async def test_workers_are_shown_by_slot() -> None:
    slots = Slots("worker", {"image": 1, "video": 2})
    servicer = TranscodeServicer(slots, Limits(), fakes.FLEET)
    pulse = Pulse()
    pulse.advance(0.5)
    with slots.taken(Claimed(fakes.task(), 2), pulse):
        answer = await servicer.GetWorkers(transcode_service_pb2.GetWorkersRequest(), None)  # type: ignore[arg-type]
    assert [(slot.lane, slot.label, slot.attempt, slot.fraction) for slot in answer.slots] == [
        ("image", "image", 2, 0.5),
        ("video", "", 0, 0.0),
        ("video", "", 0, 0.0),
    ]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (transcode_service_pb2.PreviewPlanRequest(width_px=1920, height_px=1080, duration_secs=1), "frame_rate"),
        (
            transcode_service_pb2.PreviewPlanRequest(
                frame_rate=media_pb2.Rational(numerator=30, denominator=1), duration_secs=float("nan")
            ),
            "duration_secs",
        ),
    ],
)
async def test_a_preview_refuses_what_is_no_number(
    request_: transcode_service_pb2.PreviewPlanRequest, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await TranscodeServicer(Slots("w", {}), Limits(), fakes.FLEET).PreviewPlan(request_, None)  # type: ignore[arg-type]
    assert caught.value.details["field"] == field
