"""What a client does, call by call, with nothing of the client library in between."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import httpx

Json = dict[str, Any]


def problem(response: httpx.Response, status: int, slug: str) -> Json:
    """The problem that an answer must be."""
    body: Json = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"https://millrace.dev/problems/{slug}"
    return body


class Uploader:
    """One user with a token, at the gateway and at storage."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self.storage = httpx.AsyncClient(timeout=30)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.storage.aclose()

    async def initiate(
        self, data: bytes, *, content_type: str = "video/mp4", headers: Mapping[str, str] | None = None, **more: Any
    ) -> Json:
        body = {"filename": "a.mp4", "content_type": content_type, "size_bytes": len(data), **more}
        response = await self.http.post("/v1/initiate-upload", json=body, headers=dict(headers or {}))
        assert response.status_code == 201, response.text
        return dict(response.json())

    async def put(self, begun: Json, data: bytes) -> list[Json]:
        """Sends every part, with windows signed as needed; returns what complete needs."""
        sent: list[Json] = []
        parts = list(begun["parts"])
        while parts:
            for part in parts:
                offset = (part["part_number"] - 1) * begun["part_size_bytes"]
                body = data[offset : offset + part["size_bytes"]]
                response = await self.storage.put(part["url"], content=body, headers=part["headers"])
                assert response.status_code == 200, response.text
                sent.append({"part_number": part["part_number"], "etag": response.headers["etag"]})
            rest = list(range(len(sent) + 1, min(len(sent) + 3, begun["part_count"] + 1)))
            parts = (await self.sign(begun["media_id"], rest))["parts"] if rest else []
        return sent

    async def sign(self, media_id: str, numbers: list[int]) -> Json:
        response = await self.http.post(f"/v1/uploads/{media_id}/sign-parts", json={"part_numbers": numbers})
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def complete(self, media_id: str, parts: list[Json], **options: Any) -> httpx.Response:
        return await self.http.post("/v1/complete-upload", json={"media_id": media_id, "parts": parts}, **options)

    async def abort(self, media_id: str) -> httpx.Response:
        return await self.http.delete(f"/v1/uploads/{media_id}")

    async def media(self, media_id: str) -> Json:
        response = await self.http.get(f"/v1/media/{media_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def events(self, media_id: str) -> AsyncIterator[tuple[str, Json]]:
        """Events until the stream ends."""
        async with self.http.stream("GET", f"/v1/media/{media_id}/events", timeout=60) as response:
            assert response.status_code == 200
            name = ""
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))
