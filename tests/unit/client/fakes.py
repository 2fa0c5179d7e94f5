"""A gateway and an object storage in memory, for the faults that real ones cannot be made to produce."""

import asyncio
import base64
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import google_crc32c
import httpx

from millrace import Backoff, Client

MEDIA_ID = "01939f5e-7a00-7abc-8def-0123456789ab"
HASTY = Backoff(attempts=4, base_s=0.001, cap_s=0.002)

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")

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


class Killed(BaseException):
    """The end of the process, as far as the code under test can tell."""


@dataclass
class FakeUpload:
    """What gateway and storage know of one upload; `puts` counts what storage took, by part number."""

    size_bytes: int
    algorithm: str | None
    whole: str | None
    is_put: bool
    stored: dict[int, bytes] = field(default_factory=dict)
    puts: Counter[int] = field(default_factory=Counter)
    state: str = "open"


@dataclass
class FakeService:
    """Answers as gateway and storage do; `faults` come first, one for each try.

    Attributes:
        part_size_bytes: how files are cut.
        put_max_bytes: up to this size a file takes one PUT of the whole.
        window: parts signed with initiate.
        url_ttl: how long URLs last.
        faults: by `METHOD /path` (of the gateway) or `PUT <part number>` (of storage).
        lost: likewise, how often the answer to a request that took effect is lost.
        damaged: how often a part arrives with other bytes than were sent, by part number.
        statuses: what `GET /v1/media/{id}` says, one after the other; the last one stays. None for the truth.
        streams: event streams, one for each connection; none left means 404.
        put_takes_s: how long storage takes over a part.
        on_request: told of every request, by `METHOD /path`, before and after it takes effect.
    """

    part_size_bytes: int = 4
    put_max_bytes: int = 0
    window: int = 100
    url_ttl: timedelta = timedelta(hours=1)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    lost: Counter[str] = field(default_factory=Counter)
    damaged: Counter[int] = field(default_factory=Counter)
    statuses: list[dict[str, Any]] | None = field(default_factory=lambda: [media_json()])
    streams: list[Sequence[bytes | Exception]] = field(default_factory=list)
    put_takes_s: float = 0.001
    on_put: Callable[[int], None] = lambda _: None
    on_request: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.uploads: dict[str, FakeUpload] = {}
        self.answers: dict[str, tuple[bytes, httpx.Response]] = {}
        self.signed: list[list[int]] = []
        self.headers: dict[str, dict[str, str]] = {}
        self.in_flight = self.most_in_flight = 0
        self.refused_signatures: set[int] = set()

    @property
    def stored(self) -> dict[int, bytes]:
        """What storage holds of the newest upload."""
        return [*self.uploads.values()][-1].stored

    def client(self) -> Client:
        """A client that reaches this service."""
        return Client("https://gateway.test", "secret", backoff=HASTY, transport=httpx.MockTransport(self.answer))

    def to(self, host: str) -> list[httpx.Request]:
        """The requests that one host has got."""
        return [request for request in self.requests if request.url.host == host]

    def asked(self, path: str) -> list[dict[str, Any]]:
        """The bodies of the requests whose path ends so."""
        return [json.loads(request.content) for request in self.requests if request.url.path.endswith(path)]

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """One request, answered."""
        self.requests.append(request)
        if request.url.host == "storage.test":
            name = f"PUT {request.url.path.strip('/')}"
        else:
            name = f"{request.method} {_ID.sub('ID', request.url.path)}"
        self.on_request(name)
        response = await self._put(request) if request.url.host == "storage.test" else self._call(request, name)
        self.on_request(name)
        if self.lost[name]:
            self.lost[name] -= 1
            raise httpx.ReadError("reset")
        return response

    async def _put(self, request: httpx.Request) -> httpx.Response:
        number = int(request.url.path.strip("/"))
        upload = self.uploads[request.url.params["media"]]
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
        bound = self.headers[str(request.url)]
        sent = {name: value for name, value in request.headers.items() if name.startswith(("x-amz-", "if-"))}
        assert sent == {name.lower(): value for name, value in bound.items()}
        if "if-none-match" in sent and number in upload.stored:
            return s3_error(412, "PreconditionFailed")
        content = request.content
        if self.damaged[number]:
            self.damaged[number] -= 1
            content = bytes(len(content))
        if upload.algorithm and sent[f"x-amz-checksum-{upload.algorithm.lower()}"] != base64_of(
            upload.algorithm, content
        ):
            return s3_error(400, "BadDigest")
        upload.stored[number] = content
        upload.puts[number] += 1
        return httpx.Response(200, headers={"ETag": f'"etag-{number}"'})

    def _call(self, request: httpx.Request, name: str) -> httpx.Response:
        if fault := self._fault(name):
            return fault
        key = request.headers.get("idempotency-key")
        if key and key in self.answers:
            body, answer = self.answers[key]
            return answer if body == request.content else problem(422, "idempotency-key-reused")
        answer = self._decide(request, name)
        if key and answer.is_success:
            self.answers[key] = (request.content, answer)
        return answer

    def _decide(self, request: httpx.Request, name: str) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        if name == "POST /v1/initiate-upload":
            return self._initiate(body)
        found = _ID.search(request.url.path)
        media_id = body.get("media_id") or (found[0] if found else "")
        upload = self.uploads.get(media_id)
        match name:
            case "GET /v1/media/ID":
                return self._media(upload)
            case "GET /v1/media/ID/events" if self.streams:
                return httpx.Response(
                    200, headers={"content-type": "text/event-stream"}, stream=Pieces(self.streams.pop(0))
                )
            case _ if upload is None:
                return problem(404, "media-not-found")
            case "POST /v1/complete-upload":
                return self._complete(upload, media_id, body)
            case _ if upload.state != "open":
                return problem(409, f"upload-{upload.state}")
            case "POST /v1/uploads/ID/sign-parts":
                return httpx.Response(200, json=self._sign(media_id, body["part_numbers"], body.get("checksums")))
            case "GET /v1/uploads/ID/parts":
                return httpx.Response(200, json=self._parts(upload))
            case "DELETE /v1/uploads/ID":
                upload.state = "aborted"
                return httpx.Response(200, json=media_json("failed"))
        return problem(404, "not-found")

    def _initiate(self, body: dict[str, Any]) -> httpx.Response:
        media_id = f"{MEDIA_ID[:-1]}{(int(MEDIA_ID[-1], 16) + len(self.uploads)) % 16:x}"
        is_put = body["size_bytes"] <= self.put_max_bytes
        upload = FakeUpload(body["size_bytes"], body.get("checksum_algorithm"), body.get("checksum"), is_put)
        self.uploads[media_id] = upload
        count = self._count(upload)
        whole = [upload.whole] if upload.whole and count == 1 else None
        numbers = [*range(1, count + 1)][: self.window] if whole or not upload.algorithm else []
        return httpx.Response(
            201,
            json={
                "media_id": media_id,
                "upload_id": "" if is_put else "u",
                "kind": "put" if is_put else "multipart",
                "part_size_bytes": upload.size_bytes if is_put else self.part_size_bytes,
                "part_count": count,
                **self._sign(media_id, numbers, whole),
            },
        )

    def _count(self, upload: FakeUpload) -> int:
        return 1 if upload.is_put else -(-upload.size_bytes // self.part_size_bytes)

    def _complete(self, upload: FakeUpload, media_id: str, body: dict[str, Any]) -> httpx.Response:
        if upload.state == "aborted":
            return problem(409, "upload-aborted")
        sent = [(part["part_number"], part["etag"]) for part in body["parts"]]
        assert sent == [(number, f"etag-{number}") for number in range(1, self._count(upload) + 1)]
        if upload.algorithm:
            for part in body["parts"]:
                assert part["checksum"] == base64_of(upload.algorithm, upload.stored[part["part_number"]])
            whole = b"".join(content for _, content in sorted(upload.stored.items()))
            assert body["checksum"] == base64_of(upload.algorithm, whole)
        upload.state = "completed"
        return httpx.Response(202, json=media_json(media_id=media_id))

    def _media(self, upload: FakeUpload | None) -> httpx.Response:
        if self.statuses is not None:
            return httpx.Response(200, json=self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])
        if upload is None:
            return problem(404, "media-not-found")
        status = {"open": "uploading", "completing": "uploading", "completed": "processing"}.get(upload.state, "failed")
        return httpx.Response(200, json=media_json(status))

    def _parts(self, upload: FakeUpload) -> dict[str, Any]:
        return {
            "kind": "put" if upload.is_put else "multipart",
            "upload_id": "" if upload.is_put else "u",
            "part_size_bytes": upload.size_bytes if upload.is_put else self.part_size_bytes,
            "part_count": self._count(upload),
            "parts": [
                {"part_number": number, "etag": f"etag-{number}", "size_bytes": len(content)}
                for number, content in sorted(upload.stored.items())
            ],
        }

    def _sign(self, media_id: str, numbers: list[int], checksums: list[str] | None) -> dict[str, Any]:
        upload = self.uploads[media_id]
        assert len(checksums or ()) == (len(numbers) if upload.algorithm else 0)
        self.signed.append(numbers)
        parts = []
        for index, number in enumerate(numbers):
            url = f"https://storage.test/{number}?signature={len(self.signed)}&media={media_id}"
            headers = {"If-None-Match": "*"} if upload.is_put else {}
            if checksums:
                headers[f"x-amz-checksum-{str(upload.algorithm).lower()}"] = checksums[index]
            self.headers[url] = headers
            cut_bytes = upload.size_bytes if upload.is_put else self.part_size_bytes
            size_bytes = min(cut_bytes, upload.size_bytes - (number - 1) * cut_bytes)
            parts.append({"part_number": number, "url": url, "size_bytes": size_bytes, "headers": headers})
        return {"parts": parts, "expires_at": (datetime.now(UTC) + self.url_ttl).isoformat()}

    def _fault(self, name: str) -> httpx.Response | None:
        if not self.faults.get(name):
            return None
        fault = self.faults[name].pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fault


def base64_of(algorithm: str, content: bytes) -> str:
    """A checksum as S3 has it."""
    if algorithm == "CRC32C":
        return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


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
