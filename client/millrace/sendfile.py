"""Parts over plain HTTP, from the page cache to the socket by `sendfile(2)`: no byte of them passes through Python.

An httpx transport for hosts that are reached in the clear and without a proxy; h11 speaks the protocol. What is
encrypted takes httpx's own way. Measured against a peer that throws everything away, 1 GiB in parts of 10 MiB, four at
a time, costs 0.7 s of CPU time this way at most and 1.4 s the other at least (docs/adr/0014).

The socket is our own, not one of the event loop's transports: those read no answer while a file is being sent, and
forget it when the peer stops taking bytes, though it says just then why.
"""

import asyncio
import errno
import os
import socket
from collections import defaultdict
from collections.abc import Mapping
from typing import BinaryIO, Final, cast

import h11
import httpx

from millrace.errors import FileUnusable
from millrace.parts import PIECE_BYTES, PartBody

_RECEIVE_BYTES: Final = 64 << 10
_MAX_ANSWER_BYTES: Final = 1 << 20
_EARLY_ANSWER_S: Final = 2.0  # a peer that stops taking bytes has said why, or will within a moment
_NOT_THIS_FILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW})  # sendfile(2)

Timeouts = Mapping[str, float | None]
"""httpx's, in seconds: `connect`, `write` and `read`."""


class SendfileTransport(httpx.AsyncBaseTransport):
    """Sends `PartBody` streams; connections are kept for the next part."""

    def __init__(self, otherwise: httpx.AsyncBaseTransport) -> None:
        """Opens nothing yet; `otherwise` takes what cannot be sent this way, and is closed with it."""
        self._otherwise = otherwise
        self._idle: defaultdict[tuple[str, int], list[_Connection]] = defaultdict(list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request and its whole answer."""
        body, timeouts = request.stream, request.extensions["timeout"]
        if not isinstance(body, PartBody) or not hasattr(os, "sendfile"):
            return await self._otherwise.handle_async_request(request)
        peer = request.url.host, request.url.port or 80
        connection = self._idle_to(peer) or await _connected(peer, timeouts)
        try:
            response = await connection.exchange(request, body, timeouts)
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable:
            self._idle[peer].append(connection)
        else:
            connection.close()
        return response

    async def aclose(self) -> None:
        """Closes every connection."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        await self._otherwise.aclose()

    def _idle_to(self, peer: tuple[str, int]) -> "_Connection | None":
        while self._idle[peer]:
            connection = self._idle[peer].pop()
            if not connection.has_news:  # closed, or an answer to nothing
                return connection
            connection.close()
        return None


async def _connected(peer: tuple[str, int], timeouts: Timeouts) -> "_Connection":
    try:
        async with asyncio.timeout(timeouts["connect"]):
            return _Connection(await _socket_to(*peer))
    except TimeoutError as error:
        raise httpx.ConnectTimeout("no connection in time") from error
    except OSError as error:
        raise httpx.ConnectError(str(error)) from error


async def _socket_to(host: str, port: int) -> socket.socket:
    """A connected socket; the addresses of a name are tried one after the other.

    Raises:
        OSError: of the last one.
    """
    loop = asyncio.get_running_loop()
    failure: OSError = ConnectionError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connecting = socket.socket(family, kind, protocol)
        try:
            connecting.setblocking(False)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(connecting, address)
            return connecting
        except OSError as error:
            failure = error
            connecting.close()
        except BaseException:
            connecting.close()
            raise
    raise failure


class _Connection:
    """One connection, for one request after the other."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._http = h11.Connection(h11.CLIENT)
        self._loop = asyncio.get_running_loop()

    @property
    def is_reusable(self) -> bool:
        """Whether the last answer leaves the connection open for another request."""
        return self._http.our_state is h11.IDLE

    @property
    def has_news(self) -> bool:
        """Whether the peer has sent something that was not read yet, or has closed."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """Closes at once, whatever is under way."""
        self._socket.close()

    async def exchange(self, request: httpx.Request, body: PartBody, timeouts: Timeouts) -> httpx.Response:
        """Sends a request and waits for its answer, which may come before the request's end."""
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        failure: Exception | None = None
        try:
            await self._loop.sock_sendall(self._socket, self._http.send(head) or b"")
            await self._send(body, timeouts["write"])
        except TimeoutError as error:
            raise httpx.WriteTimeout("storage takes no bytes any more") from error
        except OSError as error:
            failure = httpx.WriteError(str(error))
        try:
            async with asyncio.timeout(_EARLY_ANSWER_S if failure else timeouts["read"]):
                response = await self._answer()
        except TimeoutError as error:
            raise failure or httpx.ReadTimeout("no answer in time") from error
        except OSError as error:
            raise failure or httpx.ReadError(str(error)) from error
        except h11.RemoteProtocolError as error:
            raise failure or httpx.RemoteProtocolError(str(error)) from error
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return response

    async def _send(self, body: PartBody, write_s: float | None) -> None:
        at_bytes, end_bytes = body.part.offset_bytes, body.part.offset_bytes + body.part.size_bytes
        with await asyncio.to_thread(body.source.open) as file:
            while at_bytes < end_bytes:
                if self.has_news:
                    return  # an answer before the end is a refusal, and the rest is not wanted
                async with asyncio.timeout(write_s):
                    sent_bytes = await self._send_some(file, at_bytes, min(PIECE_BYTES, end_bytes - at_bytes))
                if not sent_bytes:
                    raise FileUnusable(f"{body.source.path}: the file was cut short during its upload")
                # h11 counts the bytes, and never looks at them: anything that has a length will do.
                self._http.send_with_data_passthrough(h11.Data(data=cast("bytes", range(sent_bytes))))
                body.count(sent_bytes)
                at_bytes += sent_bytes
        self._http.send(h11.EndOfMessage())

    async def _send_some(self, file: BinaryIO, at_bytes: int, most_bytes: int) -> int:
        """Sends at least a byte as soon as the socket takes one; 0 at the end of the file."""
        while True:
            try:
                return os.sendfile(self._socket.fileno(), file.fileno(), at_bytes, most_bytes)
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                if error.errno not in _NOT_THIS_FILE:
                    raise
                piece = await asyncio.to_thread(os.pread, file.fileno(), most_bytes, at_bytes)
                await self._loop.sock_sendall(self._socket, piece)
                return len(piece)

    async def _writable(self) -> None:
        is_writable: asyncio.Future[None] = self._loop.create_future()

        def tell() -> None:
            if not is_writable.done():
                is_writable.set_result(None)

        descriptor = self._socket.fileno()
        self._loop.add_writer(descriptor, tell)
        try:
            await is_writable
        finally:
            self._loop.remove_writer(descriptor)

    async def _answer(self) -> httpx.Response:
        """The next answer.

        Raises:
            OSError: the connection broke.
            h11.RemoteProtocolError: it is none, or not whole.
        """
        response: h11.Response | None = None
        content = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._loop.sock_recv(self._socket, _RECEIVE_BYTES))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                content += event.data
                if len(content) > _MAX_ANSWER_BYTES:
                    raise ConnectionAbortedError("an answer without end")
            elif isinstance(event, h11.EndOfMessage) and response:
                return httpx.Response(
                    response.status_code, headers=response.headers.raw_items(), content=bytes(content)
                )
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionResetError("the connection was closed without an answer")
