import asyncio
import random
import time
from contextlib import AsyncExitStack

import pytest

from services.runtime.errors import AlreadyExists, NotFound, Unavailable
from services.transcode import originals
from services.transcode.originals import BLOCK_BYTES, Original, OriginalChanged, OriginalMissing
from services.transcode.patience import Patience
from tests.unit.pipeline.fakes import SHORT_PATIENCE

SIZE = BLOCK_BYTES * 3 + 12_345
DATA = random.Random(7).randbytes(SIZE)
ORIGINAL = Original("key", "etag", SIZE)
IMPATIENT = Patience(lasts_s=0)


class CountingStorage:
    """Serves DATA and keeps the offsets that were asked for; fails once for each error it is given."""

    def __init__(self, *errors: Exception) -> None:
        self.offsets: list[int] = []
        self.errors = list(errors)

    async def read(self, bucket: str, key: str, *, etag: str, offset: int, length: int) -> bytes:
        await asyncio.sleep(0)
        self.offsets.append(offset)
        if self.errors:
            raise self.errors.pop(0)
        return DATA[offset : offset + length]


async def test_any_range_is_what_it_should_be() -> None:
    ranges = [(0, 10), (BLOCK_BYTES - 5, 10), (SIZE - 3, 100), (17, 2 * BLOCK_BYTES), (BLOCK_BYTES * 3, 5), (1, 1)]
    async with originals.opened(CountingStorage(), "originals", ORIGINAL) as reader:
        for offset, length in ranges:
            assert await reader.read(offset, length) == DATA[offset : offset + length]


async def test_in_order_every_byte_is_fetched_once_and_ahead() -> None:
    storage = CountingStorage()
    async with originals.opened(storage, "originals", ORIGINAL) as reader:
        await reader.read(0, 1 << 20)
        await asyncio.sleep(0.01)
        assert storage.offsets == [0, BLOCK_BYTES]
        for offset in range(0, SIZE, 1 << 20):
            await reader.read(offset, 1 << 20)
    assert storage.offsets == [number * BLOCK_BYTES for number in range(4)]


async def test_jumping_about_fetches_nothing_ahead() -> None:
    storage = CountingStorage()
    async with originals.opened(storage, "originals", ORIGINAL) as reader:
        await reader.read(2 * BLOCK_BYTES, 10)
        await asyncio.sleep(0.01)
    assert storage.offsets == [2 * BLOCK_BYTES]


async def test_a_short_outage_is_waited_out() -> None:
    storage = CountingStorage(*[Unavailable("connection reset")] * 3)
    lives: list[None] = []
    async with originals.opened(
        storage, "originals", ORIGINAL, on_life=lambda: lives.append(None), patience=SHORT_PATIENCE
    ) as reader:
        assert await reader.read(2 * BLOCK_BYTES, 10) == DATA[2 * BLOCK_BYTES : 2 * BLOCK_BYTES + 10]
    assert storage.offsets == [2 * BLOCK_BYTES] * 4
    assert len(lives) == 4


async def test_a_long_outage_passes_and_the_next_read_succeeds() -> None:
    storage = CountingStorage(Unavailable("503"))
    async with originals.opened(storage, "originals", ORIGINAL, patience=IMPATIENT) as reader:
        with pytest.raises(Unavailable):
            await reader.read(0, 10)
        assert await reader.read(0, 10) == DATA[:10]


async def test_patience_ends_in_time() -> None:
    storage = CountingStorage(*[Unavailable("503")] * 1_000)
    began = time.monotonic()
    async with originals.opened(storage, "originals", ORIGINAL, patience=SHORT_PATIENCE) as reader:
        with pytest.raises(Unavailable):
            await reader.read(0, 10)
    assert SHORT_PATIENCE.lasts_s <= time.monotonic() - began < 2


async def test_what_could_not_be_fetched_ahead_is_fetched_anew_when_it_is_wanted() -> None:
    storage = CountingStorage()
    async with originals.opened(storage, "originals", ORIGINAL, patience=IMPATIENT) as reader:
        await reader.read(0, 10)
        storage.errors.append(Unavailable("503"))
        await asyncio.sleep(0.01)
        assert storage.errors == []
        assert await reader.read(BLOCK_BYTES, 10) == DATA[BLOCK_BYTES : BLOCK_BYTES + 10]


async def test_leaving_gives_up_what_is_under_way() -> None:
    cancelled = asyncio.Event()

    class Hanging:
        async def read(self, bucket: str, key: str, *, etag: str, offset: int, length: int) -> bytes:
            if offset == 0:
                return DATA[:length]
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(originals.opened(Hanging(), "originals", ORIGINAL))
        await reader.read(0, 10)
        await asyncio.sleep(0)
    assert cancelled.is_set()


async def test_what_storage_refuses_is_said_in_words_of_the_domain() -> None:
    for refused, said in ((NotFound("gone"), OriginalMissing), (AlreadyExists("changed"), OriginalChanged)):
        async with originals.opened(CountingStorage(refused), "originals", ORIGINAL) as reader:
            with pytest.raises(said):
                await reader.read(0, 10)
