"""Every refusal that the suite knows, as clients see it; reasons are read from the sources, so none is forgotten."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from gateway import problems
from gateway.problems import NEXT_BY_REASON, RENDERINGS_BY_REASON
from services.runtime import errors
from services.runtime.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    MillraceError,
    NotFound,
    ResourceExhausted,
    Stale,
    Unauthenticated,
    Unavailable,
)
from tests.unit.gateway.application import Answers, client_of, parts

ROOT: Final = Path(__file__).resolve().parents[3]
SOURCES: Final = ("services/upload", "services/metadata", "services/runtime/blobs.py", "gateway")

READ_IT: Final = "Read the media: its status says what is possible."
CORRECT: Final = "Correct the request; `details` and `errors` say where."
DECIDE_AGAIN: Final = "Read the media and decide again."
BEGIN_AGAIN: Final = "Initiate a new upload."
A_MOMENT: Final = "Repeat in a moment."
WHOSE: Final = "Check the identifier and whose token you send."
GET_A_TOKEN: Final = "Get a valid token and send it as `Authorization: Bearer …`."

REFUSALS: Final[dict[str, tuple[type[MillraceError], int, bool, str]]] = {
    # reason: class, status, whether it is worth repeating, what is next
    # -- beginning an upload
    "CONTENT_TYPE_UNSUPPORTED": (InvalidArgument, 422, False, "Choose an image or a video."),
    "FILENAME_INVALID": (
        InvalidArgument,
        422,
        False,
        "Name the file with 1 to 255 characters, none of them a control character.",
    ),
    "FILE_EMPTY": (InvalidArgument, 422, False, "Choose a file that is not empty."),
    "FILE_TOO_LARGE": (
        InvalidArgument,
        422,
        False,
        "Choose a smaller file; `details.max_size_bytes` is the limit.",
    ),
    "QUOTA_EXCEEDED": (
        ResourceExhausted,
        413,
        False,
        "Send a smaller file, or ask for a larger quota; `GET /v1/quota` says what is used.",
    ),
    "TOO_MANY_OPEN_UPLOADS": (
        ResourceExhausted,
        429,
        True,
        "Complete or abort an open upload, then repeat; `GET /v1/media?status=uploading` lists them.",
    ),
    "REQUEST_ID_REUSED": (InvalidArgument, 422, False, "Use a new Idempotency-Key for another file."),
    # -- idempotency keys
    "IDEMPOTENCY_KEY_INVALID": (
        InvalidArgument,
        422,
        False,
        "Send one key of 1 to 255 visible ASCII characters, best a UUID.",
    ),
    "IDEMPOTENCY_KEY_REUSED": (
        InvalidArgument,
        422,
        False,
        "Repeat exactly the first request, or use a new Idempotency-Key for another one.",
    ),
    "REQUEST_IN_FLIGHT": (
        FailedPrecondition,
        409,
        True,
        "Wait as long as `Retry-After` says, then repeat with the same key for the first request's answer.",
    ),
    # -- parts and checksums
    "PART_NUMBERS_INVALID": (
        InvalidArgument,
        422,
        False,
        "Ask for distinct numbers from 1 to the file's part count.",
    ),
    "PARTS_INCOMPLETE": (InvalidArgument, 422, False, "Name every part once, from 1 on, and complete again."),
    "PARTS_DIFFER": (
        InvalidArgument,
        422,
        False,
        "Send the named parts again (sign-parts gives fresh URLs), then complete with their new ETags.",
    ),
    "PARTS_REFUSED": (InvalidArgument, 422, False, "List the parts, send what differs again, then complete."),
    "CHECKSUM_INVALID": (
        InvalidArgument,
        422,
        False,
        "Send the checksum in base64, by the algorithm that the upload was begun with.",
    ),
    "CHECKSUMS_MISSING": (
        InvalidArgument,
        422,
        False,
        "Send the checksum of every part, by the algorithm that the upload was begun with.",
    ),
    "CHECKSUM_MISMATCH": (
        FailedPrecondition,
        409,
        False,
        "Initiate a new upload: the bytes that arrived are not those of the checksum.",
    ),
    "SIZE_MISMATCH": (FailedPrecondition, 409, False, "Initiate a new upload with the file's true size."),
    # -- an upload in another state
    "UPLOAD_NOT_OPEN": (
        FailedPrecondition,
        409,
        False,
        "Read the media: it may be processing already. To send another file, initiate a new upload.",
    ),
    "UPLOAD_NOT_BEGUN": (FailedPrecondition, 409, False, "Initiate the upload again."),
    "UPLOAD_NOT_IN_PARTS": (
        FailedPrecondition,
        409,
        False,
        "POST the form that the upload began with, or initiate a new upload.",
    ),
    "UPLOAD_LOST": (FailedPrecondition, 409, False, BEGIN_AGAIN),
    "UPLOAD_ABORTED": (FailedPrecondition, 409, False, BEGIN_AGAIN),
    "UPLOAD_EXPIRED": (FailedPrecondition, 409, False, BEGIN_AGAIN),
    "UPLOAD_COMPLETING": (FailedPrecondition, 409, False, "Complete the upload again to learn its outcome."),
    "UPLOAD_COMPLETED": (FailedPrecondition, 409, False, "Read the media: it is being processed."),
    "UPLOAD_NOT_COMPLETE": (FailedPrecondition, 409, False, READ_IT),
    "ORIGINAL_DIFFERS": (FailedPrecondition, 409, False, READ_IT),
    # -- what there is, and whose it is
    "MEDIA_NOT_FOUND": (NotFound, 404, False, WHOSE),
    "TASK_NOT_FOUND": (NotFound, 404, False, WHOSE),
    "OBJECT_NOT_FOUND": (NotFound, 404, False, WHOSE),
    "PAGE_TOKEN_INVALID": (InvalidArgument, 422, False, "Begin at the first page, without a page_token."),
    "VALUE_NOT_STORABLE": (InvalidArgument, 422, False, CORRECT),
    # -- who asks
    "TOKEN_MISSING": (Unauthenticated, 401, False, GET_A_TOKEN),
    "TOKEN_INVALID": (Unauthenticated, 401, False, GET_A_TOKEN),
    "TOKEN_EXPIRED": (Unauthenticated, 401, False, "Get a fresh token and repeat."),
    "COOKIE_CROSS_SITE": (
        Unauthenticated,
        401,
        False,
        "Call from a page of this origin, or use an upload token in the path.",
    ),
    "UPLOAD_TOKENS_DISABLED": (
        FailedPrecondition,
        404,
        False,
        "Use `POST /v1/initiate-upload`, or ask the operator to set a key for upload tokens.",
    ),
    "TOO_MANY_STREAMS": (ResourceExhausted, 429, True, "Wait as long as `Retry-After` says, then repeat."),
    # -- of the workers' calls; none of the gateway's own comes here
    "ATTEMPT_STALE": (Stale, 409, False, DECIDE_AGAIN),
    "GENERATION_STALE": (Stale, 409, False, DECIDE_AGAIN),
    "KEY_OUTSIDE_PREFIX": (InvalidArgument, 422, False, CORRECT),
    "OUTPUT_REPEATED": (InvalidArgument, 422, False, CORRECT),
    "PIECES_DIFFER": (InvalidArgument, 422, False, CORRECT),
    "TASKS_REMAIN": (FailedPrecondition, 409, False, READ_IT),
    # -- outages and defects
    "OVERLOADED": (Unavailable, 503, True, "Wait as long as `Retry-After` says, then repeat."),
    "KEYS_UNAVAILABLE": (Unavailable, 503, True, A_MOMENT),
    "STORAGE_UNAVAILABLE": (Unavailable, 503, True, A_MOMENT),
    "STORAGE_REFUSED": (Internal, 500, False, "Report the trace id."),
    "OBJECT_DIFFERS": (Internal, 500, False, "Report the trace id."),
    # -- the classes themselves
    "INVALID_ARGUMENT": (InvalidArgument, 422, False, CORRECT),
    "UNAUTHENTICATED": (Unauthenticated, 401, False, GET_A_TOKEN),
    "NOT_FOUND": (NotFound, 404, False, WHOSE),
    "FAILED_PRECONDITION": (FailedPrecondition, 409, False, READ_IT),
    "STALE": (Stale, 409, False, DECIDE_AGAIN),
    "ALREADY_EXISTS": (errors.AlreadyExists, 409, False, "Read what exists."),
    "RESOURCE_EXHAUSTED": (ResourceExhausted, 429, True, "Wait as long as `Retry-After` says, then repeat."),
    "UNAVAILABLE": (Unavailable, 503, True, A_MOMENT),
    "DEADLINE_EXCEEDED": (
        DeadlineExceeded,
        504,
        True,
        "Repeat: the call may have taken effect, and repeating it is safe.",
    ),
    "INTERNAL": (Internal, 500, False, "Report the trace id."),
}

NO_REASONS: Final = {
    "FULL_OBJECT",  # S3's, of checksums
    "CONCURRENT_WRITE",
}
OF_HTTP: Final = {
    "BODY_TOO_LARGE",
    "MALFORMED_REQUEST",
    "METHOD_NOT_ALLOWED",
    "REQUEST_REFUSED",
    "ROUTE_NOT_FOUND",
    "VALIDATION_FAILED",
}
"""Of requests that reach no route; see `test_gateway_problems`."""


TOLD_BY_REASON: Final = {"OVERLOADED": "More uploads begin right now than can be served."}


def refusing(reason: str) -> Callable[[Any], Any]:
    kind, *_ = REFUSALS[reason]

    def refuse(_: Any) -> Any:
        raise kind("it is refused", reason=reason, details={"fact": "1"})

    return refuse


@pytest.mark.parametrize("reason", REFUSALS)
async def test_every_refusal_has_its_problem(reason: str) -> None:
    kind, status, retryable, following = REFUSALS[reason]
    async with client_of(parts(metadata=Answers({"GetQuota": refusing(reason)}))) as client:
        response = await client.get("/v1/quota")
    body = response.json()
    told = body.pop("detail")
    by_kind = {
        NotFound: "There is no such media.",
        Stale: "The media has moved on.",
        Unavailable: "Something we depend on did not answer.",
        DeadlineExceeded: "It took too long.",
        Internal: "Something went wrong on our side.",
    }
    assert told == TOLD_BY_REASON.get(reason, by_kind.get(kind, "It is refused."))
    if told == "It is refused.":
        assert body.pop("details") == {"fact": "1"}
    name = "internal" if status == 500 else reason.lower().replace("_", "-")
    assert body == {
        "type": f"https://millrace.dev/problems/{name}",
        "title": name.replace("-", " ").capitalize(),
        "status": status,
        "instance": "/v1/quota",
        "trace_id": body["trace_id"],
        "retryable": retryable,
        "next": following,
    }
    assert response.status_code == status
    assert ("retry-after" in response.headers) is retryable
    assert ("www-authenticate" in response.headers) is (status == 401)


def test_no_reason_of_the_suite_is_forgotten() -> None:
    words: set[str] = set()
    for source in SOURCES:
        path = ROOT / source
        for file in [path] if path.is_file() else path.rglob("*.py"):
            words |= set(re.findall(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"', file.read_text()))
    assert words - NO_REASONS - OF_HTTP <= REFUSALS.keys()


def test_advice_is_for_reasons_that_there_are() -> None:
    assert NEXT_BY_REASON.keys() | RENDERINGS_BY_REASON.keys() <= REFUSALS.keys()
    assert not NEXT_BY_REASON.keys() & RENDERINGS_BY_REASON.keys()


async def test_the_openapi_document_names_every_status_a_route_may_answer() -> None:
    """As the contracts of the rpcs behind it have them."""
    expected = {
        ("post", "/v1/initiate-upload"): {"201", "409", "413", "422", "429"},
        ("post", "/v1/complete-upload"): {"202", "404", "409", "413", "422"},
        ("post", "/v1/uploads/{media_id}/sign-parts"): {"200", "404", "409", "422"},
        ("get", "/v1/uploads/{media_id}/parts"): {"200", "404", "409", "422"},
        ("delete", "/v1/uploads/{media_id}"): {"200", "404", "409", "422"},
        ("get", "/v1/quota"): {"200"},
        ("get", "/v1/media/{media_id}"): {"200", "404", "422"},
        ("get", "/v1/media/{media_id}/events"): {"200", "404", "422", "429"},
        ("post", "/v1/upload-tokens"): {"201", "404", "422"},
        ("get", "/uppy/s3/params"): {"200", "404", "413", "422", "429"},
        ("post", "/uppy/s3/multipart"): {"200", "404", "413", "422", "429"},
        ("get", "/uppy/s3/multipart/{upload_id}"): {"200", "404", "409", "422"},
        ("get", "/uppy/s3/multipart/{upload_id}/{part_number}"): {"200", "404", "409", "422"},
        ("get", "/uppy/s3/multipart/{upload_id}/batch"): {"200", "404", "409", "422"},
        ("post", "/uppy/s3/multipart/{upload_id}/complete"): {"200", "404", "409", "413", "422"},
        ("delete", "/uppy/s3/multipart/{upload_id}"): {"200", "404", "409", "422"},
    }
    async with client_of(parts()) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    for (method, path), statuses in expected.items():
        responses = paths[path][method]["responses"]
        assert statuses | {"401", "500", "503", "504"} == responses.keys()
        for status, response in responses.items():
            if int(status) >= 400:
                assert problems.CONTENT_TYPE in response["content"], (path, status)
