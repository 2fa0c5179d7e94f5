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
CRC32C = "4waSgw=="
SHA256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
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
        thumbnails=[media_pb2.Thumbnail(size_px=600, s3_key=f"{PREFIX}/poster/a1/600.jpg", thumbhash=bytes(range(6)))],
    )
    message.published_at.FromSeconds(1_700_000_002)
    return message


def answering(message: media_pb2.Media) -> Answers:
    return Answers({"GetMedia": lambda _: metadata_service_pb2.GetMediaResponse(media=message)})


FILE = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 17}


async def test_initiate_passes_the_owner_and_answers_where_the_media_is() -> None:
    answer = upload_service_pb2.InitiateUploadResponse(
        media_id=MEDIA_ID,
        upload_id="u",
        part_size_bytes=10,
        part_count=2,
        kind=media_pb2.UPLOAD_KIND_PUT,
        parts=[
            upload_service_pb2.PresignedPart(
                part_number=1, url="https://storage/1", size_bytes=10, headers={"if-none-match": "*"}
            )
        ],
    )
    answer.expires_at.FromSeconds(1_700_000_000)
    upload = Answers({"InitiateUpload": lambda _: answer})
    async with client_of(parts(upload=upload)) as client:
        response = await client.post("/v1/initiate-upload", json=FILE)
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/media/{MEDIA_ID}"
    assert response.json() == {
        "media_id": MEDIA_ID,
        "upload_id": "u",
        "kind": "put",
        "part_size_bytes": 10,
        "part_count": 2,
        "parts": [{"part_number": 1, "url": "https://storage/1", "size_bytes": 10, "headers": {"if-none-match": "*"}}],
        "expires_at": "2023-11-14T22:13:20Z",
    }
    assert upload.asked[0].user_id == "alice"


async def test_without_a_key_each_upload_has_one_of_its_own() -> None:
    """Calls are tried again behind the gateway: what came without a key must still make one media only."""
    upload = Answers({"InitiateUpload": lambda _: upload_service_pb2.InitiateUploadResponse(media_id=MEDIA_ID)})
    async with client_of(parts(upload=upload)) as client:
        for _ in range(2):
            assert (await client.post("/v1/initiate-upload", json=FILE)).status_code == 201
    first, second = (asked.request_id for asked in upload.asked)
    assert first
    assert second
    assert first != second


async def test_initiate_passes_checksums() -> None:
    upload = Answers({"InitiateUpload": lambda _: upload_service_pb2.InitiateUploadResponse(media_id=MEDIA_ID)})
    async with client_of(parts(upload=upload)) as client:
        body = FILE | {"checksum_algorithm": "SHA256", "checksum": SHA256}
        assert (await client.post("/v1/initiate-upload", json=body)).status_code == 201
    assert upload.asked[0].checksum_algorithm == media_pb2.CHECKSUM_ALGORITHM_SHA256
    assert upload.asked[0].checksum == SHA256


@pytest.mark.parametrize(
    "given",
    [
        {"checksum": CRC32C},
        {"checksum_algorithm": "SHA256", "checksum": CRC32C},
        {"checksum_algorithm": "CRC32C", "checksum": SHA256},
        {"checksum_algorithm": "CRC32C", "checksum": "4waSgw="},
        {"checksum_algorithm": "CRC32C", "checksum": "4wa_gw=="},
        {"checksum_algorithm": "CRC32C", "checksum": "4waSgw==\n"},
        {"checksum_algorithm": "MD5"},
    ],
    ids=str,
)
async def test_checksums_of_another_form_go_no_further(given: dict[str, str]) -> None:
    upload = Answers()
    async with client_of(parts(upload=upload)) as client:
        response = await client.post("/v1/initiate-upload", json=FILE | given)
    assert response.status_code == 422
    assert response.json()["type"].endswith("/validation-failed")
    assert upload.asked == []


async def test_parts_are_signed_for_their_checksums_in_the_order_of_the_numbers() -> None:
    signed = upload_service_pb2.SignPartsResponse(
        parts=[
            upload_service_pb2.PresignedPart(
                part_number=2, url="https://storage/2", size_bytes=7, headers={"x-amz-checksum-crc32c": CRC32C}
            )
        ]
    )
    upload = Answers({"SignParts": lambda _: signed})
    async with client_of(parts(upload=upload)) as client:
        path = f"/v1/uploads/{MEDIA_ID}/sign-parts"
        response = await client.post(path, json={"part_numbers": [2, 1], "checksums": [CRC32C, "AAAAAA=="]})
        unaligned = await client.post(path, json={"part_numbers": [2, 1], "checksums": [CRC32C]})
    assert response.json()["parts"][0]["headers"] == {"x-amz-checksum-crc32c": CRC32C}
    (asked,) = upload.asked
    assert (asked.part_numbers, asked.checksums, asked.upload_id) == ([2, 1], [CRC32C, "AAAAAA=="], "")
    assert unaligned.status_code == 422
    assert unaligned.json()["errors"][0]["message"] == "There must be as many checksums as part_numbers"


async def test_what_storage_holds_comes_with_the_kind_of_the_upload() -> None:
    held = upload_service_pb2.ListPartsResponse(
        kind=media_pb2.UPLOAD_KIND_FORM,
        parts=[upload_service_pb2.UploadedPart(part_number=1, etag="e", size_bytes=3)],
    )
    async with client_of(parts(upload=Answers({"ListParts": lambda _: held}))) as client:
        response = await client.get(f"/v1/uploads/{MEDIA_ID}/parts")
    assert response.json() == {
        "kind": "form",
        "parts": [{"part_number": 1, "etag": "e", "size_bytes": 3}],
        "upload_id": "",
        "part_size_bytes": 0,
        "part_count": 0,
    }


async def test_complete_passes_checksums_and_tells_the_verified_one() -> None:
    message = media(
        media_pb2.MEDIA_STATUS_PROCESSING, checksum_algorithm=media_pb2.CHECKSUM_ALGORITHM_CRC32C, checksum=CRC32C
    )
    completed = upload_service_pb2.CompleteUploadResponse(media=message)
    upload = Answers({"CompleteUpload": lambda _: completed})
    sent = [{"part_number": 1, "etag": "e", "checksum": SHA256}, {"part_number": 2, "etag": "f"}]
    async with client_of(parts(upload=upload)) as client:
        response = await client.post(
            "/v1/complete-upload", json={"media_id": MEDIA_ID, "parts": sent, "checksum": CRC32C}
        )
    assert (response.status_code, response.headers["location"]) == (202, f"/v1/media/{MEDIA_ID}")
    assert response.json()["checksum"] == {"algorithm": "CRC32C", "value": CRC32C}
    (asked,) = upload.asked
    assert (asked.checksum, [part.checksum for part in asked.parts]) == (CRC32C, [SHA256, ""])


async def test_a_media_without_a_verified_checksum_shows_none() -> None:
    message = media(media_pb2.MEDIA_STATUS_UPLOADING, checksum_algorithm=media_pb2.CHECKSUM_ALGORITHM_CRC32C)
    async with client_of(parts(metadata=answering(message))) as client:
        assert (await client.get(f"/v1/media/{MEDIA_ID}")).json()["checksum"] is None


async def test_no_limit_of_a_quota_is_null() -> None:
    message = metadata_service_pb2.GetQuotaResponse(
        used_bytes=7, limit_bytes=10, media_count=1, open_upload_count=0, open_upload_limit=3
    )
    metadata = Answers({"GetQuota": lambda _: message})
    async with client_of(parts(metadata=metadata)) as client:
        response = await client.get("/v1/quota")
    assert response.json() == {
        "used_bytes": 7,
        "limit_bytes": 10,
        "media_count": 1,
        "media_limit": None,
        "open_upload_count": 0,
        "open_upload_limit": 3,
    }
    assert metadata.asked[0].user_id == "alice"


async def test_a_published_media_leads_to_the_edge() -> None:
    async with client_of(parts(metadata=answering(published()))) as client:
        body = (await client.get(f"/v1/media/{MEDIA_ID}")).json()
    assert body["progress"] == 1.0
    assert body["playback"]["manifest_url"] == f"https://edge.example/{PREFIX}/main.m3u8"
    rendition = body["playback"]["renditions"][0]
    assert rendition["manifest_url"] == f"https://edge.example/{PREFIX}/720p/a1/playlist.m3u8"
    assert (rendition["frame_rate"], rendition["duration_secs"]) == (29.97, 12.346)
    assert body["playback"]["thumbnails"][0]["url"] == f"https://edge.example/{PREFIX}/poster/a1/600.jpg"
    assert body["playback"]["thumbhash"] == "AAECAwQF"
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
