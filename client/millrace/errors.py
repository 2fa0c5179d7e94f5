"""Everything this client raises on purpose.

    MillraceError
    ├── FileUnusable          the local file cannot be uploaded, or changed while it was
    ├── AlreadyUploading      another process uploads the same file just now
    ├── StateUnusable         the folder for state files cannot be used
    ├── NetworkError          nobody answered, or not in time, after every retry
    ├── UnexpectedAnswer      an answer that is not Millrace's: most likely the wrong base URL
    ├── ProblemError          the gateway answered with a problem (RFC 9457)
    │   ├── NotAuthenticated  401, 403: no token, or one that is not accepted
    │   ├── Refused           other 4xx: the request cannot succeed as it stands
    │   │   ├── NotFound      404: unknown, or another user's
    │   │   ├── QuotaExceeded 413: the user's quota does not hold the file
    │   │   └── LimitReached  429: a limit on calls or open uploads, still after every retry
    │   └── ServiceFault      5xx: still failing after every retry
    ├── StorageRefused        object storage would not take a part, and another try would not change that
    └── MediaFailed           the media ended as failed; the reason is its owner's to act on

`problem_from` is the one place that turns an answer of the gateway into one of these.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

from millrace.trace import trace_id_of

if TYPE_CHECKING:
    from millrace.models import Media


class MillraceError(Exception):
    """Base of everything this client raises on purpose; its text is one readable sentence."""


class FileUnusable(MillraceError):
    """The local file cannot be uploaded: missing, empty, of no known type, or changed while it was being read."""


class AlreadyUploading(MillraceError):
    """Another process uploads the same file to the same gateway just now; both would send every byte."""


class StateUnusable(MillraceError):
    """The folder that remembers unfinished uploads cannot be read or written."""


class NetworkError(MillraceError):
    """Nobody answered, or not in time, after every retry."""


class UnexpectedAnswer(MillraceError):
    """An answer that is not what the gateway promises; most likely the base URL leads elsewhere."""


class ProblemError(MillraceError):
    """The gateway answered with a problem.

    Attributes:
        type: stable URI of the kind of problem; programs decide by it.
        title: the kind in a few words.
        detail: what is wrong this time, in a sentence; may be empty.
        status: HTTP status.
        trace_id: 32 hex digits under which the operators find this request, or empty.
        extra: every other member of the problem's body.
    """

    def __init__(
        self,
        *,
        type: str,
        title: str,
        status: int,
        detail: str = "",
        trace_id: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.type = type
        self.title = title
        self.detail = detail
        self.status = status
        self.trace_id = trace_id
        self.extra: dict[str, Any] = dict(extra or {})

    @property
    def kind(self) -> str:
        """The last segment of `type`, for instance `upload-completing`."""
        return self.type.rpartition("/")[2]


class NotAuthenticated(ProblemError):
    """401 or 403: no token, or one that is not accepted."""


class Refused(ProblemError):
    """Another 4xx: the request cannot succeed as it stands."""


class NotFound(Refused):
    """404: unknown, or another user's; the two look the same."""


class QuotaExceeded(Refused):
    """The user's quota does not hold the file: nothing is wrong with the file, and waiting does not help."""


class LimitReached(Refused):
    """429: a limit on calls or open uploads is reached, still after every retry."""


class ServiceFault(ProblemError):
    """5xx, still after every retry."""


class StorageRefused(MillraceError):
    """Object storage would not take a part, and another try would not change that.

    Attributes:
        status: HTTP status.
        code: the storage's own code, for instance `NoSuchUpload`; may be empty.
    """

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class MediaFailed(MillraceError):
    """The media ended as failed.

    Attributes:
        media: the media, with its `failure`.
        reason: stable code in lower snake case, for instance `unsupported_format`.
    """

    def __init__(self, media: "Media") -> None:
        failure = media.failure
        super().__init__(failure.message if failure else "the media failed for an unknown reason")
        self.media = media
        self.reason = failure.reason if failure else "unknown"


_MEMBERS = frozenset({"type", "title", "detail", "status", "trace_id"})


def problem_from(response: httpx.Response) -> ProblemError:
    """The problem that an answer with a status of 400 or more tells; the body must have been read.

    A body that is not problem+json (a proxy's page, for instance) still gives an error with the status.
    """
    body = _json_object(response)
    status = response.status_code
    type_uri = str(body.get("type") or "about:blank")
    return _kind(status, type_uri)(
        type=type_uri,
        title=str(body.get("title") or response.reason_phrase or f"HTTP {status}"),
        status=status,
        detail=str(body.get("detail") or ""),
        trace_id=str(body.get("trace_id") or trace_id_of(response.headers.get("traceresponse", ""))),
        extra={name: value for name, value in body.items() if name not in _MEMBERS},
    )


def _kind(status: int, type_uri: str) -> type[ProblemError]:
    if type_uri.endswith("/quota-exceeded"):
        return QuotaExceeded
    if status in {401, 403}:
        return NotAuthenticated
    if status == 404:
        return NotFound
    if status == 429:
        return LimitReached
    return ServiceFault if status >= 500 else Refused


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
