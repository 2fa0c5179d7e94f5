"""What routes make of messages, seen through HTTP with hand-written services behind it."""

import json
import time
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from gateway.feed import Feed
from media.v1 import events_pb2, media_pb2, metadata_service_pb2, upload_service_pb2
from services.runtime.ids import new_media_id
from tests.unit.gateway.application import Answers, client_of, parts

MEDIA_ID = str(new_media_id("alice"))
PREFIX = f"abc/{MEDIA_ID}/1/token"


def media(status: "media_pb2.MediaStatus.ValueType", **fields: Any) -> media_pb2.Media:
    message = media_pb2.Media(
        media_id=MEDIA_ID,
        user_id="alice",
        type=media_pb2.MEDIA_TYPE_VIDEO,
        status=status,
        generation=1,
        filename="a.mp4",
        content_type="video/mp4",
        size_bytes=7,
        trace_id="0af7651916cd43dd8448eb211c80319c",
        **fields,
    )
    message.created_at.FromSeconds(1_700_000_000)
    message.updated_at.FromSeconds(1_700_000_001)
    return message


def published() -> media_pb2.Media:
    message = media(
        media_pb2.MEDIA_STATUS_PUBLISHED,
        s3_manifest_key=f"{PREFIX}/main.m3u8",
        renditions=[
            media_pb2.Rendition(
                rendition_id="r",
                resolution="720p",
                s3_manifest_key=f"{PREFIX}/720p/a1/playlist.m3u8",
                duration_secs=12.3456,
                bitrate_kbps=2_000,
                frame_rate=media_pb2.Rational(numerator=30_000, denominator=1_001),
            )
        ],
        thumbnails=[media_pb2.Thumbnail(size_px=600, s3_key=f"{PREFIX}/poster/a1/600.jpg")],
    )
    message.published_at.FromSeconds(1_700_000_002)
    return message


def answering(message: media_pb2.Media) -> Answers:
    return Answers({"GetMedia": lambda _: metadata_service_pb2.GetMediaResponse(media=message)})


async def test_initiate_passes_owner_and_key_and_answers_where_the_media_is() -> None:
    answer = upload_service_pb2.InitiateUploadResponse(
        media_id=MEDIA_ID,
        upload_id="u",
        part_size_bytes=10,
        part_count=2,
        parts=[upload_service_pb2.PresignedPart(part_number=1, url="https://storage/1", size_bytes=10)],
    )
    answer.expires_at.FromSeconds(1_700_000_000)
    upload = Answers({"InitiateUpload": lambda _: answer})
    async with client_of(parts(upload=upload)) as client:
        response = await client.post(
            "/v1/initiate-upload",
            json={"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 17},
            headers={"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'},
        )
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/media/{MEDIA_ID}"
    assert response.json() == {
        "media_id": MEDIA_ID,
        "upload_id": "u",
        "part_size_bytes": 10,
        "part_count": 2,
        "parts": [{"part_number": 1, "url": "https://storage/1", "size_bytes": 10}],
        "expires_at": "2023-11-14T22:13:20Z",
    }
    assert upload.asked[0].user_id == "alice"
    assert upload.asked[0].request_id == "8e03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": '"'}, {"Idempotency-Key": '""'}], ids=str)
async def test_without_a_key_each_upload_has_one_of_its_own(headers: dict[str, str]) -> None:
    """Calls are tried again behind the gateway: what came without a key must still make one media only."""
    upload = Answers({"InitiateUpload": lambda _: upload_service_pb2.InitiateUploadResponse(media_id=MEDIA_ID)})
    async with client_of(parts(upload=upload)) as client:
        for _ in range(2):
            body = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 17}
            assert (await client.post("/v1/initiate-upload", json=body, headers=headers)).status_code == 201
    first, second = (asked.request_id for asked in upload.asked)
    assert first
    assert second
    assert first != second


async def test_a_published_media_leads_to_the_edge() -> None:
    async with client_of(parts(metadata=answering(published()))) as client:
        body = (await client.get(f"/v1/media/{MEDIA_ID}")).json()
    assert body["progress"] == 1.0
    assert body["playback"]["manifest_url"] == f"https://edge.example/{PREFIX}/main.m3u8"
    rendition = body["playback"]["renditions"][0]
    assert rendition["manifest_url"] == f"https://edge.example/{PREFIX}/720p/a1/playlist.m3u8"
    assert (rendition["frame_rate"], rendition["duration_secs"]) == (29.97, 12.346)
    assert body["playback"]["thumbnails"][0]["url"] == f"https://edge.example/{PREFIX}/poster/a1/600.jpg"
    assert body["links"]["watch"] == f"https://gateway.example/watch/{MEDIA_ID}"
    assert body["links"]["trace"] == "https://traces.example/traces/0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "status", [media_pb2.MEDIA_STATUS_UPLOADING, media_pb2.MEDIA_STATUS_PROCESSING, media_pb2.MEDIA_STATUS_FAILED]
)
async def test_nothing_of_the_edge_is_told_before_it_is_published(
    status: "media_pb2.MediaStatus.ValueType",
) -> None:
    message = published()
    message.status = status
    async with client_of(parts(metadata=answering(message))) as client:
        response = await client.get(f"/v1/media/{MEDIA_ID}")
    assert response.json()["playback"] is None
    assert "edge.example" not in response.text


async def test_progress_between_two_looks_comes_from_what_workers_announce() -> None:
    message = media(media_pb2.MEDIA_STATUS_PROCESSING)
    message.tasks.add(task_id="t1", label="720p", cost_share=0.75)
    message.tasks.add(task_id="t2", label="audio", cost_share=0.25, done=True)
    feed = Feed(1)
    said = events_pb2.TaskProgress(media_id=MEDIA_ID, task_id="t1", label="720p", fraction=0.5, cost_share=0.75)
    feed.take(f"progress.{MEDIA_ID}", said.SerializeToString())
    async with client_of(parts(metadata=answering(message), feed=feed)) as client:
        body = (await client.get(f"/v1/media/{MEDIA_ID}")).json()
    assert body["progress"] == round((0.25 + 0.375) * 0.98, 4)


async def test_the_list_passes_size_token_and_status() -> None:
    page = metadata_service_pb2.ListMediaResponse(media=[published()], next_page_token="next")
    metadata = Answers({"ListMedia": lambda _: page})
    async with client_of(parts(metadata=metadata)) as client:
        response = await client.get("/v1/media?page_size=5000&page_token=t&status=published")
    assert response.json()["next_page_token"] == "next"
    asked = metadata.asked[0]
    assert (asked.user_id, asked.page_size, asked.page_token) == ("alice", 100, "t")
    assert asked.status == media_pb2.MEDIA_STATUS_PUBLISHED


async def test_the_stream_of_a_final_media_is_one_state_and_ends() -> None:
    async with client_of(parts(metadata=answering(published()))) as client:
        response = await client.get(f"/v1/media/{MEDIA_ID}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    event, data, end = response.text.split("\n", 2)
    assert (event, end) == ("event: state", "\n")
    assert json.loads(data.removeprefix("data: "))["status"] == "published"


async def test_a_stream_too_many_is_refused_and_one_that_ended_makes_room() -> None:
    feed = Feed(max_watchers=1)
    async with client_of(parts(metadata=answering(published()), feed=feed)) as client:
        for _ in range(2):
            assert (await client.get(f"/v1/media/{MEDIA_ID}/events")).status_code == 200
        with feed.watch("another"):
            refused = await client.get(f"/v1/media/{MEDIA_ID}/events")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "10"
    assert refused.json()["type"].endswith("/too-many-streams")


async def test_what_happens_during_the_first_look_at_the_table_is_not_missed() -> None:
    feed = Feed(max_watchers=1)
    said = events_pb2.MediaPublished(media_id=MEDIA_ID).SerializeToString()
    looks = [media(media_pb2.MEDIA_STATUS_PROCESSING), published()]

    def look(_: Any) -> metadata_service_pb2.GetMediaResponse:
        feed.take("media.published", said)  # just after the table was read
        return metadata_service_pb2.GetMediaResponse(media=looks.pop(0))

    began_s = time.monotonic()
    async with client_of(parts(metadata=Answers({"GetMedia": look}), feed=feed)) as client:
        response = await client.get(f"/v1/media/{MEDIA_ID}/events")
    assert response.text.count("event: state") == 2
    assert time.monotonic() - began_s < 2


async def test_readiness_needs_the_broker() -> None:
    made = parts(is_connected=False, channels={"upload": _Serving(), "metadata": _Serving()})
    async with client_of(made) as client:
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "upload": True, "metadata": True, "broker": False}


class _Serving:
    """A channel whose health check says that it serves."""

    def unary_unary(self, path: str, **_: Any) -> Any:
        async def check(request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109 as gRPC names it
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

        return check
