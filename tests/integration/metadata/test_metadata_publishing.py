"""Publishing: when, once, and with what; and failing for good."""

import asyncio

import pytest

from media.v1 import events_pb2, media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime import errors
from services.runtime.grpc_client import call
from tests.integration.metadata.calls import Metadata, Sql


async def test_a_media_is_published_once(metadata: Metadata, user: str, sql: Sql) -> None:
    media_id = await metadata.encoded(user)
    publication = await metadata.publication(media_id)
    times = await asyncio.gather(*(metadata.publish(publication, media_id) for _ in range(8)))
    assert len(set(times)) == 1
    again = await metadata.publication(media_id)
    assert again.published
    assert again.tracks == publication.tracks
    rows = await sql.fetch("SELECT body FROM outbox WHERE media_id = $1 AND kind = 'media.published'", media_id)
    assert [events_pb2.MediaPublished.FromString(row["body"]).user_id for row in rows] == [user]


async def test_a_generation_that_is_encoded_is_not_published_because_an_earlier_one_is(
    metadata: Metadata, user: str, sql: Sql
) -> None:
    media_id = await metadata.encoded(user, ("720p",))
    await sql.execute("UPDATE media SET published_at = now() WHERE media_id = $1", media_id)
    assert not (await metadata.publication(media_id)).published


async def test_an_image_is_published_without_playlists(metadata: Metadata, user: str) -> None:
    media_id = (await metadata.processing(user, media_type=media_pb2.MEDIA_TYPE_IMAGE)).media_id
    await metadata.plan(media_id, ("image",))
    (task,) = (await metadata.media(user, media_id)).tasks
    await metadata.complete(await metadata.claim(media_id, task.task_id))
    publication = await metadata.publication(media_id)
    assert publication.type == media_pb2.MEDIA_TYPE_IMAGE
    await metadata.publish(publication, media_id)
    media = await metadata.media(user, media_id)
    assert media.s3_manifest_key == ""
    assert [still.size_px for still in media.thumbnails] == [1_200, 1_200, 600, 600, 150, 150]


async def test_nothing_is_published_while_tasks_remain(metadata: Metadata, user: str) -> None:
    media_id, task_ids = await metadata.planned(user)
    await metadata.complete(await metadata.claim(media_id, task_ids[0]))
    for attempt in (metadata.publication(media_id), metadata.publish(pb.GetPublicationResponse(), media_id)):
        with pytest.raises(errors.FailedPrecondition) as caught:
            await attempt
        assert caught.value.reason == "TASKS_REMAIN"


async def test_another_generation_and_a_failed_media_are_stale(metadata: Metadata, user: str) -> None:
    media_id = await metadata.encoded(user)
    publication = await metadata.publication(media_id)
    with pytest.raises(errors.Stale):
        await metadata.publication(media_id, generation=2)
    with pytest.raises(errors.Stale):
        await metadata.publish(publication, media_id, generation=2)
    assert await metadata.fail_media(media_id) == media_pb2.MEDIA_STATUS_FAILED
    with pytest.raises(errors.Stale):
        await metadata.publication(media_id)
    with pytest.raises(errors.Stale):
        await metadata.publish(publication, media_id)


async def test_final_states_are_left_as_they_are(metadata: Metadata, user: str) -> None:
    media_id = await metadata.encoded(user)
    await metadata.publish(await metadata.publication(media_id), media_id)
    assert await metadata.fail_media(media_id) == media_pb2.MEDIA_STATUS_PUBLISHED
    with pytest.raises(errors.Stale):
        await metadata.fail_media(media_id, generation=2)
    media = await metadata.media(user, media_id)
    assert not media.HasField("failure")


async def test_of_publishing_and_failing_at_once_one_wins(metadata: Metadata, user: str, sql: Sql) -> None:
    for _ in range(5):
        media_id = await metadata.encoded(user, ("720p",))
        publication = await metadata.publication(media_id)
        published, status = await asyncio.gather(
            metadata.publish(publication, media_id), metadata.fail_media(media_id), return_exceptions=True
        )
        if isinstance(published, errors.Stale):
            assert status == media_pb2.MEDIA_STATUS_FAILED
        else:
            assert status == media_pb2.MEDIA_STATUS_PUBLISHED
        ends = "SELECT count(*) FROM outbox WHERE media_id = $1 AND kind IN ('media.published', 'media.failed')"
        assert await sql.fetchval(ends, media_id) == 1


@pytest.mark.parametrize("wrong", ["none", "missing", "unknown", "twice", "outside", "main outside", "no main"])
async def test_playlists_that_are_not_those_of_the_renditions_are_refused(
    metadata: Metadata, user: str, wrong: str
) -> None:
    media_id = await metadata.encoded(user, ("720p", "audio"))
    prefix = (await metadata.publication(media_id)).delivery_prefix
    right = {label: f"{prefix}/{label}/a1/playlist.m3u8" for label in ("720p", "audio")}
    given = {
        "none": [],
        "missing": [("720p", right["720p"])],
        "unknown": [*right.items(), ("480p", right["720p"])],
        "twice": [*right.items(), ("720p", right["720p"])],
        "outside": [("720p", "other/prefix/playlist.m3u8"), ("audio", right["audio"])],
    }.get(wrong, list(right.items()))
    main = {"main outside": "other/main.m3u8", "no main": ""}.get(wrong, f"{prefix}/main.m3u8")
    request = pb.PublishMediaRequest(
        media_id=media_id,
        generation=1,
        s3_manifest_key=main,
        playlists=[pb.PublishedPlaylist(label=label, s3_manifest_key=key) for label, key in given],
    )
    with pytest.raises(errors.InvalidArgument):
        await call(metadata.stub.PublishMedia, request)
    assert (await metadata.media(user, media_id)).status == media_pb2.MEDIA_STATUS_PROCESSING
