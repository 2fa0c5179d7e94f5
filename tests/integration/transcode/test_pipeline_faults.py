"""What happens to workers, and that a media does not mind."""

import asyncio
import signal
import time
from pathlib import Path

import httpx

from media.v1 import events_pb2, media_pb2
from services.transcode import app as transcode
from tests.env import Env
from tests.integration.transcode.harness import Line, Pipeline, serving, worker_process

FIRST_CHUNK, LAST_CHUNK = "video-001", "video-002"
ONE_BY_ONE = {"MILLRACE_TRANSCODE_VIDEO_SLOTS": "1"}


async def test_a_killed_worker_costs_time_and_no_media(
    pipeline: Pipeline, env: Env, long_clip: bytes, tmp_path: Path, undisturbed: dict[str, list[bytes]]
) -> None:
    media_id = await pipeline.begin(long_clip, "video/mp4")
    async with worker_process({**env, **ONE_BY_ONE}, tmp_path / "first.log") as first:
        await pipeline.advanced(media_id, LAST_CHUNK)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        done = await _done(pipeline, media_id)
        written = await _written(pipeline, media_id, done)
    async with serving(env, transcode.serve):
        media = await pipeline.finished(media_id)
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    await _assert_what_was_done_was_left_alone(pipeline, media_id, done, written)
    assert await pipeline.checksums(media_id) == undisturbed


async def test_a_zombie_changes_nothing(
    pipeline: Pipeline, env: Env, long_clip: bytes, tmp_path: Path, undisturbed: dict[str, list[bytes]]
) -> None:
    media_id = await pipeline.begin(long_clip, "video/mp4")
    log = tmp_path / "zombie.log"
    async with worker_process({**env, **ONE_BY_ONE}, log) as zombie:
        await pipeline.advanced(media_id, LAST_CHUNK)
        zombie.send_signal(signal.SIGSTOP)
        done = await _done(pipeline, media_id)
        written = await _written(pipeline, media_id, done)
        async with serving(env, transcode.serve):
            media = await pipeline.finished(media_id)
            published = await _served(pipeline, env, media_id)
            zombie.send_signal(signal.SIGCONT)
            await _until_it_says(log, "attempt_overtaken")
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    await _assert_what_was_done_was_left_alone(pipeline, media_id, done, written)
    assert await _served(pipeline, env, media_id) == published
    assert (await pipeline.media(media_id)).published_at == media.published_at
    assert await pipeline.checksums(media_id) == undisturbed


async def test_a_stopping_worker_gives_its_task_back_at_once(
    pipeline: Pipeline, env: Env, long_clip: bytes, tmp_path: Path
) -> None:
    env = {**env, "MILLRACE_TASK_LEASE_S": "300", "MILLRACE_TRANSCODE_GRACE_S": "0"}
    media_id = await pipeline.begin(long_clip, "video/mp4")
    async with worker_process(env, tmp_path / "first.log") as first:
        await pipeline.advanced(media_id, FIRST_CHUNK)
        first.terminate()
        assert await asyncio.wait_for(first.wait(), 15) == 0
    stopped_at = time.monotonic()
    async with serving(env, transcode.serve):
        media = await pipeline.finished(media_id)
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    assert time.monotonic() - stopped_at < 60, "the lease was waited for"
    assert (await pipeline.attempts(media_id))[FIRST_CHUNK] == 2


async def test_a_worker_finishes_within_its_grace(
    pipeline: Pipeline, env: Env, long_clip: bytes, tmp_path: Path
) -> None:
    env = {**env, "MILLRACE_TRANSCODE_GRACE_S": "60"}
    media_id = await pipeline.begin(long_clip, "video/mp4")
    async with worker_process(env, tmp_path / "first.log") as first:
        await pipeline.advanced(media_id, FIRST_CHUNK)
        first.terminate()
        assert await asyncio.wait_for(first.wait(), 90) == 0
    async with serving(env, transcode.serve):
        await pipeline.finished(media_id)
    assert (await pipeline.attempts(media_id))[FIRST_CHUNK] == 1


async def test_storage_that_is_away_for_seconds_costs_no_attempt(
    pipeline: Pipeline, env: Env, long_clip: bytes
) -> None:
    line = Line(env["MILLRACE_S3_ENDPOINT_URL"].removeprefix("http://"))
    await line.mend()
    media_id = await pipeline.begin(long_clip, "video/mp4")
    # Whoever waits for storage gives a sign of life every four seconds, which a lease must be longer than.
    env = {**env, "MILLRACE_S3_ENDPOINT_URL": f"http://{line.address}", "MILLRACE_TASK_LEASE_S": "20"}
    async with serving(env, transcode.serve):
        await pipeline.advanced(media_id, FIRST_CHUNK)
        line.cut()
        await asyncio.sleep(5)
        assert (await pipeline.media(media_id)).status == media_pb2.MEDIA_STATUS_PROCESSING
        await line.mend()
        media = await pipeline.finished(media_id)
    line.cut()
    assert media.status == media_pb2.MEDIA_STATUS_PUBLISHED, media.failure
    assert set((await pipeline.attempts(media_id)).values()) == {1}


async def test_late_copies_of_a_message_do_nothing(pipeline: Pipeline, env: Env, photo: bytes) -> None:
    async with serving(env, transcode.serve):
        media_id = await pipeline.begin(photo, "image/jpeg")
        before = await pipeline.finished(media_id)
        [task] = before.tasks
        for number in range(20):
            ready = events_pb2.TaskReady(task_id=task.task_id, media_id=media_id, generation=1)
            await pipeline.broker.publish(
                "tasks.image", ready.SerializeToString(), message_id=f"copy-{media_id}-{number}"
            )
        encoded = events_pb2.MediaEncoded(media_id=media_id, generation=1)
        await pipeline.broker.publish("media.encoded", encoded.SerializeToString(), message_id=f"again-{media_id}")
        await asyncio.sleep(1)  # nothing tells when nothing happens
        assert await pipeline.media(media_id) == before
        assert (await pipeline.attempts(media_id))["image"] == 1


async def _done(pipeline: Pipeline, media_id: str) -> set[str]:
    """Labels of the tasks whose results are recorded."""
    return {task.label for task in (await pipeline.media(media_id)).tasks if task.done}


async def _written(pipeline: Pipeline, media_id: str, labels: set[str]) -> set[str]:
    """Keys of all that these tasks ever wrote, each attempt into a folder of its own: playlists are not theirs."""
    blobs = await pipeline.storage.list("delivery", "")
    keys = [blob.key.split("/") for blob in blobs if not blob.key.endswith(".m3u8")]
    return {"/".join(parts) for parts in keys if media_id in parts and labels.intersection(parts)}


async def _assert_what_was_done_was_left_alone(
    pipeline: Pipeline, media_id: str, done: set[str], written: set[str]
) -> None:
    """The worker was lost in its last chunk; what had been `written` of all that was `done` is all that there is."""
    assert FIRST_CHUNK in done
    assert LAST_CHUNK not in done
    attempts = await pipeline.attempts(media_id)
    assert {label: attempts[label] for label in done} == dict.fromkeys(done, 1)
    assert attempts[LAST_CHUNK] == 2
    assert len(written) > len(done)
    assert await _written(pipeline, media_id, done) == written


async def _until_it_says(log: Path, words: str) -> None:
    async with asyncio.timeout(30):
        while True:
            if words in await asyncio.to_thread(log.read_text):
                return
            await asyncio.sleep(0.2)


async def _served(pipeline: Pipeline, env: Env, media_id: str) -> dict[str, bytes]:
    """Every object of a publication as storage has it, and the multivariant playlist."""
    publication = await pipeline.publication(media_id)
    media = await pipeline.media(media_id)
    keys = [segment.s3_key for track in publication.tracks for segment in track.segments]
    keys += [track.init_s3_key for track in publication.tracks]
    keys += [still.thumbnail.s3_key for still in publication.stills]
    async with httpx.AsyncClient() as viewer:
        served = await viewer.get(f"{env['MILLRACE_EDGE_URL']}/{media.s3_manifest_key}")
    return {
        "edge": served.content,
        **{key: await pipeline.storage.get("delivery", key) for key in (*keys, media.s3_manifest_key)},
    }
