"""A process of ours is killed while a media is on its way: the media is published all the same."""

import asyncio
from pathlib import Path

import pytest

import millrace
from deploy.local.stack import Stack

pytestmark = pytest.mark.journey


async def until(client: millrace.Client, media_id: str, *, within_s: float) -> millrace.Media:
    """Waits for the end, whoever does not answer in between."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                media = await client.get(media_id)
            except millrace.MillraceError:
                media = None
            if media and media.status.is_final:
                return media
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("service", ["metadata", "upload", "transcode", "manifest", "gateway"])
@pytest.mark.parametrize("after_s", [0.0, 1.0])
async def test_kill_9_of_any_service(
    suite: Stack, client: millrace.Client, samples: Path, service: str, after_s: float
) -> None:
    uploaded = await millrace.upload(client, samples / "clip-360p.mp4")
    await asyncio.sleep(after_s)
    suite.kill(service)
    media = await until(client, uploaded.media_id, within_s=90)
    assert media.status is millrace.Status.PUBLISHED, media.failure
    await asyncio.to_thread(suite.wait_ready, service)


async def test_kill_9_while_parts_are_sent(suite: Stack, client: millrace.Client, samples: Path) -> None:
    upload = asyncio.create_task(millrace.upload(client, samples / "millrace-1080p30.mp4"))
    await asyncio.sleep(0.05)
    suite.kill("upload")
    media = await until(client, (await upload).media_id, within_s=120)
    assert media.status is millrace.Status.PUBLISHED, media.failure
