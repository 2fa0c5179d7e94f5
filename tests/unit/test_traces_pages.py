"""From OTLP to the pages: what is sent is shown, and nothing of it runs."""

from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1 import trace_pb2

from deploy.local.traces.receiver import receiver
from deploy.local.traces.spans import spans_from_pb
from deploy.local.traces.store import TraceStore
from deploy.local.traces.web import make_app

TRACE, ROOT, CHILD, ELSEWHERE = b"\x0a" * 16, b"\x01" * 8, b"\x02" * 8, b"\x0e" * 16
MEDIA = "0192f7a1-55c0-7abc-8def-0123456789ab"


def _request() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for service, span in (
        (
            "gateway",
            trace_pb2.Span(
                trace_id=TRACE,
                span_id=ROOT,
                name="POST <script>alert(1)</script>",
                kind=trace_pb2.Span.SPAN_KIND_SERVER,
                start_time_unix_nano=1_000_000_000,
                end_time_unix_nano=3_000_000_000,
                attributes=[
                    KeyValue(key="millrace.media.id", value=AnyValue(string_value=MEDIA)),
                    KeyValue(key="parts", value=AnyValue(int_value=3)),
                    KeyValue(key="ratio", value=AnyValue(double_value=0.5)),
                    KeyValue(key="done", value=AnyValue(bool_value=True)),
                    KeyValue(key="raw", value=AnyValue(bytes_value=b"\xff\x00")),
                    KeyValue(
                        key="labels", value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="720p")]))
                    ),
                    KeyValue(
                        key="nested",
                        value=AnyValue(
                            kvlist_value=KeyValueList(values=[KeyValue(key="a", value=AnyValue(int_value=1))])
                        ),
                    ),
                    KeyValue(key="nothing", value=AnyValue()),
                ],
            ),
        ),
        (
            "transcode",
            trace_pb2.Span(
                trace_id=TRACE,
                span_id=CHILD,
                parent_span_id=ROOT,
                name="encode 720p",
                start_time_unix_nano=1_500_000_000,
                end_time_unix_nano=2_000_000_000,
                status=trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR, message="invalid <frame>"),
                events=[trace_pb2.Span.Event(name="first segment", time_unix_nano=1_600_000_000)],
                links=[
                    trace_pb2.Span.Link(trace_id=TRACE, span_id=ROOT),
                    trace_pb2.Span.Link(trace_id=ELSEWHERE, span_id=b"\x0f" * 8),
                ],
            ),
        ),
    ):
        resource_spans = request.resource_spans.add()
        resource_spans.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service)))
        resource_spans.scope_spans.add().spans.append(span)
    return request


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    store = TraceStore(100)
    store.add(spans_from_pb(_request()))
    transport = httpx.ASGITransport(app=make_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://traces") as client:
        yield client


async def test_spans_arrive_over_grpc() -> None:
    store = TraceStore(100)
    server, port = receiver(store, "127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await TraceServiceStub(channel).Export(_request(), timeout=5)  # type: ignore[no-untyped-call]
    finally:
        await server.stop(grace=None)
    assert [span.service for span in store.trace(TRACE.hex())] == ["gateway", "transcode"]


def test_a_span_without_ids_is_left_out() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.append(trace_pb2.Span(name="nameless"))
    assert list(spans_from_pb(request)) == []


async def test_a_trace_as_json(client: httpx.AsyncClient) -> None:
    answer = (await client.get(f"/api/traces/{TRACE.hex()}")).json()
    root, child = answer["spans"]
    assert (root["service"], root["kind"], root["parent_span_id"]) == ("gateway", "server", "")
    assert root["attributes"] == {
        "millrace.media.id": MEDIA,
        "parts": 3,
        "ratio": 0.5,
        "done": True,
        "raw": "ff00",
        "labels": ["720p"],
        "nested": {"a": 1},
        "nothing": None,
    }
    assert (child["span_id"], child["parent_span_id"]) == (CHILD.hex(), ROOT.hex())
    assert (child["start_ns"], child["end_ns"], child["duration_ns"]) == (1_500_000_000, 2_000_000_000, 500_000_000)
    assert (child["status"], child["status_message"]) == ("error", "invalid <frame>")
    assert child["links"] == [
        {"trace_id": TRACE.hex(), "span_id": ROOT.hex(), "attributes": {}},
        {"trace_id": ELSEWHERE.hex(), "span_id": "0f" * 8, "attributes": {}},
    ]


async def test_traces_as_json(client: httpx.AsyncClient) -> None:
    (trace,) = (await client.get("/api/traces", params={"media_id": MEDIA})).json()["traces"]
    assert (trace["trace_id"], trace["span_count"], trace["error_count"]) == (TRACE.hex(), 2, 1)
    assert (await client.get("/api/traces", params={"service": "nobody"})).json() == {"traces": []}


async def test_the_pages_show_what_was_sent_and_run_nothing_of_it(client: httpx.AsyncClient) -> None:
    listed, shown = await client.get("/traces"), await client.get(f"/traces/{TRACE.hex()}")
    for page in (listed, shown):
        assert page.status_code == 200
        assert "POST &lt;script&gt;alert(1)&lt;/script&gt;" in page.text
        assert "alert(1)</script>" not in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
    assert f'href="/traces/{TRACE.hex()}"' in listed.text
    assert "invalid &lt;frame&gt;" in shown.text
    assert f'href="#span-{ROOT.hex()}"' in shown.text
    assert f'href="/traces/{ELSEWHERE.hex()}#span-{"0f" * 8}"' in shown.text


async def test_filters_stay_in_the_form(client: httpx.AsyncClient) -> None:
    page = await client.get("/traces", params={"q": '"><b>', "errors": "1", "service": "gateway"})
    assert 'value="&#34;&gt;&lt;b&gt;"' in page.text
    assert "No trace matches." in page.text


@pytest.mark.parametrize(("path", "kind"), [("/traces/none", "text/html"), ("/api/traces/none", "application/json")])
async def test_an_unknown_trace_is_not_found(client: httpx.AsyncClient, path: str, kind: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith(kind)


async def test_the_pages_need_no_other_site(client: httpx.AsyncClient) -> None:
    for path in ("/static/traces.css", "/static/traces.js", f"/traces/{TRACE.hex()}", "/traces"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text
        assert "https://" not in answer.text


@pytest.mark.parametrize("limit", ["0", "-3", "many", "999999", "²"])
async def test_an_odd_limit_does_no_harm(client: httpx.AsyncClient, limit: str) -> None:
    assert (await client.get("/api/traces", params={"limit": limit})).status_code == 200
