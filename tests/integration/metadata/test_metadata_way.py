"""The whole way of a media through the service, and what its owner sees of it on the way."""

import pytest

from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime import ids
from tests.integration.metadata.calls import LADDER, SIZE_BYTES, Metadata, Sql


async def test_a_video_goes_from_intent_to_published(metadata: Metadata, user: str, sql: Sql) -> None:
    upload = await metadata.create(user)
    shard = ids.shard_of_user(user)
    assert upload.s3_key == f"{shard:03x}/{upload.media_id}/original"
    assert upload.state == pb.UPLOAD_STATE_OPEN
    assert upload.upload_id == ""
    assert (await metadata.attach(upload.media_id)).upload_id == "upload-1"
    assert (await metadata.media(user, upload.media_id)).status == media_pb2.MEDIA_STATUS_UPLOADING

    assert (await metadata.begin_complete(user, upload.media_id)).state == pb.UPLOAD_STATE_COMPLETING
    assert (await metadata.begin_processing(upload)).status == media_pb2.MEDIA_STATUS_PROCESSING
    assert (await metadata.upload(user, upload.media_id)).state == pb.UPLOAD_STATE_COMPLETED

    assert await metadata.plan(upload.media_id) == len(LADDER)
    planned = await metadata.media(user, upload.media_id)
    assert [task.label for task in planned.tasks] == list(LADDER)
    assert sum(task.cost_share for task in planned.tasks) == pytest.approx(1)

    for number, summary in enumerate(planned.tasks, start=1):
        claimed = await metadata.claim(upload.media_id, summary.task_id)
        assert claimed.outcome == pb.CLAIM_OUTCOME_CLAIMED
        assert claimed.task.original.size_bytes == SIZE_BYTES
        assert await metadata.complete(claimed) == len(LADDER) - number
    encoded = await metadata.media(user, upload.media_id)
    assert all(task.done for task in encoded.tasks)
    assert encoded.status == media_pb2.MEDIA_STATUS_PROCESSING
    assert not encoded.renditions
    assert not encoded.thumbnails
    assert encoded.s3_manifest_key == ""

    publication = await metadata.publication(upload.media_id)
    assert [track.label for track in publication.tracks] == ["1080p", "720p", "audio"]
    assert [still.thumbnail.size_px for still in publication.stills] == [1_200, 1_200, 600, 600, 150, 150]
    assert not publication.published
    await metadata.publish(publication, upload.media_id)

    published = await metadata.media(user, upload.media_id)
    assert published.status == media_pb2.MEDIA_STATUS_PUBLISHED
    assert published.HasField("published_at")
    assert published.s3_manifest_key == f"{publication.delivery_prefix}/main.m3u8"
    assert [rendition.resolution for rendition in published.renditions] == ["1080p", "720p", "audio"]
    first = published.renditions[0]
    assert first.s3_manifest_key == f"{publication.delivery_prefix}/1080p/a1/playlist.m3u8"
    assert (first.duration_secs, first.bitrate_kbps, first.peak_bitrate_kbps) == (12.0, 2_000, 2_501)
    assert (first.frame_rate.numerator, first.frame_rate.denominator) == (30_000, 1_001)
    assert not published.renditions[2].HasField("frame_rate")
    assert [still.size_px for still in published.thumbnails] == [1_200, 1_200, 600, 600, 150, 150]

    assert await _announced(sql, upload.media_id) == {
        "media.uploaded": 1,
        "media.planned": 1,
        "tasks.video": 3,
        "tasks.audio": 1,
        "media.encoded": 1,
        "media.published": 1,
    }


async def _announced(sql: Sql, media_id: str) -> dict[str, int]:
    rows = await sql.fetch("SELECT subject, count(*) AS n FROM outbox WHERE media_id = $1 GROUP BY subject", media_id)
    return {row["subject"]: row["n"] for row in rows}
