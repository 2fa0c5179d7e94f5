"""What a client says of its file, and the bytes do not bear out: a wrong type, a wrong checksum."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from deploy.samples.clip import Clip, write_clip
from tests.env import Env
from tests.integration.gateway.client import Uploader

pytestmark = pytest.mark.journey

Json = dict[str, Any]
_FINAL = {"published", "failed"}


@pytest.fixture(scope="module")
async def alice(suite: Stack, env: Env) -> AsyncIterator[Uploader]:
    """A client that claims whatever it likes."""
    async with Uploader(env["MILLRACE_GATEWAY_URL"], suite.token("alice")) as uploader:
        yield uploader


@pytest.fixture(scope="module")
def photo(samples: Path) -> bytes:
    return (samples / "photo-4000.jpg").read_bytes()


@pytest.mark.parametrize("claimed", ["video/mp4", "application/octet-stream"])
async def test_a_photo_is_published_as_one_whatever_was_claimed(alice: Uploader, photo: bytes, claimed: str) -> None:
    begun = await alice.initiate(photo, content_type=claimed)
    accepted = await alice.complete(begun["media_id"], await alice.put(begun, photo))
    assert accepted.status_code == 202, accepted.text
    media = await _finished(alice, begun["media_id"])
    assert media["status"] == "published", media["failure"]
    assert media["type"] == "image"
    assert media["playback"]["manifest_url"] is None
    thumbnails = media["playback"]["thumbnails"]
    assert {each["size_px"] for each in thumbnails} == {150, 600, 1200}
    async with httpx.AsyncClient() as viewer:
        answer = await viewer.get(thumbnails[0]["url"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")


async def test_a_video_is_published_as_one_though_an_image_was_claimed(alice: Uploader, tmp_path: Path) -> None:
    clip = Clip("small.mp4", 320, 180, 30, 60, 30, 28)
    write_clip(clip, tmp_path / clip.name)
    data = (tmp_path / clip.name).read_bytes()
    begun = await alice.initiate(data, content_type="image/jpeg")
    accepted = await alice.complete(begun["media_id"], await alice.put(begun, data))
    assert accepted.status_code == 202, accepted.text
    media = await _finished(alice, begun["media_id"])
    assert media["status"] == "published", media["failure"]
    assert media["type"] == "video"
    assert media["playback"]["manifest_url"].endswith("/main.m3u8")


@pytest.mark.parametrize("is_right", [True, False])
async def test_a_sha256_that_storage_cannot_verify_is_verified_all_the_same(
    alice: Uploader, photo: bytes, is_right: bool
) -> None:
    """Every part passes storage's own check; whether the whole is what was announced, only reading all of it tells."""
    data = photo + bytes(11_000_000 - len(photo))
    announced = _sha256(data if is_right else data[:-1])
    begun = await alice.initiate(data, content_type="image/jpeg", checksum_algorithm="SHA256", checksum=announced)
    assert begun["kind"] == "multipart"
    parts = await _put(alice, begun, data)
    accepted = await alice.complete(begun["media_id"], parts)
    assert accepted.status_code == 202, accepted.text
    assert accepted.json()["checksum"] is None, "a checksum is shown before it is verified"
    media = await _finished(alice, begun["media_id"])
    if is_right:
        assert media["status"] == "published", media["failure"]
        assert media["checksum"] == {"algorithm": "SHA256", "value": announced}
    else:
        assert (media["status"], media["failure"]["reason"]) == ("failed", "checksum_mismatch")
        assert _sha256(data) in media["failure"]["message"]
        assert media["checksum"] is None


async def _put(alice: Uploader, begun: Json, data: bytes) -> list[Json]:
    """Sends every part with its checksum."""
    size = begun["part_size_bytes"]
    pieces = [data[offset : offset + size] for offset in range(0, len(data), size)]
    numbers = list(range(1, len(pieces) + 1))
    checksums = [_sha256(piece) for piece in pieces]
    signed = await alice.http.post(
        f"/v1/uploads/{begun['media_id']}/sign-parts", json={"part_numbers": numbers, "checksums": checksums}
    )
    assert signed.status_code == 200, signed.text
    sent = []
    for part, piece, checksum in zip(signed.json()["parts"], pieces, checksums, strict=True):
        answer = await alice.storage.put(part["url"], content=piece, headers=part["headers"])
        assert answer.status_code == 200, answer.text
        sent.append({"part_number": part["part_number"], "etag": answer.headers["etag"], "checksum": checksum})
    return sent


async def _finished(alice: Uploader, media_id: str) -> Json:
    async with asyncio.timeout(180):
        while (media := await alice.media(media_id))["status"] not in _FINAL:  # noqa: ASYNC110 only asking tells
            await asyncio.sleep(0.2)
        return media


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
