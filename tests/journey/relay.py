"""A TCP relay that counts: what goes through it is what a process said and heard on that link."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_PIECE_BYTES = 64 * 1024


@dataclass(slots=True)
class Relay:
    """One link. `address` is where to connect instead of the real peer; `carried_bytes` counts both directions."""

    address: str
    carried_bytes: int = 0


@asynccontextmanager
async def relay_to(address: str) -> AsyncIterator[Relay]:
    """Relays from a free port to `host:port` until the block ends."""
    host, _, port = address.rpartition(":")
    link = Relay("")
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(_PIECE_BYTES):
                link.carried_bytes += len(piece)
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writers.update((writer, far_writer))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    bound_host, bound_port = server.sockets[0].getsockname()
    link.address = f"{bound_host}:{bound_port}"
    try:
        yield link
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)  # lets the pumps see that their peers are gone
