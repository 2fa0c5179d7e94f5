"""The event stream and the list, on real servers."""

import asyncio
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from gateway import app as gateway
from media.v1 import events_pb2
from services.runtime.bus import Bus
from services.runtime.ids import new_media_id
from tests.env import Env
from tests.integration.gateway.client import Uploader
from tests.integration.gateway.conftest import serving, until_ready


async def announce(broker: Bus, media_id: str, label: str, fraction: float, cost_share: float) -> None:
    said = events_pb2.TaskProgress(
        media_id=media_id, task_id=f"task-{label}", label=label, fraction=fraction, cost_share=cost_share
    )
    await broker.announce(f"progress.{media_id}", said.SerializeToString())


async def test_the_stream_tells_progress_and_ends_when_it_is_final(alice: Uploader, broker: Bus) -> None:
    begun = await alice.initiate(b"small")
    media_id = begun["media_id"]
    heard: list[tuple[str, dict[str, Any]]] = []
    begun_to_hear = asyncio.Event()

    async def follow() -> None:
        async for event in alice.events(media_id):
            heard.append(event)
            begun_to_hear.set()

    following = asyncio.create_task(follow())
    async with asyncio.timeout(20):
        await begun_to_hear.wait()
        for fraction in (0.5, 0.1, 0.8):
            await announce(broker, media_id, "720p", fraction, 0.5)
            await announce(broker, media_id, "audio", fraction / 2, 0.5)
            await asyncio.sleep(0.3)
        await alice.abort(media_id)
        await following
    names = [name for name, _ in heard]
    assert names[0] == names[-1] == "state"
    assert heard[0][1]["status"] == "uploading"
    assert heard[-1][1]["status"] == "failed"
    assert heard[-1][1]["failure"]["reason"] == "upload_aborted"
    fractions = [body["fraction"] for name, body in heard if name == "progress"]
    assert len(fractions) >= 2
    assert fractions == sorted(fractions)
    last = [body for name, body in heard if name == "progress"][-1]
    assert last["tasks"] == [], "nobody knows the plan"


async def test_an_event_wakes_the_stream_at_once(alice: Uploader) -> None:
    begun = await alice.initiate(b"small")
    async with aclosing(alice.events(begun["media_id"])) as events:  # type: ignore[type-var]
        await anext(events)
        await asyncio.sleep(0.5)  # its first look at the table is over
        began_s = asyncio.get_running_loop().time()
        await alice.abort(begun["media_id"])
        _, body = await anext(events)
        assert body["status"] == "failed"
        assert asyncio.get_running_loop().time() - began_s < 2


async def test_a_stream_ends_when_its_process_is_told_to_stop(
    env: Env, alice: Uploader, servers: Stack, unused_tcp_port: int
) -> None:
    begun = await alice.initiate(b"small")
    address = f"127.0.0.1:{unused_tcp_port}"
    env = {**env, "MILLRACE_GATEWAY_LISTEN": address, "MILLRACE_GATEWAY_URL": f"http://{address}"}
    async with (
        asyncio.timeout(20),
        serving(env, gateway.serve) as stop,
        Uploader(f"http://{address}", servers.token("alice")) as one,
    ):
        await until_ready(f"http://{address}")
        names = []
        began_s = 0.0
        async for name, _ in one.events(begun["media_id"]):
            names.append(name)
            stop.set()
            began_s = asyncio.get_running_loop().time()
        assert names == ["state"]
        assert asyncio.get_running_loop().time() - began_s < 3


async def test_the_list_is_newest_first_in_pages_and_the_owners_alone(
    url: str, servers: Stack, alice: Uploader
) -> None:
    async with Uploader(url, servers.token("lister")) as lister:
        begun = [(await lister.initiate(b"x"))["media_id"] for _ in range(5)]
        await lister.abort(begun[0])
        pages, token = [], ""
        while True:
            page = (await lister.http.get("/v1/media", params={"page_size": 2, "page_token": token})).json()
            pages.append([one["media_id"] for one in page["media"]])
            if not (token := page["next_page_token"]):
                break
        assert [len(page) for page in pages[:2]] == [2, 2]
        assert [media_id for page in pages for media_id in page] == begun[::-1]
        failed = (await lister.http.get("/v1/media", params={"status": "failed"})).json()["media"]
        assert [one["media_id"] for one in failed] == [begun[0]]
        stolen = await alice.http.get("/v1/media", params={"page_token": "nonsense"})
        assert stolen.status_code == 422


@pytest.mark.parametrize("path", ["/v1/media", f"/v1/media/{new_media_id('alice')}/events"])
async def test_strangers_hear_nothing(url: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=url) as stranger:
        response = await stranger.get(path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
