"""The waterfall: every span once, under its parent, within the axis."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.traces import text
from deploy.local.traces.spans import Link, Span
from deploy.local.traces.waterfall import ticks, waterfall

SPAN = Span("t", "", "", "gateway", "work", "internal", 0, 100, "unset", "", {}, (), ())


def _span(span_id: str, parent: str = "", start_ns: int = 0, end_ns: int = 100, **changes: object) -> Span:
    return replace(
        SPAN, span_id=span_id, parent_span_id=parent, start_ns=start_ns, end_ns=end_ns, **changes  # type: ignore[arg-type]
    )  # fmt: skip


def test_children_follow_their_parents_by_start_time() -> None:
    spans = [_span("late", "root", 50), _span("leaf", "early", 20), _span("early", "root", 10), _span("root")]
    rows = waterfall(spans)
    assert [(row.span.span_id, row.depth) for row in rows] == [("root", 0), ("early", 1), ("leaf", 2), ("late", 1)]
    assert [(row.child_count, row.descendant_count) for row in rows] == [(2, 3), (1, 1), (0, 0), (0, 0)]


def test_bars_are_fractions_of_the_whole() -> None:
    rows = waterfall([_span("root", "", 1_000, 2_000), _span("part", "root", 1_250, 1_750)])
    assert [(row.left, row.width) for row in rows] == [(0.0, 1.0), (0.25, 0.5)]


def test_an_orphan_stands_as_a_root() -> None:
    rows = waterfall([_span("root"), _span("orphan", "gone", 10), _span("child", "orphan", 20)])
    assert [(row.span.span_id, row.depth, row.is_orphan) for row in rows] == [
        ("root", 0, False),
        ("orphan", 0, True),
        ("child", 1, False),
    ]


def test_a_request_of_a_client_that_records_nothing_is_no_orphan() -> None:
    (row,) = waterfall([_span("request", "of the client", kind="server")])
    assert not row.is_orphan


def test_links_are_seen_from_both_ends() -> None:
    spans = [
        _span("a"),
        _span("b", "a", 10),
        _span("join", "a", 20, links=(Link("t", "b", {}), Link("other", "a", {}))),
    ]
    by_id = {row.span.span_id: row for row in waterfall(spans)}
    assert [span.span_id for span in by_id["b"].linked_from] == ["join"]
    assert by_id["a"].linked_from == (), "a link into another trace is no link to this one"


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(0, 1000), st.integers(-5, 1000)),
        max_size=12,
        unique_by=lambda one: one[0],
    )
)
def test_every_span_is_shown_once_whatever_was_sent(sent: list[tuple[int, int, int, int]]) -> None:
    spans = [_span(str(own), str(parent), start, start + length) for own, parent, start, length in sent]
    rows = waterfall(spans)
    assert sorted(row.span.span_id for row in rows) == sorted(span.span_id for span in spans)
    for row in rows:
        assert 0 <= row.left <= 1
        assert row.width >= 0
        assert row.left + row.width <= 1 + 1e-9


def test_nothing_is_an_empty_waterfall() -> None:
    assert waterfall([]) == []


@given(st.integers(0, 10**14))
def test_the_axis_has_few_round_marks_within_the_duration(duration_ns: int) -> None:
    marks = ticks(duration_ns)
    assert marks[0].offset_ns == 0
    assert len(marks) <= 7
    assert all(0 <= mark.left <= 1 for mark in marks)
    if duration_ns > 10:
        assert len(marks) >= 3
        assert str(marks[1].offset_ns).rstrip("0") in ("1", "2", "5")


@pytest.mark.parametrize(
    ("ns", "written"),
    [(0, "0 ns"), (999, "999 ns"), (1_500, "1.50 µs"), (12_340_000, "12.3 ms"), (4_070_000_000, "4.07 s"),
     (59_900_000_000, "59.9 s"), (125_000_000_000, "2 m 05 s")],
)  # fmt: skip
def test_durations_are_written_for_people(ns: int, written: str) -> None:
    assert text.duration(ns) == written


@pytest.mark.parametrize(
    ("ns", "written"), [(0, "0"), (500_000_000, "500 ms"), (2_000_000_000, "2 s"), (120_000_000_000, "2 m 00 s")]
)
def test_marks_carry_no_idle_zeros(ns: int, written: str) -> None:
    assert text.mark(ns) == written


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("media.v1.UploadService/Initiate", "UploadService/Initiate"),
        ("GET /v1/media", "GET /v1/media"),
        ("/v1/media", "/v1/media"),
        ("encode 1080p", "encode 1080p"),
    ],
)
def test_an_rpc_loses_its_package(name: str, short: str) -> None:
    assert text.short_name(name) == short


def test_moments_are_utc() -> None:
    assert text.moment(1_740_830_400_123_000_000) == "2025-03-01 12:00:00.123"
