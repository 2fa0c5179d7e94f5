"""What an error means for an attempt: whose fault, whether another attempt can help, and what the owner is told."""

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.runtime.errors import DeadlineExceeded, Unavailable
from services.transcode.encoders import EncoderMissing
from services.transcode.engine.errors import EngineFailed, EngineTimeout, EngineUnready
from services.transcode.originals import OriginalChanged, OriginalMissing
from services.transcode.source import RejectedSource
from services.transcode.tasks import Failure


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is recorded.

    Attributes:
        failure: why.
        permanent: another attempt cannot succeed either.
        release: the task is not to blame: the attempt shall not count, and the next one wait (`wait_of`).
    """

    failure: Failure
    permanent: bool
    release: bool = False


_FIRST_WAIT_S: Final = 10.0
_LONGEST_WAIT_S: Final = 60.0

ORIGINAL_MISSING = Failure("original_missing", "The uploaded file is no longer in storage. Upload it again.")
ORIGINAL_CHANGED = Failure("original_changed", "The uploaded file was overwritten afterwards. Upload it again.")
WORKER_STOPPING = Failure("worker_stopping", "The worker was told to stop.")

_TIMED_OUT = Failure("engine_timeout", "Processing this file took too long.")
_CRASHED = Failure("engine_crashed", "Processing this file failed unexpectedly.")
_NO_STORAGE = Failure("storage_unavailable", "Storage did not answer in time.")
_NO_ENCODER = Failure(
    "encoder_unavailable", "No worker with the encoder that was chosen for this file was found in time."
)
_UNREADY = Failure("worker_unready", "No worker that was able to process this file was found in time.")
_DEFECT = Failure("internal", "Processing this file failed for an internal reason.")


def verdict_on(error: Exception) -> Verdict:
    """Judges what ended an attempt; anything unknown is a defect of ours, retried while attempts remain."""
    match error:
        case RejectedSource():
            return Verdict(rejection(error), permanent=True)
        case OriginalChanged():
            return Verdict(ORIGINAL_CHANGED, permanent=True)
        case OriginalMissing():
            return Verdict(ORIGINAL_MISSING, permanent=False)
        case EngineUnready():
            return Verdict(_UNREADY, permanent=False, release=True)
        case EngineTimeout():
            return Verdict(_TIMED_OUT, permanent=False)
        case EngineFailed():
            return Verdict(_CRASHED, permanent=False)
        case EncoderMissing():
            return Verdict(_NO_ENCODER, permanent=False, release=True)
        case Unavailable() | DeadlineExceeded():
            return Verdict(_NO_STORAGE, permanent=False, release=True)
        case _:
            return Verdict(_DEFECT, permanent=False)


def wait_of(attempt: int) -> timedelta:
    """How long a task that was released after its attempt number `attempt`, from 1, waits for what it lacked.

    Doubling from 10 s to a minute, with jitter of a half, since an outage releases everything in hand at once. What
    bounds the whole is the media's deadline.
    """
    ceiling_s = min(_FIRST_WAIT_S * 2.0 ** min(attempt - 1, 10), _LONGEST_WAIT_S)
    return timedelta(seconds=ceiling_s * random.uniform(0.5, 1.0))  # noqa: S311 jitter, no secret


def rejection(error: RejectedSource) -> Failure:
    """What the owner of a refused original is told: what was found, and what to do about it."""
    found = error.message[:1].upper() + error.message[1:].rstrip(".")
    return Failure(error.reason_code, f"{found}. {error.reason.advice}")
