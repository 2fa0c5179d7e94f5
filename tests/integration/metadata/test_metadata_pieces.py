"""Tracks that several tasks make in pieces: joined once the last piece is there, whatever the order and the repeats."""

import asyncio
import itertools

import pytest

from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime import errors
from tests.integration.metadata.calls import Metadata, track_of

CHUNKS = ("video-001", "video-002", "video-003")


def pieces_of(claimed: pb.ClaimTaskResponse, **changed: int) -> media_pb2.TaskResult:
    """A chunk's pieces of two renditions."""
    folder = f"{claimed.task.delivery_prefix}/{claimed.task.label}/a{claimed.attempt}"
    pieces = [track_of(label, f"{folder}/{label}") for label in ("720p", "360p")]
    for piece in pieces:
        piece.init_sha256 = b"the same in all"
        for field, value in changed.items():
            setattr(piece, field, value)
    return media_pb2.TaskResult(pieces=media_pb2.Pieces(items=pieces))


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
async def test_pieces_are_joined_in_order_of_time_whatever_came_first(
    metadata: Metadata, user: str, order: tuple[int, ...]
) -> None:
    media_id, task_ids = await metadata.planned(user, (*CHUNKS, "audio"))
    await metadata.complete(await metadata.claim(media_id, task_ids[3]))
    for index in order:
        claimed = await metadata.claim(media_id, task_ids[index])
        left = await asyncio.gather(*(metadata.complete(claimed, pieces_of(claimed)) for _ in range(3)))
        assert len(set(left)) == 1
    publication = await metadata.publication(media_id)
    assert [track.label for track in publication.tracks] == ["720p", "360p", "audio"]
    for track in publication.tracks[:2]:
        folders = [segment.s3_key.removeprefix(publication.delivery_prefix).split("/")[1] for segment in track.segments]
        assert folders == [chunk for chunk in CHUNKS for _ in range(3)]
        assert track.init_s3_key == f"{publication.delivery_prefix}/video-001/a1/{track.label}/init.mp4"
        assert track.average_bps == track.peak_bps == 2_000_000
    await metadata.publish(publication, media_id)
    media = await metadata.media(user, media_id)
    assert [rendition.resolution for rendition in media.renditions] == ["720p", "360p", "audio"]
    assert [rendition.duration_secs for rendition in media.renditions] == [36, 36, 12]
    assert media.renditions[0].bitrate_kbps == 2_000


@pytest.mark.parametrize("changed", [{"timescale": 48_000}, {"width_px": 1_918}])
async def test_pieces_that_do_not_fit_are_refused(metadata: Metadata, user: str, changed: dict[str, int]) -> None:
    media_id, task_ids = await metadata.planned(user, CHUNKS[:2])
    first, second = [await metadata.claim(media_id, task_id) for task_id in task_ids]
    assert await metadata.complete(first, pieces_of(first)) == 1
    with pytest.raises(errors.InvalidArgument) as caught:
        await metadata.complete(second, pieces_of(second, **changed))
    assert caught.value.reason == "PIECES_DIFFER"
    assert await metadata.complete(second, pieces_of(second)) == 0


async def test_a_task_makes_one_piece_of_a_track(metadata: Metadata, user: str) -> None:
    media_id, (task_id,) = await metadata.planned(user, CHUNKS[:1])
    claimed = await metadata.claim(media_id, task_id)
    twice = pieces_of(claimed)
    twice.pieces.items.add().CopyFrom(twice.pieces.items[0])
    for result in (twice, media_pb2.TaskResult(pieces=media_pb2.Pieces())):
        with pytest.raises(errors.InvalidArgument):
            await metadata.complete(claimed, result)


async def test_a_piece_is_no_output_that_another_task_made_whole(metadata: Metadata, user: str) -> None:
    media_id, (whole, chunk) = await metadata.planned(user, ("720p", "video-001"))
    await metadata.complete(await metadata.claim(media_id, whole))
    claimed = await metadata.claim(media_id, chunk)
    with pytest.raises(errors.InvalidArgument) as caught:
        await metadata.complete(claimed, pieces_of(claimed))
    assert caught.value.reason == "OUTPUT_REPEATED"


async def test_each_codec_has_its_renditions_h264_first_and_mpeg_ts_needs_no_initialisation(
    metadata: Metadata, user: str
) -> None:
    labels = ("video-001", "video-002", "video-001-av1", "video-002-av1", "audio")
    media_id, task_ids = await metadata.planned(user, labels)
    for label, task_id in zip(labels, task_ids, strict=True):
        claimed = await metadata.claim(media_id, task_id)
        folder = f"{claimed.task.delivery_prefix}/{label}/a1"
        is_av1 = label.endswith("av1")
        track = track_of("audio" if label == "audio" else f"720p{'-av1' * is_av1}", folder)
        track.codecs = "av01.0.05M.08" if is_av1 else "avc1.64001f"
        track.init_s3_key, track.init_size_bytes = "", 0
        pieces = media_pb2.TaskResult(pieces=media_pb2.Pieces(items=[track]))
        await metadata.complete(claimed, media_pb2.TaskResult(track=track) if label == "audio" else pieces)
    publication = await metadata.publication(media_id)
    assert [(track.label, track.init_s3_key, len(track.segments)) for track in publication.tracks] == [
        ("720p", "", 6),
        ("720p-av1", "", 6),
        ("audio", "", 3),
    ]
    await metadata.publish(publication, media_id)
    renditions = (await metadata.media(user, media_id)).renditions
    assert [(one.resolution, one.codecs) for one in renditions[:2]] == [
        ("720p", "avc1.64001f"),
        ("720p-av1", "av01.0.05M.08"),
    ]
