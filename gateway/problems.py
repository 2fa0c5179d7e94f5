"""The one place that turns errors into RFC 9457 problems: stable `type`, status, and what the client may do next.

What our own errors say to people is passed on where a person can act on it; what a defect or an outage says stays in
the log, under the trace id that the problem carries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from services.runtime import errors, telemetry

TYPE_BASE: Final = "https://millrace.dev/problems/"
CONTENT_TYPE: Final = "application/problem+json"

_UPPY_PATHS: Final = "/uppy/"

_log = structlog.get_logger(__name__)


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    location: Annotated[str, Field(description="`body`, `query`, `path` or `header`", examples=["body"])]
    pointer: Annotated[str, Field(description="JSON pointer or parameter name", examples=["/size_bytes"])]
    message: Annotated[str, Field(examples=["Input should be greater than 0"])]


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})

    type: Annotated[
        str, Field(description="stable URI; decide by it", examples=["https://millrace.dev/problems/parts-differ"])
    ]
    title: Annotated[str, Field(examples=["Parts differ"])]
    status: Annotated[int, Field(examples=[422])]
    detail: Annotated[str, Field(description="one sentence for people")]
    instance: Annotated[str, Field(description="path that was asked for", examples=["/v1/complete-upload"])]
    trace_id: Annotated[str, Field(description="quote it to support; empty where nothing was recorded")]
    retryable: Annotated[bool, Field(description="true when the same request may succeed later")]
    next: Annotated[str, Field(description="what the client may do now")]
    details: Annotated[dict[str, str], Field(description="facts, for instance the field or the parts")] = {}
    errors: Annotated[list[FieldProblem], Field(description="what is wrong with the request, one by one")] = []
    message: Annotated[str, Field(description="`detail` again, where Uppy's plugins read it; below `/uppy` alone")] = ""


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a class of errors looks over HTTP.

    Attributes:
        status: HTTP status.
        retryable: whether the same request may succeed later.
        next: what the client may do.
        detail: what people read instead of the error's own message; None passes that on.
        retry_after_s: when to repeat what is retryable, where the error itself does not say.
    """

    status: int
    retryable: bool
    next: str
    detail: str | None = None
    retry_after_s: int = 1


RENDERINGS: Final[Mapping[type[errors.MillraceError], Rendering]] = {
    errors.InvalidArgument: Rendering(422, False, "Correct the request; `details` and `errors` say where."),
    errors.Unauthenticated: Rendering(401, False, "Get a valid token and send it as `Authorization: Bearer …`."),
    errors.NotFound: Rendering(404, False, "Check the identifier and whose token you send.", "There is no such media."),
    errors.FailedPrecondition: Rendering(409, False, "Read the media: its status says what is possible."),
    errors.Stale: Rendering(409, False, "Read the media and decide again.", "The media has moved on."),
    errors.AlreadyExists: Rendering(409, False, "Read what exists."),
    errors.ResourceExhausted: Rendering(429, True, "Wait as long as `Retry-After` says, then repeat."),
    errors.Unavailable: Rendering(503, True, "Repeat in a moment.", "Something we depend on did not answer."),
    errors.DeadlineExceeded: Rendering(
        504, True, "Repeat: the call may have taken effect, and repeating it is safe.", "It took too long."
    ),
    errors.Internal: Rendering(500, False, "Report the trace id.", "Something went wrong on our side."),
}
"""Every class of the taxonomy; a test fails for one that is missing."""

RENDERINGS_BY_REASON: Final[Mapping[str, Rendering]] = {
    "QUOTA_EXCEEDED": Rendering(
        413, False, "Send a smaller file, or ask for a larger quota; `GET /v1/quota` says what is used."
    ),
    "TOO_MANY_OPEN_UPLOADS": Rendering(
        429,
        True,
        "Complete or abort an open upload, then repeat; `GET /v1/media?status=uploading` lists them.",
        retry_after_s=30,
    ),
    "REQUEST_IN_FLIGHT": Rendering(
        409, True, "Wait as long as `Retry-After` says, then repeat with the same key for the first request's answer."
    ),
    "OVERLOADED": Rendering(
        503,
        True,
        "Wait as long as `Retry-After` says, then repeat.",
        "More uploads begin right now than can be served.",
    ),
    "UPLOAD_TOKENS_DISABLED": Rendering(
        404, False, "Use `POST /v1/initiate-upload`, or ask the operator to set a key for upload tokens."
    ),
}
"""Reasons that need another status, or another word on repeating, than their class has."""

NEXT_BY_REASON: Final[Mapping[str, str]] = {
    "PARTS_INCOMPLETE": "Name every part once, from 1 on, and complete again.",
    "PARTS_DIFFER": "Send the named parts again (sign-parts gives fresh URLs), then complete with their new ETags.",
    "PARTS_REFUSED": "List the parts, send what differs again, then complete.",
    "UPLOAD_NOT_OPEN": "Read the media: it may be processing already. To send another file, initiate a new upload.",
    "UPLOAD_NOT_BEGUN": "Initiate the upload again.",
    "UPLOAD_LOST": "Initiate a new upload.",
    "UPLOAD_ABORTED": "Initiate a new upload.",
    "UPLOAD_EXPIRED": "Initiate a new upload.",
    "UPLOAD_COMPLETING": "Complete the upload again to learn its outcome.",
    "UPLOAD_COMPLETED": "Read the media: it is being processed.",
    "UPLOAD_NOT_IN_PARTS": "POST the form that the upload began with, or initiate a new upload.",
    "SIZE_MISMATCH": "Initiate a new upload with the file's true size.",
    "PART_NUMBERS_INVALID": "Ask for distinct numbers from 1 to the file's part count.",
    "CHECKSUM_MISMATCH": "Initiate a new upload: the bytes that arrived are not those of the checksum.",
    "CHECKSUM_INVALID": "Send the checksum in base64, by the algorithm that the upload was begun with.",
    "CHECKSUMS_MISSING": "Send the checksum of every part, by the algorithm that the upload was begun with.",
    "REQUEST_ID_REUSED": "Use a new Idempotency-Key for another file.",
    "IDEMPOTENCY_KEY_REUSED": "Repeat exactly the first request, or use a new Idempotency-Key for another one.",
    "IDEMPOTENCY_KEY_INVALID": "Send one key of 1 to 255 visible ASCII characters, best a UUID.",
    "CONTENT_TYPE_UNSUPPORTED": "Choose an image or a video.",
    "FILENAME_INVALID": "Name the file with 1 to 255 characters, none of them a control character.",
    "FILE_EMPTY": "Choose a file that is not empty.",
    "PAGE_TOKEN_INVALID": "Begin at the first page, without a page_token.",
    "FILE_TOO_LARGE": "Choose a smaller file; `details.max_size_bytes` is the limit.",
    "TOKEN_EXPIRED": "Get a fresh token and repeat.",
    "COOKIE_CROSS_SITE": "Call from a page of this origin, or use an upload token in the path.",
}

_STATUS_REASONS: Final = {
    400: ("MALFORMED_REQUEST", "Correct the request."),
    404: ("ROUTE_NOT_FOUND", "See /docs for what is served here."),
    405: ("METHOD_NOT_ALLOWED", "See the `Allow` header, and /docs."),
    413: ("BODY_TOO_LARGE", "Send a smaller body; files go straight to object storage."),
}
"""What HTTP itself refuses: reason, and what the client may do."""


def install(app: FastAPI) -> None:
    """Makes an application answer every error as a problem; see `middleware` for those that no route has caught."""

    async def millrace_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, errors.MillraceError)
        return of_error(error, request.url.path)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _of_validation(error, request.url.path)

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return of_status(error.status_code, request.url.path, str(error.detail), error.headers)

    app.add_exception_handler(errors.MillraceError, millrace_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


def of_error(error: errors.MillraceError, instance: str) -> JSONResponse:
    """The answer to an error of the taxonomy."""
    rendering = RENDERINGS_BY_REASON.get(error.reason) or RENDERINGS[type(error)]
    if rendering.status >= 500:
        _log.warning("dependency_failed", reason=error.reason, error=error.message, status=rendering.status)
    is_ours = rendering.detail is None
    return _answer(
        Problem(
            **_named("INTERNAL" if rendering.status == 500 else error.reason),
            status=rendering.status,
            detail=_sentence(error.message if rendering.detail is None else rendering.detail),
            instance=instance,
            trace_id=telemetry.current_trace_id(),
            retryable=rendering.retryable,
            next=NEXT_BY_REASON.get(error.reason, rendering.next),
            details=error.details if is_ours else {},
        ),
        _headers_of(error, rendering),
    )


def of_status(status: int, instance: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to what HTTP itself refuses: no such route, wrong method, a body too large."""
    reason, following = _STATUS_REASONS.get(status, ("REQUEST_REFUSED", "Correct the request."))
    problem = Problem(
        **_named(reason),
        status=status,
        detail=_sentence(detail),
        instance=instance,
        trace_id=telemetry.current_trace_id(),
        retryable=False,
        next=following,
    )
    return _answer(problem, headers)


def _of_validation(error: RequestValidationError, instance: str) -> JSONResponse:
    found = error.errors()
    malformed = any(one["type"] == "json_invalid" for one in found)
    problem = Problem(
        **_named("MALFORMED_REQUEST" if malformed else "VALIDATION_FAILED"),
        status=400 if malformed else 422,
        detail="The body is not valid JSON." if malformed else "The request does not have the form it should have.",
        instance=instance,
        trace_id=telemetry.current_trace_id(),
        retryable=False,
        next=RENDERINGS[errors.InvalidArgument].next,
        errors=[_field_problem(one["loc"], one["msg"]) for one in found[:20]],
    )
    return _answer(problem)


def _field_problem(location: Sequence[Any], message: str) -> FieldProblem:
    """What is wrong, without what was sent: that may be anything."""
    kind, *path = [str(step) for step in location] or ["request"]
    pointer = "".join(f"/{step}" for step in path) if kind == "body" else ".".join(path)
    return FieldProblem(location=kind, pointer=pointer, message=message)


def _named(reason: str) -> dict[str, Any]:
    words = reason.lower().split("_")
    return {"type": TYPE_BASE + "-".join(words), "title": " ".join(words).capitalize()}


def _sentence(text: str) -> str:
    """Messages inside begin in lower case and end without a full stop; people read sentences."""
    begun = text[:1].upper() + text[1:]
    return begun if begun.endswith((".", "!", "?")) else f"{begun}."


def _headers_of(error: errors.MillraceError, rendering: Rendering) -> dict[str, str]:
    if rendering.status == 401:
        challenge = 'Bearer realm="millrace"'
        if error.reason != "TOKEN_MISSING":
            challenge += f', error="invalid_token", error_description="{error.message}"'
        return {"WWW-Authenticate": challenge}
    if rendering.retryable:
        return {"Retry-After": error.details.get("retry_after_s", str(rendering.retry_after_s))}
    return {}


def _answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = problem.model_dump(exclude_defaults=True)
    if problem.instance.startswith(_UPPY_PATHS):
        body["message"] = problem.detail
    return JSONResponse(body, problem.status, dict(headers or {}), media_type=CONTENT_TYPE)
