"""One subscription, many watchers: woken, bounded, and never told of another's media."""

import asyncio

import pytest

from gateway.feed import Feed
from media.v1 import events_pb2
from services.runtime.errors import ResourceExhausted


def progress(media_id: str, task_id: str, fraction: float) -> bytes:
    return events_pb2.TaskProgress(
        media_id=media_id, task_id=task_id, label="720p", fraction=fraction, cost_share=0.5
    ).SerializeToString()


async def test_a_watcher_sees_the_latest_of_each_task_after_any_burst() -> None:
    feed = Feed(10)
    with feed.watch("m1") as watcher:
        for step in range(1_000):
            feed.take("progress.m1", progress("m1", f"t{step % 2}", step / 1_000))
        assert not await watcher.wait(1)
    assert [(one.task_id, one.fraction) for one in feed.latest("m1")] == [("t0", 0.998), ("t1", 0.999)]


async def test_a_state_change_wakes_and_says_so() -> None:
    feed = Feed(10)
    with feed.watch("m1") as watcher:
        feed.take("media.published", events_pb2.MediaPublished(media_id="m1").SerializeToString())
        feed.take("progress.m1", progress("m1", "t", 1.0))
        assert await watcher.wait(1)
        assert not await watcher.wait(0.01)


async def test_nobody_is_woken_for_anothers_media() -> None:
    feed = Feed(10)
    with feed.watch("m1") as watcher:
        feed.take("media.failed", events_pb2.MediaFailed(media_id="m2").SerializeToString())
        feed.take("progress.m2", progress("m2", "t", 1.0))
        assert not await watcher.wait(0.01)
    assert not feed.latest("m1")


async def test_those_who_come_later_find_what_was_said_until_it_is_final() -> None:
    feed = Feed(10)
    feed.take("progress.m1", progress("m1", "t", 0.5))
    assert [one.fraction for one in feed.latest("m1")] == [0.5]
    feed.take("media.published", events_pb2.MediaPublished(media_id="m1").SerializeToString())
    assert not feed.latest("m1")


async def test_memory_is_bounded_over_media_and_watchers() -> None:
    feed = Feed(1)
    for number in range(6_000):
        feed.take("progress.x", progress(f"m{number}", "t", 0.5))
    assert not feed.latest("m0")
    assert feed.latest("m5999")
    with feed.watch("m1"), pytest.raises(ResourceExhausted), feed.watch("m2"):
        pass
    with feed.watch("m2"):
        pass


async def test_what_does_not_parse_is_passed_over() -> None:
    feed = Feed(1)
    feed.take("progress.m1", b"\xff\xff\xff")
    feed.take("media.archived", b"from a later version")


async def test_everyone_is_woken_at_the_end() -> None:
    feed = Feed(2)
    with feed.watch("m1") as one, feed.watch("m2") as other:
        feed.wake_all()
        async with asyncio.timeout(0.5):
            await asyncio.gather(one.wait(60), other.wait(60))
