from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import UnexpectedAnswer
from millrace.sse import MAX_EVENT_BYTES, EventParser, ServerEvent

STREAM = (
    "\ufeff: heartbeat\r\n\r\nevent: state\ndata: {\"a\":\ndata: 1}\n\n"
    "event:progress\rdata:\u2028 x\rid: 7\r\rretry: 10\n\ndata\n\nevent: lost\n\ndata: last\n\ndata: never ended"
).encode()  # fmt: skip
EVENTS = [
    ServerEvent("state", '{"a":\n1}'),
    ServerEvent("progress", "\u2028 x"),
    ServerEvent("message", ""),
    ServerEvent("message", "last"),
]


def test_reads_every_form_of_line_and_field() -> None:
    assert EventParser().feed(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_cutting_the_stream_anywhere_changes_nothing(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(STREAM)]
    parser = EventParser()
    found = [event for begin, end in pairwise(borders) for event in parser.feed(STREAM[begin:end])]
    assert found == EVENTS


@pytest.mark.parametrize("line", [b"x" * 100_000, b"data: " + b"x" * 100_000 + b"\n"])
def test_an_event_without_end_is_refused(line: bytes) -> None:
    parser = EventParser()
    with pytest.raises(UnexpectedAnswer):  # noqa: PT012 - the feeding is what raises, at some piece
        for _ in range(MAX_EVENT_BYTES // 100_000 + 2):
            parser.feed(line)
