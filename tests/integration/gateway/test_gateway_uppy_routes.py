"""Companion's S3 contract on real services and storage, as the plugins of both versions call it."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from services.runtime.blobs import Blobs
from services.runtime.ids import new_media_id
from tests.integration.gateway.client import Json, Uploader, problem
from tests.integration.gateway.conftest import PART_BYTES

CONTENT = os.urandom(2 * PART_BYTES + 4_321)
PIECES = [CONTENT[start : start + PART_BYTES] for start in range(0, len(CONTENT), PART_BYTES)]
PAGE = {"Origin": "https://shop.example"}


class Uppy:
    """One user's plugin: an endpoint and nothing else, as version 6 has it."""

    def __init__(self, endpoint: str) -> None:
        self.http = httpx.AsyncClient(headers=PAGE, timeout=30)
        self.base = f"{endpoint}/s3"

    async def create(self) -> tuple[str, str]:
        """Begins an upload in parts; its URL, and its key as a query."""
        body = {"filename": "a.mp4", "type": "video/mp4", "metadata": {"name": "a.mp4", "relativePath": None}}
        response = await self.http.post(f"{self.base}/multipart", json=body)
        assert response.status_code == 200, response.text
        created = response.json()
        assert created["bucket"] == "originals"
        return f"{self.base}/multipart/{quote(created['uploadId'], safe='')}", created["key"]

    async def send(self, upload: str, key: str, numbers: list[int]) -> list[Json]:
        """Sends parts, and returns them as complete wants them."""
        sent = []
        for number in numbers:
            signed = (await self.http.get(f"{upload}/{number}", params={"key": key})).json()
            put = await self.http.put(signed["url"], content=PIECES[number - 1])
            assert put.status_code == 200, put.text
            assert "etag" in put.headers["access-control-expose-headers"].lower()
            sent.append({"PartNumber": number, "ETag": put.headers["etag"]})
        return sent


async def endpoint_of(user: Uploader) -> str:
    return str((await user.http.post("/v1/upload-tokens")).json()["endpoint"])


@pytest.fixture
async def uppy(alice: Uploader) -> AsyncIterator[Uppy]:
    plugin = Uppy(await endpoint_of(alice))
    async with plugin.http:
        yield plugin


def media_id_of(key: str) -> str:
    return key.split("/")[1]


async def test_a_file_goes_up_in_parts_and_on_after_a_break(uppy: Uppy, alice: Uploader, storage: Blobs) -> None:
    upload, key = await uppy.create()
    first = await uppy.send(upload, key, [1])
    listed = (await uppy.http.get(upload, params={"key": key})).json()
    assert listed == [{"PartNumber": 1, "ETag": first[0]["ETag"], "Size": PART_BYTES}]
    assert listed[0]["ETag"].startswith('"')

    batch = await uppy.http.get(f"{upload}/batch", params={"key": key, "partNumbers": "2,3"})
    assert sorted(batch.json()["presignedUrls"]) == ["2", "3"]
    rest = []
    for number, url in batch.json()["presignedUrls"].items():
        put = await uppy.http.put(url, content=PIECES[int(number) - 1])
        rest.append({"PartNumber": int(number), "ETag": put.headers["etag"].strip('"')})  # as version 6 has them

    for _ in range(2):
        completed = await uppy.http.post(f"{upload}/complete", params={"key": key}, json={"parts": listed + rest})
        assert completed.status_code == 200, completed.text
        media_id = media_id_of(key)
        location = f"{uppy.base.split('/uppy/')[0]}/watch/{media_id}"
        assert completed.json() == {"location": location, "key": key, "bucket": "originals"}
    media = await alice.media(media_id)
    assert (media["status"], media["size_bytes"], media["filename"]) == ("processing", len(CONTENT), "a.mp4")
    assert await storage.get("originals", key) == CONTENT
    assert problem(await uppy.http.delete(upload, params={"key": key}), 409, "upload-completed")["message"]


async def test_a_small_file_is_a_form_and_completes_by_itself(uppy: Uppy, alice: Uploader, storage: Blobs) -> None:
    query = {"filename": "a b.jpg", "type": "image/jpeg", "metadata[name]": "a b.jpg"}
    parameters = (await uppy.http.get(f"{uppy.base}/params", params=query)).json()
    assert parameters["method"] == "POST"
    assert parameters["fields"]["success_action_status"] == "201"
    assert parameters["expires"] > 0
    data = os.urandom(54_321)
    posted = await uppy.http.post(parameters["url"], data=parameters["fields"], files={"file": ("blob", data)})
    assert posted.status_code == 201, posted.text
    exposed = posted.headers["access-control-expose-headers"].lower()
    assert posted.headers["etag"]  # version 5 waits for ever without
    assert "etag" in exposed
    assert "location" in exposed

    media = await until(alice, parameters["media_id"], "processing")
    assert (media["size_bytes"], media["filename"]) == (len(data), "a b.jpg")
    shard = parameters["fields"]["key"].split("/")[0]
    assert await storage.get("originals", f"{shard}/{parameters['media_id']}/original") == data


async def test_a_form_cannot_be_sent_elsewhere(uppy: Uppy) -> None:
    parameters = (await uppy.http.get(f"{uppy.base}/params", params={"filename": "a"})).json()
    fields = parameters["fields"] | {"key": parameters["fields"]["key"].replace("incoming", "original")}
    posted = await uppy.http.post(parameters["url"], data=fields, files={"file": ("blob", b"x")})
    assert posted.status_code == 403


async def test_abort_answers_an_empty_object_each_time(uppy: Uppy, alice: Uploader) -> None:
    upload, key = await uppy.create()
    await uppy.send(upload, key, [1])
    for _ in range(2):
        aborted = await uppy.http.delete(upload, params={"key": key})
        assert (aborted.status_code, aborted.json()) == (200, {})
    assert (await alice.media(media_id_of(key)))["failure"]["reason"] == "upload_aborted"
    problem(await uppy.http.get(upload, params={"key": key}), 409, "upload-not-open")
    problem(await uppy.http.get(f"{upload}/1", params={"key": key}), 409, "upload-not-open")


async def test_key_and_upload_id_belong_to_their_owner_and_to_each_other(
    uppy: Uppy, alice: Uploader, bob: Uploader
) -> None:
    upload, key = await uppy.create()
    other_upload, other_key = await uppy.create()
    sent = await uppy.send(upload, key, [1])
    stranger = Uppy(await endpoint_of(bob))
    async with stranger.http:
        own_upload, own_key = await stranger.create()
        tried: list[tuple[Uppy, str, str]] = [
            (stranger, upload.replace(uppy.base, stranger.base), key),
            (stranger, own_upload, key),
            (stranger, upload.replace(uppy.base, stranger.base), own_key),
            (uppy, other_upload, key),
            (uppy, upload, other_key),
            (uppy, upload, f"{key.split('/')[0]}/{new_media_id('alice')}/original"),
            (uppy, upload, key.replace("original", "incoming")),
            (uppy, f"{uppy.base}/multipart/nonsense", key),
        ]
        for plugin, url, named in tried:
            query: dict[str, Any] = {"params": {"key": named}}
            for answer in (
                await plugin.http.get(url, **query),
                await plugin.http.get(f"{url}/1", **query),
                await plugin.http.get(f"{url}/batch", params={"key": named, "partNumbers": "1"}),
                await plugin.http.post(f"{url}/complete", **query, json={"parts": sent}),
                await plugin.http.delete(url, **query),
            ):
                body = problem(answer, 404, "media-not-found")
                assert body["detail"] == body["message"] == "There is no such media."
    assert (await alice.media(media_id_of(key)))["status"] == "uploading"
    assert [part["PartNumber"] for part in (await uppy.http.get(upload, params={"key": key})).json()] == [1]


async def test_wrong_parts_are_told_and_can_be_mended(uppy: Uppy) -> None:
    upload, key = await uppy.create()
    sent = await uppy.send(upload, key, [1, 2, 3])
    complete = f"{upload}/complete"
    for wrong, slug in (
        ([{"PartNumber": 1, "ETag": "0" * 32}, *sent[1:]], "parts-differ"),
        (sent[1:], "parts-incomplete"),
    ):
        refused = await uppy.http.post(complete, params={"key": key}, json={"parts": wrong})
        assert problem(refused, 422, slug)["message"]
    assert (await uppy.http.post(complete, params={"key": key}, json={"parts": sent})).status_code == 200


async def test_pages_of_our_own_use_the_cookie(url: str, alice: Uploader) -> None:
    response = await alice.http.post("/v1/upload-tokens", json={"cookie": True})
    cookie = response.headers["set-cookie"].split(";")[0]
    headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as page:
        query = {"filename": "a.jpg", "type": "image/jpeg"}
        begun = await page.get("/uppy/s3/params", params=query)
        assert begun.status_code == 200
        for site in ("same-site", "cross-site", "none"):
            refused = await page.get("/uppy/s3/params", params=query, headers={"Sec-Fetch-Site": site})
            problem(refused, 401, "cookie-cross-site")
        assert (await page.get("/v1/media")).status_code == 401
    assert (await alice.media(begun.json()["media_id"]))["status"] == "uploading"


async def test_what_is_no_media_is_refused_in_words(uppy: Uppy) -> None:
    refused = await uppy.http.get(f"{uppy.base}/params", params={"filename": "a.txt", "type": "text/plain"})
    assert problem(refused, 422, "content-type-unsupported")["message"] == "Only image/* and video/* files are taken."
    refused = await uppy.http.post(f"{uppy.base}/multipart", json={"filename": "x" * 256, "type": "image/png"})
    assert "255" in problem(refused, 422, "filename-invalid")["message"]


async def until(user: Uploader, media_id: str, status: str) -> Json:
    async with asyncio.timeout(20):
        while True:
            media = await user.media(media_id)
            if media["status"] == status:
                return media
            await asyncio.sleep(0.1)
