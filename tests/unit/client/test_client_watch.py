import json
from typing import Any

import httpx
import pytest

from millrace import MediaFailed, NotAuthenticated, NotFound, Update, wait_until_published
from tests.unit.client.fakes import MEDIA_ID, FakeService, media_json, problem


def event(name: str, body: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(body)}\n\n".encode()


def progress(fraction: float) -> bytes:
    return event("progress", {"fraction": fraction, "tasks": [{"label": "720p", "fraction": fraction}]})


async def updates(service: FakeService) -> list[Update]:
    async with service.client() as client:
        return [update async for update in client.watch(MEDIA_ID)]


def fractions(seen: list[Update]) -> list[float]:
    return [update.fraction for update in seen]


async def test_follows_the_stream_until_published() -> None:
    service = FakeService(
        streams=[
            [event("state", media_json()), b": heartbeat\n\n", progress(0.5), event("state", media_json("published"))]
        ]
    )
    seen = await updates(service)
    assert fractions(seen) == [0.0, 0.0, 0.5, 1.0]
    assert seen[2].tasks[0].label == "720p"
    assert seen[-1].media.playback is not None
    assert len(service.requests) == 2


async def test_a_broken_stream_is_opened_again_and_the_fraction_never_falls() -> None:
    service = FakeService(
        streams=[
            [progress(0.6), httpx.ReadError("reset")],
            [progress(0.3), progress(0.7)],  # ends without a word, as when the gateway is restarted
            [event("state", media_json("published"))],
        ]
    )
    seen = await updates(service)
    assert fractions(seen) == sorted(fractions(seen))
    assert 0.7 in fractions(seen)
    assert seen[-1].media.status == "published"


async def test_polls_where_there_is_no_stream() -> None:
    service = FakeService(statuses=[media_json(), media_json(progress=0.4), media_json("published")])
    assert fractions(await updates(service)) == [0.0, 0.4, 1.0]


async def test_events_of_another_kind_change_nothing() -> None:
    service = FakeService(streams=[[event("news", {}), event("state", media_json("published"))]])
    assert (await updates(service))[-1].media.status == "published"


async def test_a_final_media_needs_no_stream() -> None:
    service = FakeService(statuses=[media_json("published")])
    assert fractions(await updates(service)) == [1.0]
    assert len(service.requests) == 1


async def test_an_unknown_media_is_not_found() -> None:
    service = FakeService()
    service.faults["GET /v1/media/ID"] = [problem(404, "not-found")]
    with pytest.raises(NotFound):
        await updates(service)
    async with service.client() as client:
        with pytest.raises(NotFound):
            await client.get("../../etc/passwd")


async def test_a_token_that_ends_meanwhile_is_said_so() -> None:
    service = FakeService()
    service.faults["GET /v1/media/ID/events"] = [problem(401, "unauthenticated")]
    with pytest.raises(NotAuthenticated):
        await updates(service)


async def test_waiting_for_a_media_that_fails_raises_its_reason() -> None:
    service = FakeService(streams=[[event("state", media_json("failed"))]])
    async with service.client() as client:
        with pytest.raises(MediaFailed, match=r"This is no video\.") as caught:
            await wait_until_published(client, MEDIA_ID)
    assert caught.value.reason == "unsupported_format"


async def test_lists_every_page() -> None:
    service = FakeService()
    service.faults["GET /v1/media"] = [
        httpx.Response(200, json={"media": [media_json(), media_json()], "next_page_token": "next"}),
        httpx.Response(200, json={"media": [media_json()], "next_page_token": ""}),
    ]
    async with service.client() as client:
        assert len([media async for media in client.list(page_size=2)]) == 3
    assert [request.url.params.get("page_token") for request in service.requests] == [None, "next"]
