"""The way from clients to storage, as a proxy that counts, stops and cuts: what storage itself cannot be made to do."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Put:
    """One PUT that storage answered; `part_number` is 0 for a whole object."""

    path: str
    part_number: int
    status: int


class StorageLink:
    """Speaks HTTP/1.1 with bodies of known length, which is all that presigned PUTs need.

    `url` is where clients go; `storage_url` must be set before they do.
    """

    def __init__(self) -> None:
        self.url = self.storage_url = ""
        self.puts: list[Put] = []
        self.most_in_flight = 0
        self._in_flight = 0
        self._permits: int | None = None
        self._cut_after_bytes: int | None = None

    def let_through(self, count: int | None) -> None:
        """Lets so many more PUTs through, and keeps all others waiting; None lets everything through."""
        self._permits = count

    def cut_once(self, *, after_bytes: int) -> None:
        """Breaks one connection, in the middle of the next body that is longer."""
        self._cut_after_bytes = after_bytes

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        host, _, port = urlsplit(self.storage_url).netloc.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._exchange(reader, writer, far_reader, far_writer)
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        while method == "PUT" and self._permits is not None and self._permits <= 0:  # noqa: ASYNC110 - no loop sets it
            await asyncio.sleep(0.01)
        if method == "PUT" and self._permits is not None:
            self._permits -= 1
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            far_writer.write(head)
            await self._carry(_length(head), reader, far_writer, may_cut=True)
            answer = await far_reader.readuntil(b"\r\n\r\n")
            if method == "PUT":
                number = parse_qs(urlsplit(target).query).get("partNumber", ["0"])[0]
                self.puts.append(Put(urlsplit(target).path, int(number), int(answer.split(b" ", 2)[1])))
            writer.write(answer)
            await self._carry(_length(answer), far_reader, writer)
        finally:
            self._in_flight -= 1

    async def _carry(
        self, length: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, may_cut: bool = False
    ) -> None:
        carried = 0
        while carried < length:
            piece = await reader.read(min(_PIECE_BYTES, length - carried))
            if not piece:
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()
            carried += len(piece)
            if may_cut and self._cut_after_bytes is not None and carried > self._cut_after_bytes:
                self._cut_after_bytes = None
                raise ConnectionResetError
        await writer.drain()


def _length(head: bytes) -> int:
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    return int(headers.get(b"content-length", b"0"))


@contextmanager
def storage_link() -> Iterator[StorageLink]:
    """A link in a thread of its own, since those who use it may block."""
    link, loop, is_ready = StorageLink(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(link.serve, "127.0.0.1", 0, limit=1 << 20)
        link.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        is_ready.set()
        async with server:
            await server.serve_forever()

    async def end_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # one that fails leaves no other pending
        await asyncio.sleep(0)  # what they have aborted is closed in the loop's next turn

    serving = loop.create_task(serve())

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)
        loop.run_until_complete(end_all())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    is_ready.wait()
    try:
        yield link
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()
