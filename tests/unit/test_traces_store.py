"""The trace store: bounded, whole traces only, found by what they mention."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.traces.spans import Event, Span
from deploy.local.traces.store import Filter, TraceStore, summarise

SPAN = Span(
    trace_id="a" * 32,
    span_id="1" * 16,
    parent_span_id="",
    service="gateway",
    name="POST /v1/initiate-upload",
    kind="server",
    start_ns=1_000,
    end_ns=5_000,
    status="unset",
    status_message="",
    attributes={},
    events=(),
    links=(),
)


def _span(trace: int, span: int, **changes: object) -> Span:
    ids = {"trace_id": f"{trace:032x}", "span_id": f"{span:016x}"}
    return replace(SPAN, **(ids | changes))  # type: ignore[arg-type]


def test_a_trace_is_given_back_by_start_time() -> None:
    store = TraceStore(10)
    store.add([_span(1, 2, start_ns=20), _span(1, 1, start_ns=10), _span(2, 3)])
    assert [span.start_ns for span in store.trace(f"{1:032x}")] == [10, 20]
    assert store.trace("unknown") == ()


def test_a_span_sent_again_replaces_itself() -> None:
    store = TraceStore(10)
    store.add([_span(1, 1), _span(1, 1, name="again")])
    assert store.span_count == 1
    assert [span.name for span in store.trace(f"{1:032x}")] == ["again"]


def test_the_trace_that_began_to_arrive_first_is_given_up_whole() -> None:
    store = TraceStore(4)
    store.add([_span(1, 1), _span(2, 2), _span(1, 3), _span(2, 4), _span(3, 5)])
    assert store.trace(f"{1:032x}") == ()
    assert len(store.trace(f"{2:032x}")) == 2
    assert store.span_count == 3


@given(
    max_spans=st.integers(1, 8),
    arrivals=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), max_size=60),
)
def test_the_bound_holds_whatever_arrives(max_spans: int, arrivals: list[tuple[int, int]]) -> None:
    store = TraceStore(max_spans)
    for trace, span in arrivals:
        store.add([_span(trace, span)])
        held = sum(len(store.trace(f"{one:032x}")) for one in range(5))
        assert store.span_count == held <= max_spans


def test_a_store_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TraceStore(0)


def test_the_summary_names_the_root_and_counts() -> None:
    root = _span(1, 1, start_ns=100, end_ns=900)
    child = _span(
        1,
        2,
        parent_span_id=root.span_id,
        service="metadata",
        start_ns=200,
        end_ns=1_100,
        status="error",
        attributes={"millrace.media.id": "m-1"},
    )
    summary = summarise([child, root])
    assert (summary.name, summary.service, summary.services) == (root.name, "gateway", ("gateway", "metadata"))
    assert (summary.start_ns, summary.duration_ns) == (100, 1_000)
    assert (summary.span_count, summary.error_count, summary.media_ids) == (2, 1, ("m-1",))
    assert summary.is_complete


def test_a_trace_that_a_client_without_spans_began_is_complete() -> None:
    request = _span(1, 2, parent_span_id="f" * 16, name="POST", kind="server", start_ns=50)
    assert summarise([request]).is_complete


def test_a_trace_without_its_root_is_named_after_its_first_orphan() -> None:
    orphan = _span(1, 2, parent_span_id="f" * 16, name="orphan", kind="internal", start_ns=50)
    child = _span(1, 3, parent_span_id=orphan.span_id, name="child", start_ns=40)
    summary = summarise([child, orphan])
    assert summary.name == "orphan"
    assert not summary.is_complete


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), {1, 2, 3}),
        (Filter(service="transcode"), {2}),
        (Filter(media_id="m-3"), {3}),
        (Filter(errors_only=True), {2}),
        (Filter(text="INITIATE"), {1, 3}),
        (Filter(text="libx264"), {2}),
        (Filter(text="moov"), {3}),
        (Filter(text=f"{3:032x}"), {3}),
        (Filter(text="initiate", media_id="m-3"), {3}),
        (Filter(text="nowhere"), set()),
    ],
)
def test_traces_are_found_by_what_they_mention(wanted: Filter, found: set[int]) -> None:
    store = TraceStore(10)
    store.add(
        [
            _span(1, 1),
            _span(2, 2, service="transcode", name="encode", status="error", attributes={"a": ["b", {"c": "libx264"}]}),
            _span(
                3,
                3,
                attributes={"millrace.media.id": "m-3"},
                events=(Event("probe", 1, {"exception.message": "no moov box"}),),
            ),
        ]
    )
    assert {int(summary.trace_id, 16) for summary in store.find(wanted, limit=10)} == found


def test_the_latest_come_first_and_the_limit_holds() -> None:
    store = TraceStore(10)
    store.add([_span(one, one, start_ns=start) for one, start in ((1, 30), (2, 10), (3, 20))])
    assert [int(summary.trace_id, 16) for summary in store.find(Filter(), limit=2)] == [1, 3]


def test_a_summary_follows_new_spans() -> None:
    store = TraceStore(10)
    store.add([_span(1, 1)])
    assert store.find(Filter(), 1)[0].span_count == 1
    store.add([_span(1, 2)])
    assert store.find(Filter(), 1)[0].span_count == 2


def test_a_service_keeps_its_place() -> None:
    store = TraceStore(1)
    store.add([_span(1, 1, service="b"), _span(2, 2, service="a"), _span(3, 3, service="b")])
    assert store.services == ("b", "a")
