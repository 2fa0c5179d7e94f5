"""What happens to media right now: one subscription of this process to the broker, handed on to whoever watches.

Watchers are woken, not queued for: of each task only the latest announcement is kept, so a slow watcher costs no
memory and misses nothing that matters. All of it is a hint; the tables are the truth and watchers read them again now
and then.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Final, TypeAlias

import structlog
from google.protobuf.message import DecodeError

from gateway.progress import Announcement
from media.v1 import events_pb2
from services.runtime.bus import Bus
from services.runtime.errors import ResourceExhausted

_REMEMBERED_MEDIA: Final = 5_000
"""Media whose latest announcements are kept for those who come later; far more than are encoded at once."""

_MediaEvent: TypeAlias = (
    events_pb2.MediaUploaded
    | events_pb2.MediaPlanned
    | events_pb2.MediaEncoded
    | events_pb2.MediaPublished
    | events_pb2.MediaFailed
)
_EVENTS: Final[dict[str, type[_MediaEvent]]] = {
    "media.uploaded": events_pb2.MediaUploaded,
    "media.planned": events_pb2.MediaPlanned,
    "media.encoded": events_pb2.MediaEncoded,
    "media.published": events_pb2.MediaPublished,
    "media.failed": events_pb2.MediaFailed,
}
_FINAL: Final = {"media.published", "media.failed"}

_log = structlog.get_logger(__name__)


class Watcher:
    """One who watches one media; made by `Feed.watch`."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._state_changed = False

    def wake(self, *, state_changed: bool) -> None:
        """Says that there is something new."""
        self._state_changed = self._state_changed or state_changed
        self._news.set()

    async def wait(self, timeout_s: float) -> bool:
        """Waits for something new, at most so long; True when the media's state may have changed."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        changed, self._state_changed = self._state_changed, False
        return changed


class Feed:
    """Announcements and events of all media, by media."""

    def __init__(self, max_watchers: int) -> None:
        self._max_watchers = max_watchers
        self._watchers: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._count = 0
        self._latest: OrderedDict[str, dict[str, Announcement]] = OrderedDict()

    async def follow(self, bus: Bus) -> None:
        """Listens until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(bus, "progress.*"))
            group.create_task(self._listen(bus, "media.*"))

    def latest(self, media_id: str) -> Sequence[Announcement]:
        """What was last said of each task of a media, as far as it was heard here."""
        return tuple(self._latest.get(media_id, {}).values())

    @contextmanager
    def watch(self, media_id: str) -> Iterator[Watcher]:
        """Watches a media as long as the block lasts.

        Raises:
            ResourceExhausted: too many watch already.
        """
        if self._count >= self._max_watchers:
            raise ResourceExhausted(
                "too many event streams are open", reason="TOO_MANY_STREAMS", details={"retry_after_s": "10"}
            )
        watcher = Watcher()
        self._watchers[media_id].add(watcher)
        self._count += 1
        try:
            yield watcher
        finally:
            self._count -= 1
            self._watchers[media_id].discard(watcher)
            if not self._watchers[media_id]:
                del self._watchers[media_id]

    def wake_all(self) -> None:
        """Wakes everyone, so that they notice that the process is about to end."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.wake(state_changed=False)

    def take(self, subject: str, data: bytes) -> None:
        """Takes one message of the broker; what does not parse is somebody else's."""
        try:
            if subject.startswith("progress."):
                self._take_progress(events_pb2.TaskProgress.FromString(data))
            elif (kind := _EVENTS.get(subject)) is not None:
                self._take_event(subject, kind.FromString(data).media_id)
        except DecodeError:
            _log.warning("message_not_understood", subject=subject)

    async def _listen(self, bus: Bus, subject: str) -> None:
        async with aclosing(bus.listen(subject)) as messages:
            async for heard, data in messages:
                self.take(heard, data)

    def _take_progress(self, said: events_pb2.TaskProgress) -> None:
        of_media = self._latest.setdefault(said.media_id, {})
        of_media[said.task_id] = Announcement(said.task_id, said.label, said.fraction, said.cost_share)
        self._latest.move_to_end(said.media_id)
        if len(self._latest) > _REMEMBERED_MEDIA:
            self._latest.popitem(last=False)
        self._wake(said.media_id, state_changed=False)

    def _take_event(self, subject: str, media_id: str) -> None:
        self._wake(media_id, state_changed=True)
        if subject in _FINAL:
            self._latest.pop(media_id, None)

    def _wake(self, media_id: str, *, state_changed: bool) -> None:
        for watcher in self._watchers.get(media_id, ()):
            watcher.wake(state_changed=state_changed)
