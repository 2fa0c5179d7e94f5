"""The one taxonomy of errors inside Millrace.

Adapters translate what drivers raise into these; the gRPC interceptor and the gateway's problem module translate
these into what their callers see. Nothing else crosses a module border on purpose.

    MillraceError
    ├── InvalidArgument      the request can never succeed as it stands
    ├── Unauthenticated      who asks is unknown
    ├── NotFound             unknown, or another user's: callers cannot tell which
    ├── FailedPrecondition   the state does not allow it; another call must come first
    ├── Stale                the caller's attempt or generation was overtaken: stop
    ├── AlreadyExists        the name is taken
    ├── ResourceExhausted    a limit or quota is reached
    ├── Unavailable          a dependency did not answer: try again
    ├── DeadlineExceeded     the caller's time is up
    └── Internal             a defect; its text never leaves the process
"""

from collections.abc import Mapping
from typing import ClassVar


class MillraceError(Exception):
    """Base of every error that Millrace raises on purpose.

    Attributes:
        reason: stable code in UPPER_SNAKE_CASE, unique within the suite; machines decide by it.
        message: one sentence for people.
        details: facts as strings, for instance the offending field; never secrets.
    """

    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.details: dict[str, str] = dict(details or {})


class InvalidArgument(MillraceError):
    """The request can never succeed as it stands; `details["field"]` names the culprit where there is one."""

    default_reason = "INVALID_ARGUMENT"


class Unauthenticated(MillraceError):
    """Who asks is unknown: no token, or one that does not verify."""

    default_reason = "UNAUTHENTICATED"


class NotFound(MillraceError):
    """Unknown, or another user's; the two are told apart by nobody."""

    default_reason = "NOT_FOUND"


class FailedPrecondition(MillraceError):
    """The state does not allow the call; something else must happen first."""

    default_reason = "FAILED_PRECONDITION"


class Stale(MillraceError):
    """The caller's attempt or generation was overtaken; it must stop and change nothing more."""

    default_reason = "STALE"


class AlreadyExists(MillraceError):
    """The name is taken, for instance by an object that must not be overwritten."""

    default_reason = "ALREADY_EXISTS"


class ResourceExhausted(MillraceError):
    """A limit or a quota is reached."""

    default_reason = "RESOURCE_EXHAUSTED"


class Unavailable(MillraceError):
    """A dependency did not answer; the same call may succeed later."""

    default_reason = "UNAVAILABLE"


class DeadlineExceeded(MillraceError):
    """The time the caller gave is up; whether the call took effect is unknown."""

    default_reason = "DEADLINE_EXCEEDED"


class Internal(MillraceError):
    """A defect of ours."""

    default_reason = "INTERNAL"
