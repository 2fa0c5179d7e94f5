"""A whole-file checksum that takes longer to verify than anybody waits for a sign of life."""

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from media.v1 import media_pb2
from services.runtime import topology
from services.transcode import app as transcode
from tests.env import Env
from tests.integration.transcode.harness import Line, Pipeline, serving

SIZE_BYTES = 12_000_000
BYTES_PER_S = 900_000
"""A verification of about 13 s: longer than the broker waits for a sign of life."""


@pytest.fixture(scope="module")
def env(env: Env) -> Env:
    """Messages without effect are said again after a second, then two, four, eight."""
    return {**env, "MILLRACE_REEMIT_AFTER_S": "1", "MILLRACE_UPLOAD_MAX_IMAGE_BYTES": str(SIZE_BYTES)}


@pytest.fixture(scope="module")
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span of this process that ends from here on."""
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


async def test_a_long_verification_is_made_once_and_keeps_no_other_media_waiting(
    pipeline: Pipeline, env: Env, photo: bytes, spans: InMemorySpanExporter
) -> None:
    large = photo + bytes(SIZE_BYTES - len(photo))
    line = Line(env["MILLRACE_S3_ENDPOINT_URL"].removeprefix("http://"), bytes_per_s=BYTES_PER_S)
    await line.mend()
    planning = {
        **env,
        "MILLRACE_S3_ENDPOINT_URL": f"http://{line.address}",
        "MILLRACE_TRANSCODE_PLANNER_SLOTS": "1",
        "MILLRACE_TRANSCODE_VERIFICATION_SLOTS": "1",
        "MILLRACE_TRANSCODE_LANES": "",
        "MILLRACE_TRANSCODE_LISTEN": "127.0.0.1:0",
    }
    encoding = {**env, "MILLRACE_TRANSCODE_PLANNER_SLOTS": "0"}
    async with serving(encoding, transcode.serve), serving(planning, transcode.serve):
        long = await pipeline.begin(large, "image/jpeg", sha256=hashlib.sha256(large).digest())
        await asyncio.sleep(1)
        others = [
            await pipeline.begin(photo, "image/jpeg"),
            await pipeline.begin(photo, "image/jpeg", sha256=hashlib.sha256(photo).digest()),
        ]
        quick = await pipeline.finished(others[0])
        assert not (await pipeline.media(long)).tasks, "planned before it was verified"
        ended = [await pipeline.finished(media_id, within=timedelta(seconds=120)) for media_id in (long, others[1])]
    line.cut()
    assert [media.status for media in (quick, *ended)] == [media_pb2.MEDIA_STATUS_PUBLISHED] * 3
    finished = spans.get_finished_spans()
    verifications = [
        span.end_time - span.start_time
        for span in finished
        if span.name == "verify checksum"
        and span.attributes
        and span.attributes["millrace.media.id"] == long
        and span.start_time
        and span.end_time
    ]
    [took_ns] = verifications
    assert took_ns / 1e9 > topology.PLANNER.ack_wait.total_seconds(), "it was not long enough to prove anything"
    deliveries = [
        span.attributes["millrace.delivery_count"]
        for span in finished
        if span.name == "process media.uploaded"
        and span.attributes
        and span.attributes.get("millrace.media.id") == long
    ]
    assert len(deliveries) >= 4, "nobody said it again"
    assert set(deliveries) == {1}, "the broker took the message for abandoned"
