"""The transport that lets the kernel send files, against peers that answer as none of our servers can be made to."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvloop

from millrace import Backoff, FileUnusable, PresignedPart, StorageRefused
from millrace.parts import PIECE_BYTES, PartBody, PartRange, Source
from millrace.sendfile import SendfileTransport
from millrace.storage import Storage, Transient, UrlRefused

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CONTENT = os.urandom(3 * PIECE_BYTES + 7)
OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"before" + CONTENT + b"after")
    return Source.of(path)


@pytest.fixture
async def storage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Storage]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    opened = Storage(backoff=Backoff())
    yield opened
    await opened.aclose()


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[PresignedPart]:
    """A part whose URL leads to this peer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await peer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield PresignedPart(1, f"http://127.0.0.1:{port}/key?signature=x%2Fy", len(CONTENT), {"X-Amz-Bound": "1"})


async def request_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A whole request: its head, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.readexactly(len(CONTENT))


def body_of(source: Source) -> PartBody:
    return PartBody(source, PartRange(1, len(b"before"), len(CONTENT)))


async def test_the_part_goes_out_as_it_is_and_the_connection_serves_the_next(storage: Storage, source: Source) -> None:
    seen: list[tuple[int, bytes, bytes]] = []
    connections = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            seen.append((connections, *await request_of(reader)))
            writer.write(OK)

    async with listening(peer) as part:
        for _ in range(3):
            body = body_of(source)
            assert await storage.put(part, body) == "e"
            assert body.sent_bytes == len(CONTENT)
    assert {content for _, _, content in seen} == {CONTENT}
    assert {connection for connection, _, _ in seen} == {1}
    head = seen[0][1].decode().lower()
    assert head.startswith("put /key?signature=x%2fy http/1.1\r\n")
    assert f"content-length: {len(CONTENT)}\r\n" in head
    assert "x-amz-bound: 1\r\n" in head
    assert f"host: {httpx.URL(part.url).netloc.decode()}\r\n" in head
    assert head.count("host:") == 1
    assert "transfer-encoding" not in head


async def test_several_at_once_have_connections_of_their_own(storage: Storage, source: Source) -> None:
    peers: set[str] = set()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(str(writer.get_extra_info("peername")))
        while True:
            assert (await request_of(reader))[1] == CONTENT
            await asyncio.sleep(0.05)
            writer.write(OK)

    async with listening(peer) as part:
        for _ in range(2):
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(storage.put(part, body_of(source)))
    assert len(peers) == 4


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nConnection: close\r\n\r\nuntil the end',
        b'HTTP/1.0 200 OK\r\nETag: "e"\r\n\r\n',
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
    ids=["chunked", "until it closes", "of old", "after another"],
)
async def test_answers_of_every_form_are_understood(storage: Storage, source: Source, answer: bytes) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            writer.write(answer)
            if b"Content-Length" not in answer and b"chunked" not in answer:
                return

    async with listening(peer) as part:
        for _ in range(3):
            assert await storage.put(part, body_of(source)) == "e"


@pytest.mark.parametrize("reads_on", [True, False])
async def test_an_answer_before_the_end_is_heard(storage: Storage, source: Source, reads_on: bool) -> None:
    """As storage answers to a URL that has expired: at once, and then it may read on, or close."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        refusal = b"<Error><Code>AccessDenied</Code></Error>"
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(refusal) + refusal)
        await writer.drain()
        if reads_on:
            await reader.read()

    async with listening(peer) as part:
        with pytest.raises(UrlRefused, match="AccessDenied"):
            await storage.put(part, body_of(source))


@pytest.mark.parametrize("after_bytes", [0, PIECE_BYTES, len(CONTENT)])
async def test_a_connection_that_breaks_is_worth_another_try(
    storage: Storage, source: Source, after_bytes: int
) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(after_bytes)
        writer.transport.abort()

    async with listening(peer) as part:
        with pytest.raises(Transient):
            await storage.put(part, body_of(source))


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again(storage: Storage, source: Source) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)

    async with listening(peer) as part:
        for _ in range(3):
            assert await storage.put(part, body_of(source)) == "e"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("silence", "error"), [("read", httpx.ReadTimeout), ("write", httpx.WriteTimeout)])
async def test_silence_has_an_end(source: Source, silence: str, error: type[Exception]) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if silence == "read":
            await request_of(reader)
        await asyncio.sleep(5)

    path = source.path.with_name("large.mp4")
    path.write_bytes(bytes(40 << 20))  # more than any socket holds back
    large = Source.of(path)
    size_bytes = len(CONTENT) if silence == "read" else large.size_bytes
    async with (
        listening(peer) as part,
        httpx.AsyncClient(transport=SendfileTransport(httpx.AsyncHTTPTransport())) as http,
    ):
        request = http.build_request("PUT", part.url, headers={"Content-Length": str(size_bytes)}, timeout=0.3)
        request.stream = body_of(source) if silence == "read" else PartBody(large, PartRange(1, 0, size_bytes))
        with pytest.raises(error):
            await http.send(request)


async def test_nobody_there_is_worth_another_try(storage: Storage, source: Source) -> None:
    async with listening(lambda reader, writer: asyncio.sleep(0)) as part:
        pass
    with pytest.raises(Transient):
        await storage.put(part, body_of(source))


async def test_a_file_cut_short_while_it_is_sent_is_said_so(storage: Storage, source: Source) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)

    async with listening(peer) as part:
        body = PartBody(source, PartRange(1, 0, len(CONTENT)), lambda _: os.truncate(source.path, PIECE_BYTES))
        with pytest.raises(FileUnusable, match="cut short"):
            await storage.put(part, body)


async def test_an_answer_that_is_no_http_is_worth_another_try(storage: Storage, source: Source) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"hello\r\n\r\n")

    async with listening(peer) as part:
        with pytest.raises(Transient):
            await storage.put(part, body_of(source))


async def test_an_answer_without_end_is_given_up(storage: Storage, source: Source) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(2 << 20))

    async with listening(peer) as part:
        with pytest.raises((Transient, StorageRefused)):
            await storage.put(part, body_of(source))


async def test_a_cancelled_part_leaves_no_connection_behind(storage: Storage, source: Source) -> None:
    is_gone = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await request_of(reader)
            await reader.read()
        finally:
            is_gone.set()

    async with listening(peer) as part:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await storage.put(part, body_of(source))
        async with asyncio.timeout(5):
            await is_gone.wait()


@pytest.mark.parametrize("reason", ["another event loop", "no sendfile", "not of this file"])
def test_it_works_wherever_it_runs(monkeypatch: pytest.MonkeyPatch, source: Source, reason: str) -> None:
    if reason == "no sendfile":
        monkeypatch.delattr(os, "sendfile")
    elif reason == "not of this file":

        def refuse(*_: object) -> int:
            raise OSError(errno.EINVAL, "invalid argument")

        monkeypatch.setattr(os, "sendfile", refuse)

    async def scenario() -> None:
        received: list[bytes] = []

        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.append((await request_of(reader))[1])
            writer.write(OK)

        async with listening(peer) as part:
            storage = Storage(backoff=Backoff())
            assert await storage.put(part, body_of(source)) == "e"
            await storage.aclose()
        assert received == [CONTENT]

    if reason == "another event loop":
        uvloop.run(scenario())
    else:
        asyncio.run(scenario())
