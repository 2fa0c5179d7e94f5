"""A gateway and an object storage in memory, for the faults that real ones cannot be made to produce."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from millrace import Backoff, Client

MEDIA_ID = "01939f5e-7a00-7abc-8def-0123456789ab"
HASTY = Backoff(attempts=4, base_s=0.001, cap_s=0.002)

Fault = Exception | httpx.Response


def media_json(status: str = "processing", **more: Any) -> dict[str, Any]:
    """A media as the gateway says it."""
    body: dict[str, Any] = {
        "media_id": MEDIA_ID,
        "type": "video",
        "status": status,
        "filename": "clip.mp4",
        "content_type": "video/mp4",
        "size_bytes": 10,
        "created_at": "2026-01-02T03:04:05Z",
        "progress": 1.0 if status == "published" else 0.0,
        "links": {"watch": "https://gateway.test/watch/1"},
    }
    if status == "failed":
        body["failure"] = {"reason": "unsupported_format", "message": "This is no video."}
    if status == "published":
        body["playback"] = {"manifest_url": "https://edge.test/main.m3u8", "renditions": [], "thumbnails": []}
    return body | more


@dataclass
class FakeService:
    """Answers as gateway and storage do; `faults` come first, one for each try.

    Attributes:
        part_size_bytes: how files are cut.
        window: parts signed with initiate.
        url_ttl: how long URLs last.
        faults: by `METHOD /path` (of the gateway) or `PUT <part number>` (of storage).
        statuses: what `GET /v1/media/{id}` says, one after the other; the last one stays.
        streams: event streams, one for each connection; none left means 404.
        put_takes_s: how long storage takes over a part.
    """

    part_size_bytes: int = 4
    window: int = 100
    url_ttl: timedelta = timedelta(hours=1)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    statuses: list[dict[str, Any]] = field(default_factory=lambda: [media_json()])
    streams: list[Sequence[bytes | Exception]] = field(default_factory=list)
    put_takes_s: float = 0.001
    on_put: Callable[[int], None] = lambda _: None

    def __post_init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.stored: dict[int, bytes] = {}
        self.signed: list[list[int]] = []
        self.in_flight = self.most_in_flight = 0
        self.refused_signatures: set[int] = set()

    def client(self) -> Client:
        """A client that reaches this service."""
        return Client("https://gateway.test", "secret", backoff=HASTY, transport=httpx.MockTransport(self.answer))

    def to(self, host: str) -> list[httpx.Request]:
        """The requests that one host has got."""
        return [request for request in self.requests if request.url.host == host]

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """One request, answered."""
        self.requests.append(request)
        return await self._put(request) if request.url.host == "storage.test" else self._call(request)

    async def _put(self, request: httpx.Request) -> httpx.Response:
        number = int(request.url.path.strip("/"))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.put_takes_s)
        self.in_flight -= 1
        self.on_put(number)
        assert int(request.headers["content-length"]) == len(request.content)
        assert "transfer-encoding" not in request.headers
        if fault := self._fault(f"PUT {number}"):
            return fault
        if int(request.url.params["signature"]) in self.refused_signatures:
            return s3_error(403, "AccessDenied")
        self.stored[number] = request.content
        return httpx.Response(200, headers={"ETag": f'"etag-{number}"'})

    def _call(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.replace(MEDIA_ID, "ID")
        if fault := self._fault(f"{request.method} {path}"):
            return fault
        body = json.loads(request.content) if request.content else {}
        match request.method, path:
            case "POST", "/v1/initiate-upload":
                count = -(-body["size_bytes"] // self.part_size_bytes)
                return httpx.Response(
                    201,
                    json={
                        "media_id": MEDIA_ID,
                        "upload_id": "u",
                        "part_size_bytes": self.part_size_bytes,
                        "part_count": count,
                        **self._sign([*range(1, count + 1)][: self.window]),
                    },
                )
            case "POST", "/v1/uploads/ID/sign-parts":
                return httpx.Response(200, json=self._sign(body["part_numbers"]))
            case "POST", "/v1/complete-upload":
                sent = [(part["part_number"], part["etag"]) for part in body["parts"]]
                assert sent == [(number, f"etag-{number}") for number in sorted(self.stored)]
                return httpx.Response(202, json=media_json())
            case "DELETE", "/v1/uploads/ID":
                return httpx.Response(200, json=media_json("failed"))
            case "GET", "/v1/media/ID":
                return httpx.Response(200, json=self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])
            case "GET", "/v1/media/ID/events" if self.streams:
                return httpx.Response(
                    200, headers={"content-type": "text/event-stream"}, stream=Pieces(self.streams.pop(0))
                )
        return problem(404, "not-found")

    def _sign(self, numbers: list[int]) -> dict[str, Any]:
        self.signed.append(numbers)
        signature = len(self.signed)
        return {
            "parts": [
                {
                    "part_number": number,
                    "url": f"https://storage.test/{number}?signature={signature}",
                    "size_bytes": self.part_size_bytes,
                }
                for number in numbers
            ],
            "expires_at": (datetime.now(UTC) + self.url_ttl).isoformat(),
        }

    def _fault(self, name: str) -> httpx.Response | None:
        if not self.faults.get(name):
            return None
        fault = self.faults[name].pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fault


class Pieces(httpx.AsyncByteStream):
    """A body that comes in pieces; an exception among them is a connection that breaks there."""

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def problem(status: int, kind: str, **more: Any) -> httpx.Response:
    """A problem as the gateway says it."""
    body = {"type": f"https://millrace.dev/problems/{kind}", "title": kind, "detail": "in words", "status": status}
    return httpx.Response(status, json=body | more, headers={"content-type": "application/problem+json"})


def s3_error(status: int, code: str) -> httpx.Response:
    """An error as S3 says it."""
    return httpx.Response(status, text=f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>")
