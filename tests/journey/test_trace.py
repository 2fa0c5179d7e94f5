"""R19: one trace covers the way from the HTTP request to published."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import millrace
from tests.env import Env
from tests.journey.conftest import Journey

pytestmark = pytest.mark.journey

Span = dict[str, Any]
CHUNKS = ("video-001", "video-002")
LAST = {"send media.published", "process media.encoded"}


@pytest.fixture(scope="module")
async def spans(video: Journey, env: Env) -> list[Span]:
    """The trace once its last spans have arrived: each process sends its own, in its own time."""
    trace_id = millrace.trace_id_of(video.traceparent)
    async with httpx.AsyncClient() as http, asyncio.timeout(20):
        while True:
            answer = await http.get(f"{env['MILLRACE_TRACES_URL'].removesuffix('/traces')}/api/traces/{trace_id}")
            if answer.status_code == 200:
                found: list[Span] = answer.json()["spans"]
                if {span["name"] for span in found} >= LAST:
                    return found
            await asyncio.sleep(0.2)


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span["name"] == name]


def ancestry(spans: list[Span], span: Span) -> Iterator[Span]:
    """A span and its parents, upwards."""
    by_id = {span["span_id"]: span for span in spans}
    while span:
        yield span
        span = by_id.get(span["parent_span_id"] or "", {})


async def test_the_api_names_the_trace(video: Journey) -> None:
    assert video.media.trace_id == millrace.trace_id_of(video.traceparent)


async def test_every_hop_is_in_one_trace(spans: list[Span]) -> None:
    services = {span["service"] for span in spans}
    assert services >= {"gateway", "upload", "metadata", "transcode", "manifest"}
    names = {span["name"] for span in spans}
    assert {"POST /v1/initiate-upload", "POST /v1/complete-upload"} <= names
    for subject in ("media.uploaded", "tasks.video", "tasks.audio", "media.encoded"):
        assert {f"send {subject}", f"process {subject}"} <= names, subject
    systems = {span["attributes"].get("db.system.name") or span["attributes"].get("db.system") for span in spans}
    assert "postgresql" in systems
    assert any(span["attributes"].get("rpc.system") == "aws-api" for span in spans), "no call of S3"


@pytest.mark.parametrize("label", [*CHUNKS, "audio", "poster"])
async def test_from_the_http_request_to_each_encode(spans: list[Span], label: str) -> None:
    (encode,) = named(spans, f"encode {label}")
    assert encode["service"] == "transcode"
    way = [f"{span['service']}: {span['name']}" for span in ancestry(spans, encode)]
    assert way[-1] == "gateway: POST /v1/complete-upload" or way[-1].startswith("gateway: POST"), way
    hops = iter(reversed(way))
    for hop in (
        "gateway: POST /v1/complete-upload",
        "metadata: send media.uploaded",
        "transcode: process media.uploaded",
        f"transcode: process tasks.{'audio' if label == 'audio' else 'video'}",
    ):
        assert hop in hops, f"{hop} is missing, or out of order, in {way}"


async def test_publishing_descends_from_the_request_and_links_every_task(spans: list[Span]) -> None:
    (publish,) = [span for span in spans if span["name"].startswith("publish") and span["service"] == "manifest"]
    way = [span["name"] for span in ancestry(spans, publish)]
    assert "POST /v1/complete-upload" in way
    assert "process media.encoded" in way
    linked = {link["span_id"] for link in publish["links"]}
    by_id = {span["span_id"]: span for span in spans}
    labels = {
        next(s for s in ancestry(spans, by_id[span_id]) if s["name"].startswith("process tasks."))["span_id"]
        for span_id in linked
    }
    assert len(labels) == len(CHUNKS) + 2, "fan-in does not link every task"


async def test_encoding_shows_what_the_child_did(spans: list[Span]) -> None:
    (encode,) = named(spans, "encode video-001")
    children = [span for span in spans if span["parent_span_id"] == encode["span_id"]]
    assert {span["name"] for span in children} & {"open", "decode", "encode"}


async def test_nothing_on_the_way_failed(spans: list[Span]) -> None:
    failed = [
        span["name"]
        for span in spans
        if span["status"] == "error" or (isinstance(span["status"], dict) and span["status"].get("code") == "error")
    ]
    assert not failed
