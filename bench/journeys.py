"""What clients ask for until they may begin to send a file of so many parts: once in our way, once in Uppy's.

A journey ends when every part has its URL. It says where the multipart upload lies that it left open, if any, so that
it can be given up after the clock has stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from bench.wire import Answer, Connection, Server, json_request, request

PART_BYTES = 10 << 20


class Refused(Exception):
    """The server answered, but not with what was asked for."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What a journey brought.

    Attributes:
        url: where the first part goes.
        headers: what must be sent with it.
        key: of the object.
        upload_id: storage's name of the multipart upload; empty where there is none.
    """

    url: str
    key: str
    upload_id: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Journey(Protocol):
    """One client's way; the same object serves any number of clients."""

    @property
    def server(self) -> Server:
        """Whom it asks."""

    async def run(self, connection: Connection, number: int) -> Begun:
        """Goes the whole way once; `number` differs from call to call."""


@dataclass(frozen=True, slots=True)
class OneCall:
    """Ours: `POST /v1/initiate-upload` answers with the URLs of all parts, and a durable record stands behind them."""

    server: Server
    tokens: Sequence[str]
    parts: int

    async def run(self, connection: Connection, number: int) -> Begun:
        token = self.tokens[number % len(self.tokens)]
        document = {
            "filename": f"clip-{number}.mp4",
            "content_type": "video/mp4",
            "size_bytes": self.parts * PART_BYTES,
        }
        answer = await connection.exchange(
            json_request("POST", "/v1/initiate-upload", self.server, document, {"authorization": f"Bearer {token}"})
        )
        begun = _checked(answer, 201).json()
        if len(begun["parts"]) != self.parts:
            raise Refused(f"{len(begun['parts'])} URLs instead of {self.parts}")
        first = begun["parts"][0]
        return Begun(first["url"], key_of(first["url"]), begun["upload_id"], first["headers"])


@dataclass(frozen=True, slots=True)
class UppyMultipart:
    """Uppy's: create a multipart upload, then have its parts signed, all at once or, as the plugin does, one by one.

    Attributes:
        base: path before `/s3`.
        tokens: bearer tokens in turn; none for a server that asks for none.
        batched: one call for all parts.
    """

    server: Server
    base: str
    tokens: Sequence[str]
    parts: int
    batched: bool

    async def run(self, connection: Connection, number: int) -> Begun:
        headers = _bearer(self.tokens, number)
        document = {"filename": f"clip-{number}.mp4", "type": "video/mp4", "metadata": {}}
        path = f"{self.base}/s3/multipart"
        answer = await connection.exchange(json_request("POST", path, self.server, document, headers))
        created = _checked(answer, 200).json()
        upload = f"{path}/{quote(created['uploadId'], safe='')}"
        key = quote(created["key"], safe="")
        if self.batched:
            numbers = ",".join(str(part) for part in range(1, self.parts + 1))
            target = f"{upload}/batch?key={key}&partNumbers={quote(numbers, safe='')}"
            answer = await connection.exchange(request("GET", target, self.server, headers=headers))
            urls = _checked(answer, 200).json()["presignedUrls"]
            if len(urls) != self.parts:
                raise Refused(f"{len(urls)} URLs instead of {self.parts}")
            url = urls["1"]
        else:
            for part in range(self.parts, 0, -1):
                target = f"{upload}/{part}?key={key}"
                answer = await connection.exchange(request("GET", target, self.server, headers=headers))
                url = _checked(answer, 200).json()["url"]
        return Begun(url, created["key"], created["uploadId"])


@dataclass(frozen=True, slots=True)
class UppyForm:
    """Uppy's way for a file that is sent whole: `GET /s3/params` answers with a form."""

    server: Server
    base: str

    async def run(self, connection: Connection, number: int) -> Begun:
        target = f"{self.base}/s3/params?filename=photo-{number}.jpg&type=image%2Fjpeg"
        answer = await connection.exchange(request("GET", target, self.server))
        return Begun(_checked(answer, 200).json()["url"], "", "")


def key_of(url: str) -> str:
    """The object's key in a path-style URL."""
    return unquote(urlsplit(url).path).removeprefix("/").partition("/")[2]


def _bearer(tokens: Sequence[str], number: int) -> dict[str, str]:
    return {"authorization": f"Bearer {tokens[number % len(tokens)]}"} if tokens else {}


def _checked(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        raise Refused(f"{answer.status} instead of {status}: {answer.body[:500].decode(errors='replace')}")
    return answer
