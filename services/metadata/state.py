"""What may follow what: transitions of media, uploads and tasks, and the retry policy. Pure; no clock, no database.

Whoever calls holds the row lock of the media, so that what is decided here is still true when it is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias, TypeVar

from services.metadata.records import Failure, Media, MediaStatus, Task, TaskState, UploadKind, UploadState
from services.runtime.errors import FailedPrecondition, Stale

MEDIA_MOVES: Final[Mapping[MediaStatus, frozenset[MediaStatus]]] = {
    MediaStatus.UPLOADING: frozenset({MediaStatus.PROCESSING, MediaStatus.FAILED}),
    MediaStatus.PROCESSING: frozenset({MediaStatus.PUBLISHED, MediaStatus.FAILED}),
    MediaStatus.PUBLISHED: frozenset(),
    MediaStatus.FAILED: frozenset(),
}
"""Moves within one generation: only ever forwards."""

UPLOAD_MOVES: Final[Mapping[UploadState, frozenset[UploadState]]] = {
    # To completed: storage put the parts together for one call while another, refused, gave the session back.
    UploadState.OPEN: frozenset({UploadState.COMPLETING, UploadState.COMPLETED, UploadState.ABORTED}),
    # Back to open when storage refuses the parts; aborted when the media fails, for instance by its deadline.
    UploadState.COMPLETING: frozenset({UploadState.OPEN, UploadState.COMPLETED, UploadState.ABORTED}),
    UploadState.COMPLETED: frozenset(),
    UploadState.ABORTED: frozenset(),
}

TASK_MOVES: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    # To leased or done, without a claim: an attempt whose lease ran out is heard of again before another was claimed.
    TaskState.QUEUED: frozenset({TaskState.LEASED, TaskState.DONE, TaskState.FAILED}),
    # To leased: the next attempt takes over a lease that ran out.
    TaskState.LEASED: frozenset({TaskState.LEASED, TaskState.QUEUED, TaskState.DONE, TaskState.FAILED}),
    TaskState.DONE: frozenset(),
    TaskState.FAILED: frozenset(),
}

FINAL_MEDIA: Final = frozenset(status for status, after in MEDIA_MOVES.items() if not after)
FINAL_TASKS: Final = frozenset(state for state, after in TASK_MOVES.items() if not after)

FORM_LOOK_AFTER: Final = timedelta(seconds=1)
"""Nobody tells when a form has arrived, hence somebody looks; a small file is there about as soon."""
COMPLETING_LOOK_AFTER: Final = timedelta(seconds=60)
"""A complete call that takes longer died: its servers let it run for half of that."""

ATTEMPTS_EXHAUSTED: Final = Failure("attempts_exhausted", "Processing was tried several times and never finished.")
UPLOAD_EXPIRED: Final = Failure("upload_expired", "The upload was not completed in time; please upload the file again.")
PROCESSING_TIMED_OUT: Final = Failure("processing_timed_out", "Processing did not finish in time.")

_State = TypeVar("_State", MediaStatus, UploadState, TaskState)


def may_move(moves: Mapping[_State, frozenset[_State]], before: _State, after: _State) -> bool:
    """Whether one state may follow another."""
    return after in moves[before]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a task is tried, and how long after a fault.

    Attributes:
        max_attempts: attempts in all, those that workers gave back unharmed not counted.
        first_backoff: wait after the first fault.
        factor: by which each further wait grows.
        longest_backoff: bound of the wait.
    """

    max_attempts: int = 3
    first_backoff: timedelta = timedelta(seconds=2)
    factor: float = 4.0
    longest_backoff: timedelta = timedelta(seconds=60)

    def is_spent(self, task: Task) -> bool:
        """Whether the allowance is used up, the current attempt included."""
        return task.attempt - task.released >= self.max_attempts

    def backoff(self, faults: int, jitter: float) -> timedelta:
        """The wait after so many faults, from 1.

        Args:
            faults: attempts that ended badly so far.
            jitter: 0 to 1, drawn by the caller; spreads the wait over its upper half.
        """
        wait = self.first_backoff * self.factor ** (min(faults, 16) - 1)
        return min(wait, self.longest_backoff) * (0.5 + jitter / 2)


@dataclass(frozen=True, slots=True)
class Claimed:
    """The claim succeeds, as this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Held:
    """Another attempt holds a lease for so much longer."""

    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class Obsolete:
    """There is nothing to do any more."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Every attempt died without a word: the media fails."""


Claim: TypeAlias = Claimed | Held | Obsolete | Exhausted


def is_wanted(media: Media, task: Task) -> bool:
    """Whether the generation of a task is being processed."""
    return media.status is MediaStatus.PROCESSING and media.generation == task.generation


def decide_claim(media: Media, task: Task, policy: RetryPolicy) -> Claim:
    """What a claim of a task comes to, given its media."""
    if not is_wanted(media, task) or task.state in FINAL_TASKS:
        return Obsolete()
    if task.state is TaskState.LEASED and task.lease_left > timedelta(0):
        return Held(task.lease_left)
    if policy.is_spent(task):
        return Exhausted()
    return Claimed(task.attempt + 1)


def check_attempt(media: Media, task: Task, attempt: int) -> None:
    """Fences: passes for the latest attempt of a task that still matters.

    An attempt whose lease ran out passes too as long as nobody else claimed the task: its work is as good as any.

    Raises:
        Stale: the attempt was overtaken, or its media moved on.
    """
    if not is_wanted(media, task):
        raise Stale(f"the media is {media.status} in generation {media.generation}", reason="GENERATION_STALE")
    if attempt != task.attempt or attempt < 1 or task.state in FINAL_TASKS:
        raise Stale(f"attempt {attempt} was overtaken: attempt {task.attempt} is {task.state}", reason="ATTEMPT_STALE")


def check_generation(media: Media, generation: int) -> None:
    """Passes while a generation is being processed.

    Raises:
        Stale: another generation is current, or this one ended.
        FailedPrecondition: its upload is not complete.
    """
    if media.generation != generation or media.status in FINAL_MEDIA:
        raise Stale(f"the media is {media.status} in generation {media.generation}", reason="GENERATION_STALE")
    if media.status is MediaStatus.UPLOADING:
        raise FailedPrecondition("the upload is not complete", reason="UPLOAD_NOT_COMPLETE")


def look_after(kind: UploadKind, entered: UploadState) -> timedelta | None:
    """When the objects of an upload are to be looked after, once it has entered a state; None where all must be well.

    What an upload leaves behind can change for as long as its URLs live, hence an ended one is looked after as well:
    one that was given up, to clear its objects away; a form's, since its URL takes the file again.
    """
    match entered:
        case UploadState.OPEN:
            return FORM_LOOK_AFTER if kind is UploadKind.FORM else None
        case UploadState.COMPLETING:
            return COMPLETING_LOOK_AFTER
        case UploadState.COMPLETED:
            return timedelta(0) if kind is UploadKind.FORM else None
        case UploadState.ABORTED:
            return timedelta(0)


def check_upload_move(before: UploadState, after: UploadState) -> None:
    """Passes when an upload may move.

    Raises:
        FailedPrecondition: it may not; the reason names the state it is in.
    """
    if not may_move(UPLOAD_MOVES, before, after):
        raise FailedPrecondition(f"the upload is {before}", reason=f"UPLOAD_{before.upper()}")
