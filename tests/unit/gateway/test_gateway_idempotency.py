"""The same key and request get the same answer; everything else about a key is told apart."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway import idempotency
from media.v1 import metadata_service_pb2 as pb
from media.v1 import upload_service_pb2
from services.runtime import errors
from services.runtime.ids import new_media_id
from tests.unit.gateway.application import Answers, client_of, parts

INITIATE = "/v1/initiate-upload"
FILE = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 17}
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
VISIBLE = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=255
)


@dataclass
class Keys:
    """Keys as the metadata service keeps them, of one user and without time."""

    known: dict[str, pb.StoredAnswer | None] = field(default_factory=dict)
    begun: list[pb.BeginRequestRequest] = field(default_factory=list)
    ended: list[pb.EndRequestRequest] = field(default_factory=list)

    def begin(self, request: pb.BeginRequestRequest) -> pb.BeginRequestResponse:
        self.begun.append(request)
        return pb.BeginRequestResponse(operation_id="operation", answer=self.known.get(request.idempotency_key))

    def end(self, request: pb.EndRequestRequest) -> pb.EndRequestResponse:
        self.ended.append(request)
        if request.HasField("answer"):
            self.known[request.idempotency_key] = request.answer
        return pb.EndRequestResponse()

    @property
    def stub(self) -> Answers:
        return Answers({"BeginRequest": self.begin, "EndRequest": self.end})


def uploads() -> Answers:
    """Every call begins another upload."""

    def initiate(_: Any) -> upload_service_pb2.InitiateUploadResponse:
        return upload_service_pb2.InitiateUploadResponse(media_id=str(new_media_id("alice")), part_count=1)

    return Answers({"InitiateUpload": initiate})


def raising(error: BaseException) -> Answers:
    def initiate(_: Any) -> Any:
        raise error

    return Answers({"InitiateUpload": initiate})


async def test_a_repeat_gets_the_first_answer_byte_for_byte() -> None:
    keys, upload = Keys(), uploads()
    async with client_of(parts(metadata=keys.stub, upload=upload)) as client:
        first = await client.post(INITIATE, json=FILE, headers=KEY)
        again = await client.post(INITIATE, json=FILE, headers=KEY)
        other = await client.post(INITIATE, json=FILE, headers={"Idempotency-Key": "another"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content != other.content
    for name in ("location", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert [asked.request_id for asked in upload.asked] == ["operation", "operation"]
    begun, ended = keys.begun[0], keys.ended[0]
    assert (begun.user_id, begun.lease.seconds, begun.keep.seconds) == ("alice", 60, 86_400)
    assert (ended.user_id, ended.idempotency_key, ended.operation_id) == (
        "alice",
        begun.idempotency_key,
        "operation",
    )


async def test_a_request_is_known_by_method_path_and_body_as_they_came() -> None:
    keys, body = Keys(), b'{"filename":"a",  "content_type":"a/b","size_bytes":1}'
    headers = KEY | {"Content-Type": "application/json"}
    async with client_of(parts(metadata=keys.stub, upload=uploads())) as client:
        await client.post(INITIATE, content=body, headers=headers)
    expected = idempotency.fingerprint("POST", INITIATE, body)
    assert keys.begun[0].fingerprint == expected
    assert len(expected) == 32


@given(st.tuples(st.sampled_from(["POST", "PUT"]), st.sampled_from(["/a", "/b"]), st.binary()), st.data())
def test_other_requests_have_other_fingerprints(one: tuple[str, str, bytes], data: st.DataObject) -> None:
    other = data.draw(st.tuples(st.sampled_from(["POST", "PUT"]), st.sampled_from(["/a", "/b"]), st.binary()))
    assert (idempotency.fingerprint(*one) == idempotency.fingerprint(*other)) is (one == other)


@given(VISIBLE)
def test_quotes_around_a_key_do_not_count(key: str) -> None:
    assert idempotency.parse_key([key]) == idempotency.parse_key([f'"{key}"']) == key


@given(
    st.one_of(
        st.text().filter(lambda text: not all("!" <= one <= "~" for one in text)),
        VISIBLE.map(lambda key: f'"{key}'),
        VISIBLE.map(lambda key: f'{key}"'),
        st.sampled_from(["", '"', '""', '"""', "a b", "a\\b", '"a\\"b"', "k" * 256]),
    )
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        idempotency.parse_key([text])
    assert refused.value.reason == "IDEMPOTENCY_KEY_INVALID"


def test_no_key_is_none_and_two_are_refused() -> None:
    assert idempotency.parse_key([]) is None
    with pytest.raises(errors.InvalidArgument):
        idempotency.parse_key(["a", "a"])


@pytest.mark.parametrize("headers", [{"Idempotency-Key": ""}, {"Idempotency-Key": '""'}], ids=str)
async def test_an_empty_key_is_not_taken_for_none(headers: dict[str, str]) -> None:
    """Whoever sends the header relies on it."""
    upload = uploads()
    async with client_of(parts(upload=upload)) as client:
        response = await client.post(INITIATE, json=FILE, headers=headers)
    assert response.status_code == 422
    assert response.json()["type"].endswith("/idempotency-key-invalid")
    assert upload.asked == []


async def test_without_a_key_nobody_is_asked_to_keep_anything() -> None:
    keys = Keys()
    async with client_of(parts(metadata=keys.stub, upload=uploads())) as client:
        response = await client.post(INITIATE, json=FILE)
    assert response.status_code == 201
    assert keys.begun == []


@pytest.mark.parametrize(
    ("error", "is_unknown"),
    [
        (errors.InvalidArgument("no"), False),
        (errors.FailedPrecondition("no"), False),
        (errors.NotFound("no"), False),
        (errors.ResourceExhausted("no", reason="QUOTA_EXCEEDED"), False),
        (errors.DeadlineExceeded("late"), True),
        (errors.Internal("broken"), True),
        (ZeroDivisionError("broken"), True),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_only_successes_are_kept(error: Exception, is_unknown: bool) -> None:
    keys = Keys()
    async with client_of(parts(metadata=keys.stub, upload=raising(error))) as client:
        response = await client.post(INITIATE, json=FILE, headers=KEY)
    assert response.status_code >= 400
    (ended,) = keys.ended
    assert not ended.HasField("answer")
    assert ended.outcome_unknown is is_unknown
    assert ended.operation_id == "operation"


async def test_a_cancelled_request_gives_its_key_back() -> None:
    keys, reached = Keys(), asyncio.Event()

    async def never(_: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    upload = Answers({"InitiateUpload": never})
    async with client_of(parts(metadata=keys.stub, upload=upload)) as client:
        request = asyncio.create_task(client.post(INITIATE, json=FILE, headers=KEY))
        await reached.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    (ended,) = keys.ended
    assert ended.outcome_unknown
    assert not ended.HasField("answer")


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same() -> None:
    keys = Keys()

    def end(_: Any) -> Any:
        raise errors.DeadlineExceeded("the database is away")

    metadata = Answers({"BeginRequest": keys.begin, "EndRequest": end})
    with capture_logs() as logged:
        async with client_of(parts(metadata=metadata, upload=uploads())) as client:
            response = await client.post(INITIATE, json=FILE, headers=KEY)
    assert response.status_code == 201
    assert [one["event"] for one in logged] == ["idempotency_key_not_ended", "request"]


@pytest.mark.parametrize(
    ("error", "status", "slug", "retry_after"),
    [
        (errors.InvalidArgument("used", reason="IDEMPOTENCY_KEY_REUSED"), 422, "idempotency-key-reused", None),
        (
            errors.FailedPrecondition("busy", reason="REQUEST_IN_FLIGHT", details={"retry_after_s": "2"}),
            409,
            "request-in-flight",
            "2",
        ),
    ],
)
async def test_another_request_and_one_under_way_are_refused(
    error: errors.MillraceError, status: int, slug: str, retry_after: str | None
) -> None:
    def begin(_: Any) -> Any:
        raise error

    upload = uploads()
    async with client_of(parts(metadata=Answers({"BeginRequest": begin}), upload=upload)) as client:
        response = await client.post(INITIATE, json=FILE, headers=KEY)
    assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
    assert response.json()["type"].endswith(f"/{slug}")
    assert response.json()["retryable"] is (retry_after is not None)
    assert upload.asked == []


async def test_a_request_that_is_malformed_leaves_its_key_alone() -> None:
    keys = Keys()
    async with client_of(parts(metadata=keys.stub)) as client:
        response = await client.post(INITIATE, json=FILE | {"size_bytes": -1}, headers=KEY)
    assert response.status_code == 422
    assert keys.begun == []


async def test_complete_takes_keys_too_and_an_unknown_media_frees_them() -> None:
    keys = Keys()
    async with client_of(parts(metadata=keys.stub)) as client:
        body = {"media_id": "no-id", "parts": [{"part_number": 1, "etag": "e"}]}
        response = await client.post("/v1/complete-upload", json=body, headers=KEY)
    assert response.status_code == 404
    assert [ended.outcome_unknown for ended in keys.ended] == [False]
