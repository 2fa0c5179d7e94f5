"""The original as a source of bytes: pinned by its entity tag, read in large blocks, one block ahead.

Owns `OriginalReader`, the engine's `ByteSource` over object storage. The engine's child asks for a few MiB at a time
and mostly in order; a request to storage costs its latency whatever its size. So the parent fetches whole blocks and,
while the child works on one, already the next.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

from services.runtime.errors import AlreadyExists, NotFound
from services.transcode.patience import PATIENT, Patience

BLOCK_BYTES: Final = 8 << 20
"""At 10 ms a request, blocks of 4 MiB and more no longer show in the time an encode takes."""

_SLOWEST_BYTES_PER_S: Final = 5_000_000
"""Far below what storage in order gives to one reader: 50 GB may take under three hours, and take some minutes."""

_CACHED_BLOCKS: Final = 2
"""The block in use and the one ahead: 16 MiB a task. The child keeps a cache of its own."""


@dataclass(frozen=True, slots=True)
class Original:
    """An original pinned to its bytes: key in the originals bucket, entity tag without quotes, size."""

    s3_key: str
    etag: str
    size_bytes: int


class OriginalMissing(Exception):
    """Storage has no object under the original's key. Perhaps a fault of storage: worth another attempt."""


class OriginalChanged(Exception):
    """Other bytes lie under the original's key than those that were pinned. For good."""


class RangeReader(Protocol):
    """Object storage, as far as reading originals goes."""

    async def read(self, bucket: str, key: str, *, etag: str, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length), cut at the object's end, of exactly the bytes that `etag` names.

        Raises:
            NotFound: there is no such object.
            AlreadyExists: other bytes have taken the key.
            Unavailable: storage does not answer.
        """
        ...


def longest_reading(size_bytes: int) -> timedelta:
    """How long it may take to read an original from its first byte to its last: what jobs that do so are given."""
    return timedelta(seconds=size_bytes / _SLOWEST_BYTES_PER_S)


def _ignore_life() -> None:
    """Signs of life that nobody counts."""


@asynccontextmanager
async def opened(
    storage: RangeReader,
    bucket: str,
    original: Original,
    *,
    on_life: Callable[[], None] = _ignore_life,
    patience: Patience = PATIENT,
) -> AsyncIterator["OriginalReader"]:
    """A reader that lasts as long as the block; what it still fetches ahead at the end is given up.

    Args:
        storage: where the original lies.
        bucket: its bucket.
        original: which bytes to read.
        on_life: told of each block that arrived, and while one is asked for (`Patience.bear`): a sign of life of a job
            that reads much before it writes.
        patience: how long a block is asked for while storage does not answer.
    """
    reader = OriginalReader(storage, bucket, original, on_life, patience)
    try:
        yield reader
    finally:
        await reader.close()


class OriginalReader:
    """See `opened`. One reader serves one job; its reads come one after the other."""

    def __init__(
        self,
        storage: RangeReader,
        bucket: str,
        original: Original,
        on_life: Callable[[], None],
        patience: Patience,
    ) -> None:
        self._storage = storage
        self._bucket = bucket
        self._original = original
        self._on_life = on_life
        self._patience = patience
        self._blocks: OrderedDict[int, asyncio.Task[bytes]] = OrderedDict()
        self._last_number = -1

    @property
    def size_bytes(self) -> int:
        """The original's size."""
        return self._original.size_bytes

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length), cut at the original's end.

        Raises:
            OriginalMissing: storage has none.
            OriginalChanged: storage has another one.
            Unavailable: storage does not answer, and patience ran out.
        """
        end = min(offset + length, self.size_bytes)
        pieces = []
        while offset < end:
            number, start = divmod(offset, BLOCK_BYTES)
            block = await self._block(number)
            piece = block[start : start + end - offset]
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def close(self) -> None:
        """Gives up what is still being fetched."""
        for fetch in self._blocks.values():
            fetch.cancel()
        for fetch in self._blocks.values():
            with suppress(asyncio.CancelledError, Exception):
                await fetch
        self._blocks.clear()

    async def _block(self, number: int) -> bytes:
        fetch = self._blocks.get(number)
        if fetch is None or _has_failed(fetch):
            # What failed ahead of its time says how storage was then; it may be back.
            fetch = self._begin(number)
        self._blocks.move_to_end(number)
        try:
            # Shielded: a reader that is cancelled leaves the fetch to `close`.
            block = await asyncio.shield(fetch)
        except Exception:
            self._blocks.pop(number, None)
            raise
        in_order = number in {self._last_number, self._last_number + 1}
        self._last_number = number
        if in_order and (number + 1) * BLOCK_BYTES < self.size_bytes and number + 1 not in self._blocks:
            self._begin(number + 1)
        self._forget_oldest(keep={number, number + 1})
        return block

    def _begin(self, number: int) -> asyncio.Task[bytes]:
        fetch = self._blocks[number] = asyncio.create_task(self._fetch(number))
        return fetch

    async def _fetch(self, number: int) -> bytes:
        offset = number * BLOCK_BYTES
        length = min(BLOCK_BYTES, self.size_bytes - offset)
        read = partial(
            self._storage.read,
            self._bucket,
            self._original.s3_key,
            etag=self._original.etag,
            offset=offset,
            length=length,
        )
        try:
            block = await self._patience.bear(read, self._on_life, size_bytes=length)
        except NotFound as error:
            raise OriginalMissing(error.message) from error
        except AlreadyExists as error:
            raise OriginalChanged(error.message) from error
        self._on_life()
        return block

    def _forget_oldest(self, keep: set[int]) -> None:
        for number in [number for number in self._blocks if number not in keep]:
            if len(self._blocks) <= _CACHED_BLOCKS:
                return
            fetch = self._blocks.pop(number)
            fetch.cancel()
            # Its result, an error included, is nobody's business any more.
            fetch.add_done_callback(_retrieve)


def _has_failed(fetch: asyncio.Task[bytes]) -> bool:
    return fetch.done() and (fetch.cancelled() or fetch.exception() is not None)


def _retrieve(fetch: asyncio.Task[bytes]) -> None:
    if not fetch.cancelled():
        fetch.exception()
