"""The whole suite, as separate processes, and media that went all the way through it."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import millrace
from deploy.local.stack import Stack
from tests.env import Env


@dataclass(frozen=True, slots=True)
class Journey:
    """One media's way: what was sent, what came of it, and what a stranger saw at the edge meanwhile."""

    source: Path
    media: millrace.Media
    traceparent: str
    early_answers: frozenset[int]
    """Statuses of the edge for guesses at the manifest's URL while the media was not yet published."""
    early_urls: frozenset[str]
    """URLs at the edge that the API told its owner while the media was not yet published."""


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Every server and every service of ours, each a process."""
    with Stack(tmp_path_factory.mktemp("suite"), overrides={"MILLRACE_TASK_LEASE_S": "6"}) as stack:
        yield stack


@pytest.fixture(scope="session")
def env(suite: Stack) -> Env:
    """Where all of it answers."""
    return suite.settings


@pytest.fixture(scope="session")
async def client(suite: Stack, env: Env) -> AsyncIterator[millrace.Client]:
    """A client of one user."""
    async with millrace.Client(env["MILLRACE_GATEWAY_URL"], suite.token("alice")) as connected:
        yield connected


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of sample media, made once for a checkout."""
    folder = Path(__file__).parents[2] / "samples"
    subprocess.run([sys.executable, "-m", "deploy.samples", str(folder)], check=True)
    return folder


@pytest.fixture(scope="session")
async def video(client: millrace.Client, env: Env, samples: Path) -> Journey:
    """The 1080p sample, published."""
    return await travel(client, env, samples / "millrace-1080p30.mp4")


@pytest.fixture(scope="session")
async def image(client: millrace.Client, env: Env, samples: Path) -> Journey:
    """The 4000 px photo, published."""
    return await travel(client, env, samples / "photo-4000.jpg")


async def travel(client: millrace.Client, env: Env, source: Path) -> Journey:
    """Uploads a file and waits for its end, guessing at the edge all the while."""
    traceparent = millrace.new_traceparent()
    uploaded = await millrace.upload(client, source, traceparent=traceparent)
    early_answers: set[int] = set()
    early_urls: set[str] = set()
    ends_at = time.monotonic() + 180
    async with httpx.AsyncClient() as stranger:
        while True:
            guessed = {(await stranger.get(url)).status_code for url in _guesses(env, uploaded.media_id)}
            media = await client.get(uploaded.media_id)
            if media.status.is_final:
                break
            early_answers |= guessed
            early_urls |= set(_edge_urls(env, media.document))
            assert time.monotonic() < ends_at, f"still {media.status} after three minutes"
            await asyncio.sleep(0.1)
    assert media.status is millrace.Status.PUBLISHED, media.failure
    return Journey(source, media, traceparent, frozenset(early_answers), frozenset(early_urls))


def _guesses(env: Env, media_id: str) -> list[str]:
    """What somebody who knows the layout and the media's id, but not its token, would try."""
    shard = media_id.replace("-", "")[13:16]
    folder = f"{env['MILLRACE_EDGE_URL']}/{shard}/{media_id}/1"
    return [f"{folder}/main.m3u8", f"{folder}/", f"{folder}/1080p/a1/playlist.m3u8", f"{folder}/image/a1/1200.jpg"]


def _edge_urls(env: Env, document: object) -> Iterator[str]:
    if isinstance(document, dict):
        for value in document.values():
            yield from _edge_urls(env, value)
    elif isinstance(document, list | tuple):
        for value in document:
            yield from _edge_urls(env, value)
    elif isinstance(document, str) and document.startswith(env["MILLRACE_EDGE_URL"]):
        yield document


@pytest.fixture(scope="session")
def samples_clip(samples: Path) -> bytes:
    """The short clip."""
    return (samples / "clip-360p.mp4").read_bytes()
