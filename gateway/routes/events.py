"""Server-sent events of one media: its state and progress until it is published or failed."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel

from gateway import models, views
from gateway.auth import Caller
from gateway.dependencies import MediaId, Parts, ThisProcess, WhoAsks
from gateway.feed import Watcher
from gateway.progress import Progress
from gateway.routes.documented import problems
from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime.errors import DeadlineExceeded, Unavailable
from services.runtime.grpc_client import call

HEARTBEAT_S: Final = 15.0
"""Proxies close connections that say nothing for 30 to 60 s."""

REREAD_S: Final = 4.0
"""The broker's word may get lost, so the table is asked as well."""

_PAUSE_S: Final = 0.2
"""Between events: five a second look fluent, and a burst of announcements becomes one event."""

_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_EXAMPLE: Final = (
    'event: progress\ndata: {"fraction":0.42,"tasks":[{"label":"video","fraction":0.31},'
    '{"label":"audio","fraction":1.0}]}\n\n'
)
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "`state` events with a media, `progress` events with a fraction and one for each kind of work",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    },
    **problems(404, 422, 429),
}

router = APIRouter(tags=["media"])


async def _watcher(media_id: MediaId, here: ThisProcess) -> AsyncIterator[Watcher]:
    """Watches from before the first look at the table until the answer has ended, however that comes about."""
    with here.feed.watch(media_id) as watcher:
        yield watcher


@router.get(
    "/v1/media/{media_id}/events",
    summary="Follow a media",
    response_class=StreamingResponse,
    responses=_RESPONSES,
)
async def follow_media(
    media_id: MediaId, caller: WhoAsks, here: ThisProcess, watcher: Annotated[Watcher, Depends(_watcher)]
) -> StreamingResponse:
    """A stream of server-sent events that begins with the state and ends once the media is final.

    Fractions never fall. Comments come every 15 s. When the stream ends before a final state, connect again.
    """
    stream = _Stream(here, caller, media_id)
    first = await stream.read()
    return StreamingResponse(stream.events(first, watcher), media_type="text/event-stream", headers=dict(_HEADERS))


class _Stream:
    """One client that follows one media."""

    def __init__(self, here: Parts, caller: Caller, media_id: str) -> None:
        self._here = here
        self._caller = caller
        self._media_id = media_id
        self._progress = Progress()
        self._shown = ""
        self._sent_at_s = 0.0

    async def read(self) -> media_pb2.Media:
        """The media as the tables have it."""
        request = pb.GetMediaRequest(user_id=self._caller.user_id, media_id=self._media_id)
        return (await call(self._here.clients.metadata.GetMedia, request)).media

    async def events(self, first: media_pb2.Media, watcher: Watcher) -> AsyncIterator[bytes]:
        """The stream, from the state that was read after the watching had begun."""
        media, read_at_s = first, time.monotonic()
        self._hear()
        yield self._state(media)
        while views.STATUSES[media.status] not in views.FINAL and not self._is_over():
            if await self._wait(watcher) or time.monotonic() - read_at_s >= REREAD_S:
                read_at_s = time.monotonic()
                if (latest := await self._reread()) is not None and latest != media:
                    media = latest
                    yield self._state(media)
            if event := self._progress_event() or self._heartbeat():
                yield event

    async def _wait(self, watcher: Watcher) -> bool:
        """Waits for news at most until the next look at the table; True when the state may have changed."""
        changed = await watcher.wait(REREAD_S)
        await asyncio.sleep(_PAUSE_S)
        self._hear()
        return changed

    def _hear(self) -> None:
        for announcement in self._here.feed.latest(self._media_id):
            self._progress.hear(announcement)

    async def _reread(self) -> media_pb2.Media | None:
        try:
            return await self.read()
        except (Unavailable, DeadlineExceeded):
            return None  # the next look will tell

    def _state(self, media: media_pb2.Media) -> bytes:
        return self._event("state", views.media(media, self._progress, self._here.addresses))

    def _progress_event(self) -> bytes | None:
        event = models.ProgressEvent(
            fraction=round(self._progress.fraction, 4),
            tasks=[
                models.TaskFraction(label=one.label, fraction=round(one.fraction, 4)) for one in self._progress.tasks
            ],
        )
        shown = event.model_dump_json()
        if shown == self._shown or not (event.tasks or event.fraction):
            return None
        self._shown = shown
        return self._event("progress", event)

    def _heartbeat(self) -> bytes | None:
        if time.monotonic() - self._sent_at_s < HEARTBEAT_S:
            return None
        self._sent_at_s = time.monotonic()
        return b": still here\n\n"

    def _event(self, name: str, data: BaseModel) -> bytes:
        self._sent_at_s = time.monotonic()
        return format_sse_event(event=name, data_str=data.model_dump_json())

    def _is_over(self) -> bool:
        return self._here.stopping.is_set() or datetime.now(UTC) >= self._caller.expires_at
