"""Uploading one file, as a few named steps.

    async with Client(url, token) as client:
        media = await upload(client, Path("clip.mp4"), on_progress=show)

Nothing of the file passes through the gateway: it signs URLs, and the parts go straight to object storage. With a
folder for state files, an upload that was interrupted, even by `kill -9`, goes on where storage says it stopped.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Final
from uuid import uuid4

from millrace.api import Client
from millrace.checksums import ChecksumAlgorithm, checksum_of_file, encoded
from millrace.errors import (
    AlreadyUploading,
    FileUnusable,
    LimitReached,
    MediaFailed,
    MillraceError,
    NotFound,
    Refused,
    StateUnusable,
    StorageRefused,
)
from millrace.models import Media, SignedParts, Status, Update, UploadedPart
from millrace.parts import Source, content_type_of
from millrace.state import NoState, StateStore, UploadRequest, UploadState, state_file
from millrace.trace import new_traceparent
from millrace.transfer import OnProgress, Transfer, first_error_alone

DEFAULT_PARALLEL: Final = 4
"""Parts in flight at once."""

SMALL_BYTES: Final = 10 << 20
"""Up to this size a file's checksum is computed before its upload begins: one call less, and most take a single PUT."""

_NO_URLS: Final = SignedParts((), datetime.fromtimestamp(0, UTC))


async def upload(
    client: Client,
    path: str | PathLike[str],
    *,
    content_type: str | None = None,
    parallel: int = DEFAULT_PARALLEL,
    checksum: ChecksumAlgorithm | None = ChecksumAlgorithm.CRC32C,
    state_dir: str | PathLike[str] | None = None,
    resume: bool = True,
    keep_state: bool = False,
    on_progress: OnProgress | None = None,
    traceparent: str | None = None,
) -> Media:
    """Uploads a file; memory stays flat whatever its size.

    Args:
        client: one user at one gateway.
        path: the file; it must not change meanwhile.
        content_type: `image/…`, `video/…`, or `application/octet-stream` for unknown; left out, the name tells.
        parallel: parts in flight at once, at least 1.
        checksum: what storage verifies every part by, and the service the whole file; None for neither.
        state_dir: folder for a small state file while the upload is not complete; an upload of the same, unchanged file
            that was interrupted goes on from it. None keeps none.
        resume: whether to go on; False gives the interrupted upload up and begins anew.
        keep_state: whether the state file stays once the media is accepted, until `forget`: an upload of the same file
            then answers with the same media. For whoever has more to do that may be interrupted.
        on_progress: told of every piece sent, first of what storage holds already.
        traceparent: joins the upload to a trace; a new one is begun when left out.

    Returns:
        The media, accepted for processing.

    Raises:
        FileUnusable: missing, empty, of unknown type, or changed meanwhile.
        AlreadyUploading: another process uploads this file, with the same folder for state files.
        StateUnusable: the folder for state files cannot be used.
        ProblemError: the gateway refused; its subclasses say why.
        StorageRefused: object storage refused a part for good.
        NetworkError: gateway or storage could not be reached, after every retry.
    """
    path = Path(path)
    source = await asyncio.to_thread(Source.of, path)
    content_type = content_type or content_type_of(path)
    is_small = checksum is not None and source.size_bytes <= SMALL_BYTES
    whole = await checksum_of_file(source, checksum) if checksum and is_small else None
    request = UploadRequest(
        _sendable_name(path), content_type, source.size_bytes, checksum, encoded(whole) if whole else None
    )
    with _store_for(client, source, state_dir) as store:
        one = _Upload(
            client, source, request, checksum, whole, store, parallel, on_progress, traceparent or new_traceparent()
        )
        media = await one.media(resume=resume)
        if not keep_state:
            await asyncio.to_thread(store.clear)
        return media


async def forget(client: Client, path: str | PathLike[str], state_dir: str | PathLike[str]) -> None:
    """Removes the state file that `upload` was told to keep; the file itself may be gone or changed by now."""
    with contextlib.suppress(FileUnusable, AlreadyUploading, StateUnusable):
        source = await asyncio.to_thread(Source.of, Path(path))
        with _store_for(client, source, state_dir) as store:
            await asyncio.to_thread(store.clear)


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


@dataclass(frozen=True, slots=True)
class _Opened:
    """An upload that takes parts, and those that storage holds of it."""

    state: UploadState
    part_size_bytes: int
    first_window: SignedParts
    held: tuple[UploadedPart, ...] = ()


@dataclass(frozen=True, slots=True)
class _Upload:
    """One file's way to a media. At whatever step it is killed, the next run finds in the state where to go on."""

    client: Client
    source: Source
    request: UploadRequest
    algorithm: ChecksumAlgorithm | None
    whole: bytes | None
    store: StateStore
    parallel: int
    on_progress: OnProgress | None
    traceparent: str

    async def media(self, *, resume: bool) -> Media:
        """The media: of the upload that an earlier run left, if it can go on, or else of a new one."""
        former = await asyncio.to_thread(self.store.load)
        if former and not (resume and former.request == self.request):
            await self._give_up(former.media_id)
            former = None
        media = await self._outcome_of(former) if former else None
        if media and self.on_progress:
            self.on_progress(self.source.size_bytes, self.source.size_bytes)
        if media is None:
            opened = await self._reopened(former) if former else None
            media = await self._sent(opened or await self._opened(UploadState(self.request)))
        return media

    async def _outcome_of(self, former: UploadState) -> Media | None:
        """The media of an upload that an earlier run completed, or began to; None where it did not come so far."""
        try:
            if former.parts:
                return await self._completed(former)
        except LimitReached:
            raise
        except Refused:  # the upload itself says in the next step what is possible
            pass
        if not former.media_id:
            return None
        with contextlib.suppress(NotFound):
            media = await self.client.get(former.media_id, traceparent=self.traceparent)
            if media.status in {Status.PROCESSING, Status.PUBLISHED}:
                return media
        return None

    async def _reopened(self, former: UploadState) -> _Opened | None:
        """The upload of an earlier run with what storage confirms of it; None where it is over."""
        if not former.media_id:
            former = (await self._opened(former)).state
        try:
            stored = await self.client.list_parts(former.media_id, traceparent=self.traceparent)
        except NotFound:
            return None
        except Refused as refusal:
            if refusal.kind == "upload-completing":
                raise
            return None
        return _Opened(former, stored.part_size_bytes, _NO_URLS, stored.parts)

    async def _opened(self, state: UploadState) -> _Opened:
        """A new upload, or the one that was begun under the state's key; the key is on disk before it is used."""
        await asyncio.to_thread(self.store.save, state)
        session = await self.client.initiate(
            filename=self.request.filename,
            content_type=self.request.content_type,
            size_bytes=self.request.size_bytes,
            checksum_algorithm=self.algorithm,
            checksum=self.request.checksum,
            idempotency_key=state.initiate_key,
            traceparent=self.traceparent,
        )
        state = replace(state, media_id=session.media_id)
        await asyncio.to_thread(self.store.save, state)
        return _Opened(state, session.part_size_bytes, session.first_window)

    async def _sent(self, opened: _Opened) -> Media:
        """Sends what storage does not hold, and completes."""
        transfer = Transfer(
            self.client,
            self.source,
            opened.state.media_id,
            opened.part_size_bytes,
            algorithm=self.algorithm,
            first_window=opened.first_window,
            traceparent=self.traceparent,
            on_progress=self.on_progress,
        )
        if self.whole and self.source.size_bytes <= opened.part_size_bytes:
            transfer.knows(1, self.whole)
        async with self._aborted_when_hopeless(opened.state.media_id):
            with first_error_alone():
                async with asyncio.TaskGroup() as group:
                    whole = group.create_task(self._whole_sha256())
                    sending = group.create_task(transfer.send(opened.held, parallel=self.parallel))
        checksum = self.whole or whole.result()
        if self.algorithm is ChecksumAlgorithm.CRC32C:
            checksum = transfer.whole_crc32c()
        state = replace(
            opened.state,
            parts=tuple(sending.result()),
            checksum=encoded(checksum) if checksum else None,
            complete_key=str(uuid4()),  # other parts are another request, even where an earlier one was refused
        )
        await asyncio.to_thread(self.store.save, state)
        return await self._completed(state)

    async def _whole_sha256(self) -> bytes | None:
        """No way leads from the parts' SHA-256 to the whole's: the file is read once more, beside the sending."""
        if self.algorithm is ChecksumAlgorithm.SHA256 and self.whole is None:
            return await checksum_of_file(self.source, self.algorithm)
        return None

    async def _completed(self, state: UploadState) -> Media:
        return await self.client.complete(
            state.media_id,
            state.parts,
            checksum=state.checksum,
            idempotency_key=state.complete_key,
            traceparent=self.traceparent,
        )

    async def _give_up(self, media_id: str) -> None:
        """Lets storage drop what it holds, as far as that can be reached; the service drops it later anyway."""
        if media_id:
            with contextlib.suppress(MillraceError):
                await self.client.abort(media_id, traceparent=self.traceparent)
        await asyncio.to_thread(self.store.clear)

    @contextlib.asynccontextmanager
    async def _aborted_when_hopeless(self, media_id: str) -> AsyncIterator[None]:
        """Gives the upload up when it can never be finished.

        After a lost network or an interruption it stays open instead: what storage confirmed is still good.
        """
        try:
            yield
        except (FileUnusable, StorageRefused):
            await self._give_up(media_id)
            raise


@contextlib.contextmanager
def _store_for(client: Client, source: Source, state_dir: str | PathLike[str] | None) -> Iterator[StateStore]:
    if state_dir is None:
        yield NoState()
        return
    with state_file(Path(state_dir), client.base_url, source) as store:
        yield store


def _sendable_name(path: Path) -> str:
    """The file's name as text; bytes of it that are no text become replacement characters."""
    return os.fsencode(path.name).decode("utf-8", "replace")
