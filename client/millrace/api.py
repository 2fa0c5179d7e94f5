"""The gateway's HTTP API as an asynchronous client.

    async with Client("https://media.example.com", token) as client:
        media = await upload(client, Path("clip.mp4"))
        media = await wait_until_published(client, media.media_id)

The token is sent to the gateway only; presigned URLs need none, and object storage never sees it.
"""

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx

from millrace.backoff import Backoff
from millrace.checksums import ChecksumAlgorithm
from millrace.errors import NotFound, UnexpectedAnswer, problem_from
from millrace.models import (
    Media,
    MediaPage,
    SignedParts,
    Status,
    StoredParts,
    TaskProgress,
    Update,
    UploadedPart,
    UploadSession,
)
from millrace.sse import EventParser, ServerEvent
from millrace.storage import Storage
from millrace.wire import Wire

A = TypeVar("A")
T = TypeVar("T")

_EVENT_STREAM = "text/event-stream"
_COMPLETE_TIMEOUT_S = 120.0  # storage may take its time to join thousands of parts

# The gateway's heartbeat comes every 15 s; three missed ones mean that the connection is dead.
_STREAM_TIMEOUT = httpx.Timeout(45.0, connect=10.0)
# Between two streams, and where there is none at all, the state is polled.
_POLL = Backoff(base_s=0.5, cap_s=2.0)


class Client:
    """One user at one gateway; an asynchronous context manager.

    Every method may raise `ProblemError` (and its subclasses), `NetworkError` and `UnexpectedAnswer`; each call is
    retried by `backoff` before it does. `traceparent` joins a call to a trace; without it the gateway begins one.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        backoff: Backoff | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            base_url: the gateway, for instance `https://media.example.com`.
            token: bearer token; its `sub` is the user.
            backoff: how calls and parts are retried.
            transport: replaces the network, towards gateway and storage alike.
        """
        backoff = backoff or Backoff()
        self._wire = Wire(base_url, token, backoff=backoff, transport=transport)
        self.storage = Storage(backoff=backoff, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._wire.aclose()
        await self.storage.aclose()

    @property
    def base_url(self) -> str:
        """The gateway's URL, without a slash at its end."""
        return self._wire.base_url

    async def initiate(
        self,
        *,
        filename: str,
        content_type: str,
        size_bytes: int,
        idempotency_key: str,
        checksum_algorithm: ChecksumAlgorithm | None = None,
        checksum: str | None = None,
        traceparent: str | None = None,
    ) -> UploadSession:
        """Begins an upload; a repeat with the same key answers as the first one did, whose URLs may be old by then.

        Args:
            filename: name for display.
            content_type: `image/…`, `video/…`, or `application/octet-stream` for unknown.
            size_bytes: greater than zero.
            idempotency_key: of the caller's choice, for this upload alone.
            checksum_algorithm: what every part's checksum is made by; None for parts without one.
            checksum: of the whole file in base64, where it is known already.
            traceparent: joins the call to a trace.
        """
        body = await self._wire.call(
            "POST",
            "/v1/initiate-upload",
            json=_given(
                filename=filename,
                content_type=content_type,
                size_bytes=size_bytes,
                checksum_algorithm=checksum_algorithm,
                checksum=checksum,
            ),
            headers={**_keyed(idempotency_key), **_traced(traceparent)},
        )
        return _read(UploadSession.from_json, body)

    async def sign_parts(
        self,
        media_id: str,
        part_numbers: Iterable[int],
        *,
        checksums: Iterable[str] = (),
        traceparent: str | None = None,
    ) -> SignedParts:
        """Signs parts, or the same ones afresh.

        Args:
            media_id: of the upload.
            part_numbers: 1 to 1,000 distinct ones.
            checksums: in base64, one for each number in the same order; only where the upload has an algorithm.
            traceparent: joins the call to a trace.
        """
        body = await self._wire.call(
            "POST",
            f"/v1/uploads/{_id(media_id)}/sign-parts",
            json=_given(part_numbers=[*part_numbers], checksums=[*checksums] or None),
            headers=_traced(traceparent),
        )
        return _read(SignedParts.from_json, body)

    async def list_parts(self, media_id: str, *, traceparent: str | None = None) -> StoredParts:
        """What storage holds of an open upload."""
        body = await self._wire.call("GET", f"/v1/uploads/{_id(media_id)}/parts", headers=_traced(traceparent))
        return _read(StoredParts.from_json, body)

    async def complete(
        self,
        media_id: str,
        parts: Iterable[UploadedPart],
        *,
        checksum: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> Media:
        """Ends an upload whose parts are all stored; safe to repeat. The answer is processing, or further.

        Args:
            media_id: of the upload.
            parts: every part of the file, each with its checksum where the upload has an algorithm.
            checksum: of the whole file in base64, by that algorithm; what arrived is compared with it.
            idempotency_key: of the caller's choice; a repeat with the same parts gets the first answer again.
            traceparent: joins the call to a trace.
        """
        ordered = sorted(parts, key=lambda part: part.part_number)
        claimed = [
            _given(part_number=part.part_number, etag=part.etag, checksum=part.checksum or None) for part in ordered
        ]
        body = await self._wire.call(
            "POST",
            "/v1/complete-upload",
            json=_given(media_id=media_id, parts=claimed, checksum=checksum),
            headers={**_keyed(idempotency_key), **_traced(traceparent)},
            timeout_s=_COMPLETE_TIMEOUT_S,
        )
        return _read(Media.from_json, body)

    async def abort(self, media_id: str, *, traceparent: str | None = None) -> None:
        """Gives up an open upload; what storage holds of it is deleted. Safe to repeat."""
        await self._wire.call("DELETE", f"/v1/uploads/{_id(media_id)}", headers=_traced(traceparent))

    async def get(self, media_id: str, *, traceparent: str | None = None) -> Media:
        """One media of this user.

        Raises:
            NotFound: unknown, or another user's.
        """
        body = await self._wire.call("GET", f"/v1/media/{_id(media_id)}", headers=_traced(traceparent))
        return _read(Media.from_json, body)

    async def list(self, *, status: Status | None = None, page_size: int = 100) -> AsyncGenerator[Media, None]:
        """This user's media, newest first, page by page as they are asked for."""
        params = {"page_size": str(page_size)}
        if status is not None:
            params["status"] = status.value
        while True:
            page = _read(MediaPage.from_json, await self._wire.call("GET", "/v1/media", params=params))
            for media in page.media:
                yield media
            if not page.next_page_token:
                return
            params["page_token"] = page.next_page_token

    async def watch(self, media_id: str, *, traceparent: str | None = None) -> AsyncGenerator[Update, None]:
        """Follows a media until it is final; the last update says published or failed.

        Server-sent events while the gateway sends them; the state is asked for before, after each broken stream,
        and every 2 s where there is no stream at all. The fraction never falls.

        Raises:
            NotFound: unknown, or another user's.
        """
        update = Update.of(await self.get(media_id, traceparent=traceparent))
        yield update
        silences = 0
        while not update.media.status.is_final:
            silences += 1
            with contextlib.suppress(httpx.TransportError):
                async with contextlib.aclosing(self._events(media_id, _traced(traceparent))) as events:
                    async for event in events:
                        silences = 1
                        update = _read(partial(_after, update), event)
                        yield update
                        if update.media.status.is_final:
                            return
            await _POLL.pause(silences)
            update = update.with_state(await self.get(media_id, traceparent=traceparent))
            yield update

    async def _events(self, media_id: str, headers: Mapping[str, str]) -> AsyncGenerator[ServerEvent, None]:
        """One stream of events; ends at once where there is none, so that its caller polls instead."""
        headers = {"Accept": "text/event-stream", **headers}
        path = f"/v1/media/{_id(media_id)}/events"
        async with self._wire.stream(path, headers=headers, timeout=_STREAM_TIMEOUT) as response:
            if response.status_code in {401, 403}:
                await response.aread()
                raise problem_from(response)
            if response.status_code != 200 or not response.headers.get("content-type", "").startswith(_EVENT_STREAM):
                return
            parser = EventParser()
            async for piece in response.aiter_bytes():
                for event in parser.feed(piece):
                    yield event


def _after(update: Update, event: ServerEvent) -> Update:
    """What is known after an event; events that this version does not know change nothing."""
    if event.name == "state":
        return update.with_state(Media.from_json(json.loads(event.data)))
    if event.name == "progress":
        body = json.loads(event.data)
        return update.with_progress(float(body["fraction"]), [*map(TaskProgress.from_json, body.get("tasks") or ())])
    return update


def _read(build: Callable[[A], T], value: A) -> T:
    try:
        return build(value)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the gateway's answer is not what it promises: {error!r}") from error


def _given(**members: Any) -> dict[str, Any]:
    """A JSON object of those members that have a value."""
    return {name: value for name, value in members.items() if value is not None}


def _keyed(idempotency_key: str | None) -> dict[str, str]:
    """The key as the IETF draft has it: a string of structured fields (RFC 8941 §3.3.3)."""
    return {"Idempotency-Key": f'"{idempotency_key}"'} if idempotency_key else {}


def _traced(traceparent: str | None) -> dict[str, str]:
    return {"traceparent": traceparent} if traceparent else {}


def _id(media_id: str) -> str:
    """The identifier as part of a path; whatever is no UUID cannot exist, and could lead to another path.

    Raises:
        NotFound: it is no UUID.
    """
    try:
        return str(UUID(media_id))
    except ValueError:
        raise NotFound(type="about:blank", title="Not Found", status=404, detail=f"no such media: {media_id}") from None
