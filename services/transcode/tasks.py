"""A task as the worker meets it: a message that names it, a claim that leases it, a result or a failure.

Owns the values and the port `Tasks`, through which a worker claims, renews, completes and fails. An attempt number
fences every call after the claim: once another attempt was claimed, they raise `Stale`, and the worker stops.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.transcode.engine.outcome import Outcome
from services.transcode.originals import Original


@dataclass(frozen=True, slots=True)
class TaskRef:
    """What a message in a lane says: which task may be claimed."""

    task_id: str
    media_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Task:
    """A claimed task.

    Attributes:
        ref: which task.
        lane: lane of the work queue.
        label: what it makes, for instance `video-001`.
        spec_json: the engine's specification as JSON.
        cost_share: its part of the media's whole cost, 0 to 1.
        original: which bytes to read.
        delivery_prefix: key prefix, without trailing slash, below which everything is written.
    """

    ref: TaskRef
    lane: str
    label: str
    spec_json: str
    cost_share: float
    original: Original
    delivery_prefix: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """The worker holds the lease. `attempt`, from 1, fences what follows."""

    task: Task
    attempt: int


@dataclass(frozen=True, slots=True)
class Held:
    """Another attempt holds a live lease, which ends after `retry_after` unless it is renewed."""

    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class Obsolete:
    """Nothing is left to do: the task is done, or its media is final or of another generation."""


Claim = Claimed | Held | Obsolete


@dataclass(frozen=True, slots=True)
class Failure:
    """Why, for machines (`reason`, lower snake case) and for the media's owner (`message`)."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact in the delivery bucket."""

    s3_key: str
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt made, and where it lies.

    Attributes:
        label: the task's.
        language: BCP 47 tag of a sound track; empty where it is unknown or does not apply.
        outcome: what the engine says it made.
        stored: every artifact that `outcome` names, by its name.
    """

    label: str
    language: str
    outcome: Outcome
    stored: Mapping[str, Stored]


class Tasks(Protocol):
    """Where tasks are kept. Every call is idempotent.

    Each raises Unavailable or DeadlineExceeded when there is no answer, and NotFound for a task nobody knows.
    """

    async def claim(self, ref: TaskRef, *, worker: str, lease: timedelta, claim_id: str) -> Claim:
        """Leases the task under a new attempt number; a repeat with the same `claim_id` answers as the first did."""
        ...

    async def renew(self, ref: TaskRef, attempt: int, *, lease: timedelta) -> None:
        """Extends the lease.

        Raises:
            Stale: the attempt was overtaken.
        """
        ...

    async def complete(self, ref: TaskRef, attempt: int, result: Result) -> None:
        """Records the result.

        Raises:
            Stale: the attempt was overtaken.
        """
        ...

    async def fail(
        self,
        ref: TaskRef,
        attempt: int,
        failure: Failure,
        *,
        permanent: bool,
        release: bool,
        retry_after: timedelta = timedelta(0),
    ) -> None:
        """Records a failed attempt.

        Args:
            ref: the task.
            attempt: the caller's.
            failure: why.
            permanent: another attempt cannot succeed either.
            release: no fault: the worker gives the task back, and it shall not count against the task.
            retry_after: with `release`, how long the task waits before it is queued again.

        Raises:
            Stale: the attempt was overtaken.
        """
        ...
