"""HTTP/1.1 as load generators need it: one connection, one request at a time, and as little work as can be.

A full client spends more on a request than a server does, and here both share the same cores.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


@dataclass(frozen=True, slots=True)
class Server:
    """Where requests go."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Server":
        """The server of an `http` URL."""
        parts = urlsplit(url)
        assert parts.scheme == "http"
        assert parts.hostname
        return cls(parts.hostname, parts.port or 80)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: status, the raw head in lower case, the body."""

    status: int
    head: bytes
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """A header by its lower-case name; empty where there is none."""
        _, found, rest = self.head.partition(f"\r\n{name}:".encode())
        return rest.partition(b"\r\n")[0].strip().decode() if found else ""


def request(
    method: str, target: str, server: Server, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """The bytes of a request; `target` is path and query."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {server.host}:{server.port}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method in {"POST", "PUT"}:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def json_request(method: str, target: str, server: Server, document: Any, headers: Mapping[str, str]) -> bytes:
    """The bytes of a request with a JSON body."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return request(method, target, server, headers={"content-type": "application/json", **headers}, body=body)


class Connection(asyncio.Protocol):
    """One kept-alive connection to one server; it is opened when it is needed, and again after it was closed."""

    def __init__(self, server: Server, *, timeout_s: float = 30.0) -> None:
        self._server = server
        self._timeout_s = timeout_s
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[Answer] | None = None
        self._received = bytearray()

    async def exchange(self, wanted: bytes) -> Answer:
        """Sends a request and waits for its answer.

        Raises:
            OSError: no connection, or it broke (ConnectionError); no answer in time (TimeoutError).
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._transport is None:
                    await loop.create_connection(lambda: self, self._server.host, self._server.port)
                    assert self._transport is not None
                self._answered = loop.create_future()
                self._transport.write(wanted)
                return await self._answered
        except BaseException:
            self.close()  # an answer that comes later must not be taken for the next request's
            raise
        finally:
            self._answered = None

    def close(self) -> None:
        """Closes the connection if there is one."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._received.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # some loops derive theirs from no common class

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._received.clear()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_bytes = self._received.find(_HEAD_END)
        if head_bytes < 0 or self._answered is None:
            return
        head = bytes(self._received[:head_bytes]).lower()
        begin = head_bytes + len(_HEAD_END)
        end = begin + _body_bytes(head)
        if len(self._received) < end:
            return
        answer = Answer(int(head[9:12]), head, bytes(self._received[begin:end]))
        del self._received[:end]
        if b"\r\nconnection: close" in head:
            self.close()
        if not self._answered.done():
            self._answered.set_result(answer)


def _body_bytes(head: bytes) -> int:
    _, found, rest = head.partition(_LENGTH)
    if found:
        return int(rest.partition(b"\r\n")[0])
    if b"\r\ntransfer-encoding:" in head:
        raise ValueError("this client reads no chunked answers")
    return 0
