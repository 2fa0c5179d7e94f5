import httpx
import pytest

from millrace import (
    LimitReached,
    NotAuthenticated,
    NotFound,
    ProblemError,
    Refused,
    ServiceFault,
    new_traceparent,
    trace_id_of,
)
from millrace.errors import problem_from


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (401, NotAuthenticated), (403, NotAuthenticated), (404, NotFound), (409, Refused),
     (413, Refused), (422, Refused), (429, LimitReached), (500, ServiceFault), (503, ServiceFault)],
)  # fmt: skip
def test_the_status_chooses_the_exception(status: int, kind: type[ProblemError]) -> None:
    assert type(problem_from(httpx.Response(status, json={}))) is kind


def test_every_member_of_the_problem_arrives() -> None:
    body = {"type": "https://x/p", "title": "T", "detail": "D", "status": 409, "trace_id": "ab", "missing": [1, 2]}
    error = problem_from(httpx.Response(409, json=body))
    assert (error.type, error.title, error.detail, error.status, error.trace_id) == ("https://x/p", "T", "D", 409, "ab")
    assert error.extra == {"missing": [1, 2]}
    assert str(error) == "D"


@pytest.mark.parametrize("content", [b"", b"<html>Bad Gateway</html>", b"[1]", b"\xff"])
def test_an_answer_that_is_no_problem_still_tells_its_status_and_trace(content: bytes) -> None:
    traceparent = new_traceparent()
    error = problem_from(httpx.Response(502, content=content, headers={"traceresponse": traceparent}))
    assert (error.type, str(error), error.status) == ("about:blank", "Bad Gateway", 502)
    assert error.trace_id == trace_id_of(traceparent)


def test_a_traceparent_is_the_standards_and_never_the_same() -> None:
    first, second = new_traceparent(), new_traceparent()
    assert len(trace_id_of(first)) == 32
    assert first[:3] == "00-"
    assert first[-3:] == "-01"
    assert trace_id_of(first) != trace_id_of(second)
    assert trace_id_of("nonsense") == ""
