"""The SHA-256 of a whole original: verified before anything is made of it, and at nobody else's expense."""

import asyncio
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.runtime.errors import DeadlineExceeded, NotFound, Unavailable
from services.transcode import checksums
from services.transcode.originals import BLOCK_BYTES
from services.transcode.planner import TRIES, Uploaded
from services.transcode.source import RejectedSource, RejectionReason
from tests.unit.pipeline import fakes
from tests.unit.pipeline.fakes import FakeEngine, FakePlans, FakeStorage, planner

ANNOUNCED = hashlib.sha256(fakes.ORIGINAL_BYTES).digest()
WITH_CHECKSUM = Uploaded(fakes.USER_ID, fakes.MEDIA_ID, 1, fakes.ORIGINAL, ANNOUNCED)
QUICK = replace(fakes.ORIGINAL, s3_key="abc/quick/original")
WITHOUT = Uploaded(fakes.USER_ID, "01890000-0000-7abc-8000-000000000002", 1, QUICK)
SOON = timedelta(seconds=10)


@dataclass
class MemorySource:
    """A `ByteSource` that keeps what was asked for."""

    data: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    async def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return self.data[offset : offset + length]


class StuckStorage(FakeStorage):
    """Answers once it is let; for `QUICK` at once."""

    def __init__(self) -> None:
        super().__init__()
        self.objects["originals", QUICK.s3_key] = fakes.ORIGINAL_BYTES
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def read(self, bucket: str, key: str, *, etag: str, offset: int, length: int) -> bytes:
        if key != QUICK.s3_key:
            self.asked.set()
            await self.let.wait()
        return await super().read(bucket, key, etag=etag, offset=offset, length=length)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span of this process that ends during a test."""
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 12_345])
async def test_every_byte_counts_once_and_in_order(size: int) -> None:
    data = random.Random(size).randbytes(size)
    source = MemorySource(data)
    await checksums.verify(source, hashlib.sha256(data).digest(), within=SOON)
    assert {length for _, length in source.reads} == {BLOCK_BYTES}, "memory is not bounded by the block"
    assert len(source.reads) == -(-size // BLOCK_BYTES) + 1


@pytest.mark.parametrize("position", [0, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 99])
async def test_one_other_bit_anywhere_is_a_mismatch(position: int) -> None:
    data = bytearray(random.Random(1).randbytes(BLOCK_BYTES + 100))
    expected = hashlib.sha256(data).digest()
    data[position] ^= 1
    with pytest.raises(RejectedSource) as rejection:
        await checksums.verify(MemorySource(bytes(data)), expected, within=SOON)
    assert rejection.value.reason is RejectionReason.CHECKSUM_MISMATCH


async def test_storage_that_is_too_slow_is_an_outage_and_no_mismatch() -> None:
    class Slow(MemorySource):
        async def read(self, offset: int, length: int) -> bytes:
            await asyncio.sleep(0.02)
            return self.data[offset : offset + 1]

    with pytest.raises(DeadlineExceeded):
        await checksums.verify(Slow(bytes(1_000)), bytes(32), within=timedelta(seconds=0.1))


async def test_a_time_that_ran_out_elsewhere_is_not_taken_for_our_own() -> None:
    class TimedOut(MemorySource):
        async def read(self, offset: int, length: int) -> bytes:
            raise TimeoutError("the source's own")

    with pytest.raises(TimeoutError, match="the source's own"):
        await checksums.verify(TimedOut(b"x"), bytes(32), within=SOON)


def test_the_largest_video_has_hours_and_the_smallest_a_minute() -> None:
    assert checksums.longest(0) == timedelta(minutes=1)
    assert timedelta(hours=2) < checksums.longest(50_000_000_000) < timedelta(hours=3)


async def test_the_announced_bytes_are_planned(spans: InMemorySpanExporter) -> None:
    plans, engine = FakePlans(), FakeEngine()
    with trace.get_tracer("test").start_as_current_span("process media.uploaded") as parent:
        assert await planner(engine, plans).plan_media(WITH_CHECKSUM) is None
    assert (len(plans.recorded), plans.failed) == (1, [])
    ended = [span.name for span in spans.get_finished_spans()]
    assert ended.index("verify checksum") < ended.index("probe") < ended.index("plan")
    verification = _named(spans, "verify checksum")
    assert verification.parent is not None
    assert verification.parent.span_id == parent.get_span_context().span_id
    assert verification.attributes is not None
    assert verification.attributes["millrace.media.size_bytes"] == fakes.ORIGINAL.size_bytes


async def test_other_bytes_fail_the_media_before_anything_parses_them(spans: InMemorySpanExporter) -> None:
    plans, engine = FakePlans(), FakeEngine()
    other = hashlib.sha256(b"other bytes").digest()
    await planner(engine, plans).plan_media(replace(WITH_CHECKSUM, expected_sha256=other))
    [failure] = plans.failed
    assert failure.reason == "checksum_mismatch"
    assert failure.message.startswith("The file that arrived has the SHA-256 ")
    assert failure.message.endswith("and upload it again.")
    assert (engine.probed, plans.recorded) == (0, [])
    assert not _named(spans, "verify checksum").status.is_ok


async def test_without_a_checksum_nothing_is_read_for_one(spans: InMemorySpanExporter) -> None:
    await planner(FakeEngine(), FakePlans()).plan_media(replace(WITH_CHECKSUM, expected_sha256=None))
    assert "verify checksum" not in [span.name for span in spans.get_finished_spans()]


async def test_only_the_pinned_bytes_are_compared() -> None:
    plans = FakePlans()
    await planner(FakeEngine(), plans, FakeStorage(etag="other")).plan_media(WITH_CHECKSUM)
    assert [failure.reason for failure in plans.failed] == ["original_changed"]


async def test_a_short_outage_costs_a_verification_nothing() -> None:
    plans = FakePlans()
    storage = FakeStorage(script={"read": [Unavailable("connection reset")] * 3})
    await planner(FakeEngine(), plans, storage).plan_media(WITH_CHECKSUM)
    assert (len(plans.recorded), plans.failed) == (1, [])


async def test_a_long_outage_fails_no_media_and_the_message_comes_again() -> None:
    plans = FakePlans()
    storage = FakeStorage(script={"read": [Unavailable("connection refused")] * 1_000})
    under_test = planner(FakeEngine(), plans, storage)
    for _ in range(2 * TRIES):
        with pytest.raises(Unavailable):
            await under_test.plan_media(WITH_CHECKSUM)
    assert plans.failed == []
    storage.script.clear()
    await under_test.plan_media(WITH_CHECKSUM)
    assert len(plans.recorded) == 1


async def test_an_original_that_is_missing_for_a_moment_is_read_again() -> None:
    plans = FakePlans()
    await planner(FakeEngine(), plans, FakeStorage(script={"read": [NotFound("not yet")]})).plan_media(WITH_CHECKSUM)
    assert (len(plans.recorded), plans.failed) == (1, [])


async def test_a_copy_that_comes_during_a_verification_does_nothing() -> None:
    plans, storage = FakePlans(), StuckStorage()
    under_test = planner(FakeEngine(), plans, storage)
    first = asyncio.create_task(under_test.plan_media(WITH_CHECKSUM))
    await storage.asked.wait()
    assert await under_test.plan_media(WITH_CHECKSUM) is None
    assert plans.recorded == []
    storage.let.set()
    assert await first is None
    assert len(plans.recorded) == 1


async def test_a_copy_that_comes_after_the_plan_reads_nothing() -> None:
    plans, storage = FakePlans(), FakeStorage()
    under_test = planner(FakeEngine(), plans, storage)
    await under_test.plan_media(WITH_CHECKSUM)
    storage.reads.clear()
    assert await under_test.plan_media(WITH_CHECKSUM) is None
    assert storage.reads == []
    assert len(plans.recorded) == 1


@pytest.mark.parametrize("error", [Unavailable("down"), DeadlineExceeded("slow")])
async def test_without_metadata_nothing_is_read_and_the_message_comes_again(error: Exception) -> None:
    storage = FakeStorage()
    with pytest.raises(type(error)):
        await planner(FakeEngine(), FakePlans(error=error), storage).plan_media(WITH_CHECKSUM)
    assert storage.reads == []


async def test_what_was_given_up_can_be_planned_again() -> None:
    plans, storage = FakePlans(), StuckStorage()
    under_test = planner(FakeEngine(), plans, storage)
    first = asyncio.create_task(under_test.plan_media(WITH_CHECKSUM))
    await storage.asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    storage.let.set()
    assert await under_test.plan_media(WITH_CHECKSUM) is None
    assert len(plans.recorded) == 1


async def test_verifications_keep_no_other_media_waiting() -> None:
    plans, storage = FakePlans(), StuckStorage()
    under_test = planner(FakeEngine(), plans, storage, verification_slots=1)
    first = asyncio.create_task(under_test.plan_media(WITH_CHECKSUM))
    await storage.asked.wait()
    another = replace(WITH_CHECKSUM, media_id="01890000-0000-7abc-8000-000000000003")
    again_in = await under_test.plan_media(another)
    assert again_in is not None
    assert timedelta(0) < again_in <= timedelta(seconds=10)
    assert await under_test.plan_media(WITHOUT) is None
    assert [media_id for media_id, *_ in plans.recorded] == [WITHOUT.media_id]
    storage.let.set()
    assert await first is None
    assert await under_test.plan_media(another) is None
    assert [media_id for media_id, *_ in plans.recorded][1:] == [WITH_CHECKSUM.media_id, another.media_id]


async def test_who_waits_for_a_slot_comes_ever_more_seldom_and_at_last_leaves_it_to_the_next_copy() -> None:
    plans, storage = FakePlans(), StuckStorage()
    under_test = planner(FakeEngine(), plans, storage, verification_slots=1)
    first = asyncio.create_task(under_test.plan_media(WITH_CHECKSUM))
    await storage.asked.wait()
    plans.error = AssertionError("who waits asks nobody")
    another = replace(WITH_CHECKSUM, media_id="01890000-0000-7abc-8000-000000000003")
    waits: list[timedelta] = []
    while (again_in := await under_test.plan_media(another, len(waits) + 1)) is not None:
        waits.append(again_in)
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(seconds=30)
    assert timedelta(minutes=4) < sum(waits, timedelta(0)) < timedelta(minutes=5)
    plans.error = None
    storage.let.set()
    await first


async def test_of_two_that_come_at_once_for_one_slot_neither_waits_for_it_here() -> None:
    plans, storage = FakePlans(), StuckStorage()
    under_test = planner(FakeEngine(), plans, storage, verification_slots=1)
    another = replace(WITH_CHECKSUM, media_id="01890000-0000-7abc-8000-000000000003")
    both = {asyncio.create_task(under_test.plan_media(one)) for one in (WITH_CHECKSUM, another)}
    done, held = await asyncio.wait(both, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() is not None for task in done] == [True]
    storage.let.set()
    assert [await task for task in held] == [None]


async def test_a_copy_without_a_checksum_is_not_probed_again_either() -> None:
    plans, engine = FakePlans(), FakeEngine()
    under_test = planner(engine, plans)
    copy = replace(WITH_CHECKSUM, expected_sha256=None)
    for _ in range(2):
        assert await under_test.plan_media(copy) is None
    assert engine.probed == 1
    assert len(plans.recorded) == 1


def _named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    [found] = [span for span in spans.get_finished_spans() if span.name == name]
    return found
