"""Looking after what uploads leave at storage, whatever became of their clients and of us.

Forms that have arrived are completed, completions that died are resumed, and what came to nothing is removed: once when
it ends, and once more when the last of its URLs has died, since a URL that lives can bring something back. Multipart
uploads that no record knows are aborted, whatever the storage's own lifecycle does.

Any number of sweepers may run: the metadata service hands out each session for a while, and every action is safe to
repeat.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Final

import structlog

from services.runtime import ids, telemetry
from services.runtime.errors import MillraceError, NotFound
from services.upload import clearing
from services.upload.completion import Completion
from services.upload.kinds import UploadKind
from services.upload.ports import PendingUpload, Records, Storage, Sweep
from services.upload.session import SessionState

LEASE: Final = timedelta(seconds=60)
"""Longer than any action takes; one that fails is tried again after it."""

_BATCH: Final = 100
_CONCURRENCY: Final = 4
"""Half of what asks storage questions: whoever begins an upload meanwhile does not wait for us."""
_DRAIN_S: Final = 5.0
"""What is being looked after when the process is told to stop gets so long; the next sweeper goes on with it."""
_ASKED_AT_ONCE: Final = 100
"""Each is likely of another shard, which is a query of its own, and all must be answered within a call's time."""
_AGAIN_MIN: Final = timedelta(seconds=1)
_AGAIN_MAX: Final = timedelta(seconds=30)
_GRACE: Final = timedelta(hours=1)
"""A request that began just before its URL died may still end: the largest form takes so long over 12 Mbit/s."""

_log = structlog.get_logger(__name__)


class Action(Enum):
    """What is to be done for a session."""

    NOTHING = auto()
    TAKE_IN = auto()
    RESUME = auto()
    CLEAR = auto()
    CLEAR_INCOMING = auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, and when to look again: None for never."""

    action: Action
    again_in: timedelta | None


def decide(sweep: Sweep, url_ttl: timedelta) -> Decision:
    """What to do for a session. Pure.

    Args:
        sweep: the session, and since when it is as it is.
        url_ttl: how long its URLs live.
    """
    is_form = sweep.session.kind is UploadKind.FORM
    urls_die_in = url_ttl + _GRACE - sweep.in_state_for
    once_more = urls_die_in if urls_die_in > timedelta(0) else None
    match sweep.session.state:
        case SessionState.OPEN if is_form:
            # A file that takes long is looked for less often: found at most an eighth later than it took.
            return Decision(Action.TAKE_IN, min(max(sweep.in_state_for / 8, _AGAIN_MIN), _AGAIN_MAX))
        case SessionState.COMPLETING:
            return Decision(Action.TAKE_IN if is_form else Action.RESUME, LEASE)
        case SessionState.ABORTED:
            return Decision(Action.CLEAR, once_more)
        case SessionState.COMPLETED if sweep.media_failed:
            return Decision(Action.CLEAR, once_more if is_form else None)
        case SessionState.COMPLETED if is_form:
            return Decision(Action.CLEAR_INCOMING, once_more)
        case _:
            return Decision(Action.NOTHING, None)


class Sweeper:
    """Looks after uploads until it is stopped."""

    def __init__(
        self,
        storage: Storage,
        records: Records,
        completion: Completion,
        *,
        url_ttl: timedelta,
        interval_s: float,
        orphan_interval_s: float,
        orphan_age: timedelta,
    ) -> None:
        """Takes in what it works with.

        Args:
            storage: where the objects are.
            records: who hands out sessions.
            completion: completes and resumes them.
            url_ttl: how long URLs live.
            interval_s: time between two looks at what is due.
            orphan_interval_s: time between two looks at all multipart uploads of storage.
            orphan_age: a multipart upload that no record knows is left alone for so long.
        """
        self._storage = storage
        self._records = records
        self._completion = completion
        self._url_ttl = url_ttl
        self._interval_s = interval_s
        self._orphan_interval_s = orphan_interval_s
        self._orphan_age = orphan_age

    async def run(self, stop: asyncio.Event) -> None:
        """Looks until `stop` is set."""
        async with asyncio.TaskGroup() as group:
            looking = [
                group.create_task(self._repeat(self.sweep_due, self._interval_s, stop)),
                group.create_task(self._repeat(self.abort_orphans, self._orphan_interval_s, stop)),
            ]
            await stop.wait()
            await asyncio.wait(looking, timeout=_DRAIN_S)
            for task in looking:
                task.cancel()

    async def _repeat(self, look: Callable[[], Awaitable[int]], interval_s: float, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                found_count = await look()
            except MillraceError as error:
                found_count = 0
                _log.warning("sweep_failed", reason=error.reason, error=error.message)
            except Exception:  # whatever it is, the calls that this process answers are not to suffer
                found_count = 0
                _log.exception("sweep_failed")
            if found_count < _BATCH:
                with suppress(TimeoutError):
                    # Jitter spreads the looks of several processes.
                    await asyncio.wait_for(stop.wait(), interval_s * random.uniform(0.8, 1.2))  # noqa: S311 no secret

    async def sweep_due(self) -> int:
        """Looks after the sessions that are due, up to a batch; returns how many there were."""
        with telemetry.untraced():  # asked all the time; what is done then is traced
            due = await self._records.claim_sweeps(_BATCH, LEASE)
        slots = asyncio.Semaphore(_CONCURRENCY)
        async with asyncio.TaskGroup() as group:
            for sweep in due:
                group.create_task(self._isolated(sweep, slots))
        return len(due)

    async def _isolated(self, sweep: Sweep, slots: asyncio.Semaphore) -> None:
        """One session: what goes wrong with it does not keep the others waiting, and is tried again after its lease."""
        async with slots:
            try:
                await self._look_after(sweep)
            except MillraceError as error:
                _log.warning(
                    "upload_not_swept", media_id=sweep.session.media_id, reason=error.reason, error=error.message
                )
            except Exception:
                _log.exception("upload_not_swept", media_id=sweep.session.media_id)

    async def _look_after(self, sweep: Sweep) -> None:
        session, decision = sweep.session, decide(sweep, self._url_ttl)
        match decision.action:
            case Action.TAKE_IN:
                with telemetry.untraced():  # looked for all the time, found once
                    has_arrived = await self._storage.exists(session.incoming_key)
                if has_arrived:
                    await self._completion.take_in(session)
            case Action.RESUME:
                await self._completion.resume(session)
            case Action.CLEAR:
                await clearing.clear(self._storage, session)
            case Action.CLEAR_INCOMING:
                await self._storage.delete(session.incoming_key)
            case Action.NOTHING:
                pass
        with telemetry.untraced():
            await self._records.finish_sweep(sweep, decision.again_in)

    async def abort_orphans(self) -> int:
        """Aborts multipart uploads that are old and that no session under way calls its own; returns 0."""
        aborted_count = 0
        after: tuple[str, str] | None = ("", "")
        while after is not None:
            page, after = await self._storage.pending(after)
            aborted_count += await self._abort_orphans_of(page)
        if aborted_count:
            _log.info("orphans_aborted", count=aborted_count)
        return 0

    async def _abort_orphans_of(self, page: Sequence[PendingUpload]) -> int:
        oldest_spared = datetime.now(UTC) - self._orphan_age
        old = [pending for pending in page if pending.initiated_at < oldest_spared]
        named = {
            (media_id, pending.upload_id): pending
            for pending in old
            if (media_id := _media_of(pending.key)) is not None
        }
        orphans = await self._orphans_among([*named])
        # What has a key of another form is nobody's: nothing of ours begins such.
        strangers = [pending for pending in old if _media_of(pending.key) is None]
        doomed = [*strangers, *(pending for name, pending in named.items() if name in orphans)]
        return sum([await self._abort(pending) for pending in doomed])

    async def _orphans_among(self, named: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        orphans: set[tuple[str, str]] = set()
        for start in range(0, len(named), _ASKED_AT_ONCE):
            orphans |= set(await self._records.orphans(named[start : start + _ASKED_AT_ONCE]))
        return orphans

    async def _abort(self, pending: PendingUpload) -> bool:
        """One orphan: that storage does not let go of it spares none of the others."""
        try:
            await self._storage.abort(pending.key, pending.upload_id)
        except MillraceError as error:
            _log.warning("orphan_not_aborted", key=pending.key, reason=error.reason, error=error.message)
            return False
        return True


def _media_of(key: str) -> str | None:
    """The media whose original a key names; None for a key that nothing of ours makes."""
    name = key.partition("/")[2].rpartition("/")[0]
    try:
        media_id = ids.parse_media_id(name)
    except NotFound:
        return None
    return name if key == ids.original_key(media_id) else None
