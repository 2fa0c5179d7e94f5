"""From `media.uploaded` to published or failed, on real servers."""

import base64
import hashlib
import io
from collections.abc import AsyncIterator

import httpx
import pytest
from PIL import Image

from media.v1 import manifest_service_pb2, media_pb2, transcode_service_pb2
from media.v1.manifest_service_pb2_grpc import ManifestServiceStub
from media.v1.transcode_service_pb2_grpc import TranscodeServiceStub
from services.runtime import grpc_client
from services.transcode import app as transcode
from tests.env import Env
from tests.integration.transcode.harness import Pipeline, serving
from tests.journey import hls


@pytest.fixture(scope="module", autouse=True)
async def workers(env: Env, pipeline: Pipeline) -> AsyncIterator[None]:
    async with serving(env, transcode.serve):
        yield


async def test_an_image_is_published_in_three_sizes(pipeline: Pipeline, env: Env, photo: bytes) -> None:
    media_id = await pipeline.begin(photo, "image/jpeg")
    media = await pipeline.finished(media_id)
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED
    assert media.s3_manifest_key == ""
    assert [each.size_px for each in media.thumbnails] == [1200, 1200, 600, 600, 150, 150]
    assert {each.content_type for each in media.thumbnails[::2]} == {"image/jpeg"}
    assert {each.content_type for each in media.thumbnails[1::2]} == {"image/webp"}
    assert len({each.thumbhash for each in media.thumbnails}) == 1
    assert len(media.thumbnails[0].thumbhash) > 5
    async with httpx.AsyncClient() as viewer:
        for thumbnail in media.thumbnails:
            answer = await viewer.get(f"{env['MILLRACE_EDGE_URL']}/{thumbnail.s3_key}")
            assert answer.status_code == 200
            assert answer.headers["x-cache"] == "HIT", "the edge was not warmed"
            with Image.open(io.BytesIO(answer.content)) as picture:
                assert picture.size == (thumbnail.width_px, thumbnail.height_px)
                assert picture.height > picture.width
                assert not picture.getexif()


async def test_a_video_is_published_and_plays(pipeline: Pipeline, env: Env, short_clip: bytes) -> None:
    media_id = await pipeline.begin(short_clip, "video/mp4")
    media = await pipeline.finished(media_id)
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    async with httpx.AsyncClient() as viewer:
        manifest = await hls.multivariant(viewer, f"{env['MILLRACE_EDGE_URL']}/{media.s3_manifest_key}")
        [variant] = manifest.variants
        playlist = await hls.media_playlist(viewer, variant.url)
        # Its packets are passed through, so the borders are its own.
        assert [len(playlist.durations), sum(map(float, playlist.durations))] == [2, pytest.approx(5)]
        pictures = hls.decode_video(await hls.track(viewer, playlist))
        assert (len(pictures.times_s), pictures.width_px, pictures.height_px) == (150, 320, 180)
        answer = await viewer.get(playlist.segment_urls[0])
        assert answer.headers["x-cache"] == "HIT", "the edge was not warmed"

    async with grpc_client.channel(env["MILLRACE_MANIFEST_TARGET"]) as channel:
        stub = ManifestServiceStub(channel)
        verified = await grpc_client.call(
            stub.VerifyMedia, manifest_service_pb2.VerifyMediaRequest(media_id=media_id, generation=1)
        )
        assert not verified.faults
        # twice (init, 2 segments, playlist), 6 stills, I-frame and multivariant playlist
        assert verified.checked_count == 16
        warmed = await grpc_client.call(
            stub.WarmMedia, manifest_service_pb2.WarmMediaRequest(media_id=media_id, generation=1)
        )
        assert (warmed.warmed_count, warmed.failed_count) == (14, 0)


async def test_an_image_that_claims_to_be_a_video_is_published_as_what_it_is(pipeline: Pipeline, photo: bytes) -> None:
    media = await pipeline.finished(await pipeline.begin(photo, "video/mp4"))
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    assert media.type == media_pb2.MEDIA_TYPE_IMAGE
    assert media.s3_manifest_key == ""
    assert [each.size_px for each in media.thumbnails] == [1200, 1200, 600, 600, 150, 150]


async def test_a_video_that_claims_to_be_an_image_is_published_as_what_it_is(
    pipeline: Pipeline, short_clip: bytes
) -> None:
    media = await pipeline.finished(await pipeline.begin(short_clip, "image/jpeg"))
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    assert media.type == media_pb2.MEDIA_TYPE_VIDEO
    assert media.s3_manifest_key.endswith("/main.m3u8")


async def test_an_image_is_no_larger_than_images_may_be_whatever_it_claims(pipeline: Pipeline, photo: bytes) -> None:
    data = photo + bytes(1_000_001 - len(photo))
    media = await pipeline.finished(await pipeline.begin(data, "video/mp4"))
    assert (media.status, media.failure.reason) == (media_pb2.MEDIA_STATUS_FAILED, "file_too_large")
    assert "an image of 1,000,001 bytes; the limit is 1,000,000" in media.failure.message


async def test_a_whole_files_checksum_is_verified_before_it_is_shown(pipeline: Pipeline, photo: bytes) -> None:
    announced = hashlib.sha256(photo).digest()
    media = await pipeline.finished(await pipeline.begin(photo, "image/jpeg", sha256=announced))
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    assert media.checksum_algorithm == media_pb2.CHECKSUM_ALGORITHM_SHA256
    assert base64.b64decode(media.checksum) == announced


async def test_other_bytes_than_announced_fail_with_a_reason(pipeline: Pipeline, photo: bytes) -> None:
    announced = hashlib.sha256(photo).digest()
    media = await pipeline.finished(await pipeline.begin(photo + b"\0", "image/jpeg", sha256=announced))
    assert (media.status, media.failure.reason) == (media_pb2.MEDIA_STATUS_FAILED, "checksum_mismatch")
    assert base64.b64encode(announced).decode() in media.failure.message
    assert media.checksum == "", "a checksum is shown that the bytes do not have"


async def test_what_is_no_media_fails(pipeline: Pipeline) -> None:
    media = await pipeline.finished(await pipeline.begin(b"no media at all " * 99, "video/mp4"))
    assert (media.status, media.failure.reason) == (media_pb2.MEDIA_STATUS_FAILED, "not_media")


async def test_a_truncated_video_fails_with_a_reason(pipeline: Pipeline, short_clip: bytes) -> None:
    media = await pipeline.finished(await pipeline.begin(short_clip[: len(short_clip) * 2 // 3], "video/mp4"))
    assert media.status == media_pb2.MEDIA_STATUS_FAILED
    assert media.failure.reason in {"truncated", "corrupt"}


async def test_a_replaced_original_fails_with_a_reason(pipeline: Pipeline, photo: bytes) -> None:
    media = await pipeline.finished(await pipeline.begin(photo, "image/jpeg", etag="0" * 32))
    assert (media.status, media.failure.reason) == (media_pb2.MEDIA_STATUS_FAILED, "original_changed")


async def test_questions_about_the_fleet(env: Env) -> None:
    async with grpc_client.channel(env["MILLRACE_TRANSCODE_TARGET"]) as channel:
        stub = TranscodeServiceStub(channel)
        workers = await grpc_client.call(stub.GetWorkers, transcode_service_pb2.GetWorkersRequest())
        assert {slot.lane for slot in workers.slots} == {"image", "video", "audio"}
        plan = await grpc_client.call(
            stub.PreviewPlan,
            transcode_service_pb2.PreviewPlanRequest(
                width_px=1920,
                height_px=1080,
                frame_rate=media_pb2.Rational(numerator=30, denominator=1),
                duration_secs=60,
                has_audio=True,
            ),
        )
        assert [each.label for each in plan.renditions] == ["1080p", "720p", "480p", "360p", "audio", "poster"]
