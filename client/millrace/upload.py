"""Uploading one file, as a few named steps.

    async with Client(url, token) as client:
        media = await upload(client, Path("clip.mp4"), on_progress=show)

Nothing of the file passes through the gateway: it signs URLs, and the parts go straight to object storage.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from uuid import uuid4

from millrace.api import Client
from millrace.errors import FileUnusable, MediaFailed, MillraceError, NetworkError, StorageRefused
from millrace.models import Media, Status, Update, UploadedPart, UploadSession
from millrace.parts import PartRange, Source, content_type_of, cut, read_part
from millrace.signing import PartUrls
from millrace.storage import Transient, UrlRefused
from millrace.trace import new_traceparent

DEFAULT_PARALLEL = 4
"""Parts in flight at once."""

_FRESH_URLS = 3  # a URL refused more often than this is not refused for its age
OnProgress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all; the first falls when a part has to be sent again."""


async def upload(
    client: Client,
    path: str | PathLike[str],
    *,
    content_type: str | None = None,
    parallel: int = DEFAULT_PARALLEL,
    on_progress: OnProgress | None = None,
    traceparent: str | None = None,
) -> Media:
    """Uploads a file; memory stays flat whatever its size.

    Args:
        client: one user at one gateway.
        path: the file; it must not change meanwhile.
        content_type: `image/…` or `video/…`; guessed from the name when left out.
        parallel: parts in flight at once, at least 1.
        on_progress: told of every piece sent.
        traceparent: joins the upload to a trace; a new one is begun when left out.

    Returns:
        The media, accepted for processing.

    Raises:
        FileUnusable: missing, empty, of unknown type, or changed meanwhile.
        ProblemError: the gateway refused; its subclasses say why.
        StorageRefused: object storage refused a part for good.
        NetworkError: gateway or storage could not be reached, after every retry.
    """
    path = Path(path)
    source = await asyncio.to_thread(Source.of, path)
    content_type = content_type or content_type_of(path)
    traceparent = traceparent or new_traceparent()
    session = await client.initiate(
        filename=path.name,
        content_type=content_type,
        size_bytes=source.size_bytes,
        idempotency_key=str(uuid4()),
        traceparent=traceparent,
    )
    transfer = _Transfer(client, source, session, traceparent, on_progress)
    async with _aborted_when_hopeless(client, session.media_id, traceparent):
        sent = await transfer.send(already=(), parallel=parallel)
    return await client.complete(session.media_id, sent, traceparent=traceparent)


async def wait_until_published(
    client: Client, media_id: str, *, on_update: Callable[[Update], None] | None = None, traceparent: str | None = None
) -> Media:
    """Waits until a media is published; the service gives every media a deadline, so this ends.

    Raises:
        MediaFailed: it ended as failed instead.
        NotFound: unknown, or another user's.
        NetworkError: the gateway could not be reached for longer than the retries last.
    """
    last: Update | None = None
    async for last in client.watch(media_id, traceparent=traceparent):
        if on_update:
            on_update(last)
    if last is None or last.media.status is not Status.PUBLISHED:
        raise MediaFailed(last.media if last else await client.get(media_id))
    return last.media


@dataclass(slots=True)
class _Transfer:
    """The parts of one file on their way to storage."""

    client: Client
    source: Source
    session: UploadSession
    traceparent: str
    on_progress: OnProgress | None
    sent_bytes: int = 0

    async def send(self, *, already: Collection[UploadedPart], parallel: int) -> list[UploadedPart]:
        """Sends every part that storage does not hold yet.

        Args:
            already: parts that storage confirmed earlier; they are not sent again.
            parallel: parts in flight at once.

        Returns:
            All parts of the file, those of `already` included.
        """
        stored = {part.part_number: part for part in already}
        ranges = cut(self.source.size_bytes, self.session.part_size_bytes)
        pending = [part for part in ranges if part.part_number not in stored]
        self._count(sum(part.size_bytes for part in already))
        urls = PartUrls(
            self.client,
            self.session.media_id,
            [part.part_number for part in pending],
            self.session.first_window,
            traceparent=self.traceparent,
        )
        queue = iter(pending)
        with _first_error_alone():
            async with asyncio.TaskGroup() as group:
                senders = [group.create_task(self._send_from(queue, urls)) for _ in range(min(parallel, len(pending)))]
        return [*stored.values(), *(part for sender in senders for part in sender.result())]

    async def _send_from(self, queue: Iterator[PartRange], urls: PartUrls) -> list[UploadedPart]:
        """Sends parts one after the other until the queue, which several senders share, is empty."""
        sent = []
        for part in queue:
            etag = await self._send_part(part, urls)
            urls.done(part.part_number)
            sent.append(UploadedPart(part.part_number, etag, part.size_bytes))
        return sent

    async def _send_part(self, part: PartRange, urls: PartUrls) -> str:
        """Sends one part until storage confirms it; returns its entity tag."""
        backoff = self.client.storage.backoff
        failures = refusals = 0
        while True:
            url = await urls.url_of(part.part_number)
            try:
                return await self._try_part(part, url)
            except UrlRefused as error:
                refusals += 1
                if refusals > _FRESH_URLS:
                    raise StorageRefused(
                        f"object storage refuses every URL of part {part.part_number}: {error}", status=403, code=""
                    ) from error
                urls.refuse(part.part_number, url)
            except Transient as error:
                failures += 1
                if failures >= backoff.attempts:
                    raise NetworkError(f"object storage does not take part {part.part_number}: {error}") from error
                await backoff.pause(failures, at_least_s=error.wait_s)

    async def _try_part(self, part: PartRange, url: str) -> str:
        """Sends one part once; what a failed try had counted is taken back."""
        counted_bytes = 0

        async def counted() -> AsyncGenerator[bytes, None]:
            nonlocal counted_bytes
            async with contextlib.aclosing(read_part(self.source, part)) as pieces:
                async for piece in pieces:
                    yield piece
                    counted_bytes += len(piece)
                    self._count(len(piece))

        try:
            return await self.client.storage.put(url, counted(), part.size_bytes)
        except BaseException:
            self._count(-counted_bytes)
            raise

    def _count(self, more_bytes: int) -> None:
        self.sent_bytes += more_bytes
        if self.on_progress:
            self.on_progress(self.sent_bytes, self.source.size_bytes)


@contextlib.asynccontextmanager
async def _aborted_when_hopeless(client: Client, media_id: str, traceparent: str) -> AsyncIterator[None]:
    """Lets storage drop what it holds when the upload can never be finished.

    After a lost network or an interruption it stays open instead: what storage confirmed is still good.
    """
    try:
        yield
    except (FileUnusable, StorageRefused):
        with contextlib.suppress(MillraceError):
            await client.abort(media_id, traceparent=traceparent)
        raise


@contextlib.contextmanager
def _first_error_alone() -> Iterator[None]:
    """Raises the first error of a task group as itself: the others were only cancelled because of it."""
    try:
        yield
    except ExceptionGroup as group:
        first = group.exceptions[0]
        raise first from first.__cause__
