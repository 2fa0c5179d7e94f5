"""The parts of one file on their way to storage: computed and signed a few ahead of those that are being sent.

    file ──checksums──> sign-parts ──> [a few ready parts] ──> senders, several at a time ──> storage

The queue between is short, so memory and the age of URLs do not grow with the file, and the next parts are ready
when a sender is. Reading twice, once for the checksum and once for the network, costs less than keeping parts in
memory: the second read comes from the page cache.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from millrace.api import Client
from millrace.checksums import ChecksumAlgorithm, checksum_of, encoded, joined_crc32c
from millrace.errors import FileUnusable, NetworkError, StorageRefused, UnexpectedAnswer
from millrace.models import PresignedPart, SignedParts, UploadedPart
from millrace.parts import PartBody, PartRange, Source, cut
from millrace.storage import AlreadyThere, Damaged, Transient, UrlRefused

OnProgress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all; the first falls when a part has to be sent again."""

_FIRST_BATCH_PARTS: Final = 4  # what the first sender waits for
_BATCH_PARTS: Final = 16  # a call costs much the same for one part and for some, and their checksums are soon computed
_FRESH_URLS: Final = 3  # a URL refused more often than this is not refused for its age
_MARGIN: Final = timedelta(seconds=30)  # a URL that ends sooner is signed afresh: it counts when the request arrives


@dataclass(frozen=True, slots=True)
class _Ready:
    """A part with all that sending it takes."""

    part: PartRange
    signed: PresignedPart
    expires_at: datetime

    @property
    def is_stale(self) -> bool:
        return self.expires_at - datetime.now(UTC) < _MARGIN


class Transfer:
    """Sends a file's parts, and knows the checksums of all of them afterwards."""

    def __init__(
        self,
        client: Client,
        source: Source,
        media_id: str,
        part_size_bytes: int,
        *,
        algorithm: ChecksumAlgorithm | None,
        first_window: SignedParts,
        traceparent: str,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Sends nothing yet.

        Args:
            client: one user at one gateway.
            source: the file.
            media_id: of the upload.
            part_size_bytes: how the file is cut.
            algorithm: of the parts' checksums; None for parts without one.
            first_window: URLs that came with the upload; may be empty.
            traceparent: of the upload.
            on_progress: told of every piece sent.
        """
        self._client = client
        self._source = source
        self._media_id = media_id
        self._algorithm = algorithm
        self._first_window = {part.part_number: part for part in first_window.parts}
        self._first_expires_at = first_window.expires_at
        self._traceparent = traceparent
        self._on_progress = on_progress
        self._ranges = cut(source.size_bytes, part_size_bytes)
        self._checksums: dict[int, bytes] = {}
        self._sent_bytes = 0

    def knows(self, part_number: int, checksum: bytes) -> None:
        """Says a part's checksum, which is not computed again."""
        self._checksums[part_number] = checksum

    async def send(self, held: Iterable[UploadedPart], *, parallel: int) -> list[UploadedPart]:
        """Sends every part that storage does not hold.

        Args:
            held: what storage holds; a part of another size than the file's is sent again.
            parallel: parts in flight at once.

        Returns:
            All parts of the file by ascending number, each with its checksum where there is an algorithm.

        Raises:
            FileUnusable: the file was changed meanwhile, or cannot be read reliably.
            StorageRefused: storage will not take a part.
            NetworkError: storage or gateway could not be reached, after every retry.
            ProblemError: the upload is no longer open, for instance.
        """
        sizes = {part.part_number: part.size_bytes for part in self._ranges}
        done = {part.part_number: part for part in held if sizes.get(part.part_number) == part.size_bytes}
        pending = [part for part in self._ranges if part.part_number not in done]
        self._count(sum(part.size_bytes for part in done.values()))
        sender_count = min(parallel, len(pending))
        ready: asyncio.Queue[_Ready | None] = asyncio.Queue(max(1, sender_count))
        with first_error_alone():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prepare(pending, ready, sender_count))
                senders = [group.create_task(self._send_from(ready)) for _ in range(sender_count)]
        done |= {part.part_number: part for sender in senders for part in sender.result()}
        await asyncio.to_thread(self._source.check)
        return [self._with_checksum(part) for _, part in sorted(done.items())]

    def whole_crc32c(self) -> bytes:
        """The CRC-32C of the whole file, once all parts are sent."""
        return joined_crc32c((self._checksums[part.part_number], part.size_bytes) for part in self._ranges)

    # -- ahead of the senders ---------------------------------------------------------------------------------

    async def _prepare(self, pending: Sequence[PartRange], ready: asyncio.Queue[_Ready | None], senders: int) -> None:
        """Keeps the queue filled; then computes the checksums of the parts that storage held before."""
        remaining, size = iter(pending), max(_FIRST_BATCH_PARTS, senders)
        while batch := [*islice(remaining, size)]:
            size = max(size, min(2 * size, _BATCH_PARTS))
            for part in batch:
                await self._compute(part)
            for prepared in await self._signed(batch):
                await ready.put(prepared)
        for _ in range(senders):
            await ready.put(None)
        for part in self._ranges:
            await self._compute(part)

    async def _compute(self, part: PartRange) -> None:
        if self._algorithm and part.part_number not in self._checksums:
            computed = await asyncio.to_thread(checksum_of, self._source, part, self._algorithm)
            self._checksums[part.part_number] = computed

    async def _signed(self, batch: Sequence[PartRange]) -> list[_Ready]:
        """URLs from the window that came with the upload, as far as it goes, and from a call for all others."""
        first = [
            _Ready(part, self._first_window[part.part_number], self._first_expires_at)
            for part in batch
            if part.part_number in self._first_window
        ]
        fresh = [one for one in first if not one.is_stale]
        covered = {one.part.part_number for one in fresh}
        others = [part for part in batch if part.part_number not in covered]
        return [*fresh, *(await self._sign(others) if others else ())]

    async def _sign(self, parts: Sequence[PartRange]) -> list[_Ready]:
        numbers = [part.part_number for part in parts]
        signed = await self._client.sign_parts(
            self._media_id,
            numbers,
            checksums=[encoded(self._checksums[number]) for number in numbers] if self._algorithm else (),
            traceparent=self._traceparent,
        )
        by_number = {part.part_number: part for part in signed.parts}
        if missing := set(numbers) - set(by_number):
            raise UnexpectedAnswer(f"the gateway signed other parts than number {min(missing)}")
        return [_Ready(part, by_number[part.part_number], signed.expires_at) for part in parts]

    # -- senders ----------------------------------------------------------------------------------------------

    async def _send_from(self, ready: asyncio.Queue[_Ready | None]) -> list[UploadedPart]:
        """Sends one part after the other until the queue, which several senders share, says that it was the last."""
        sent = []
        while prepared := await ready.get():
            sent.append(await self._send_part(prepared))
        return sent

    async def _send_part(self, ready: _Ready) -> UploadedPart:
        """Sends one part until storage confirms it."""
        part, backoff = ready.part, self._client.storage.backoff
        failures = refusals = 0
        is_reread = False
        while True:
            if ready.is_stale:
                [ready] = await self._sign([part])
            try:
                return UploadedPart(part.part_number, await self._try_part(ready), part.size_bytes)
            except UrlRefused as error:
                refusals += 1
                if refusals > _FRESH_URLS:
                    raise StorageRefused(
                        f"object storage refuses every URL of part {part.part_number}: {error}", status=403, code=""
                    ) from error
                [ready] = await self._sign([part])
            except Damaged as error:
                if is_reread:
                    raise _unreliable(self._source, part) from error
                is_reread = True
                ready = await self._reread(part)
            except AlreadyThere as error:
                return await self._confirmed(part, error)
            except Transient as error:
                failures += 1
                if failures >= backoff.attempts:
                    raise NetworkError(f"object storage does not take part {part.part_number}: {error}") from error
                await backoff.pause(failures, at_least_s=error.wait_s)

    async def _try_part(self, ready: _Ready) -> str:
        """Sends one part once; what a failed try had counted is taken back."""
        body = PartBody(self._source, ready.part, self._count)
        try:
            return await self._client.storage.put(ready.signed, body)
        except BaseException:
            self._count(-body.sent_bytes)
            raise

    async def _reread(self, part: PartRange) -> _Ready:
        """The part with a checksum computed anew: the first one may have been of bytes that were read wrongly."""
        self._checksums.pop(part.part_number, None)
        await self._compute(part)
        [ready] = await self._sign([part])
        return ready

    async def _confirmed(self, part: PartRange, refusal: AlreadyThere) -> UploadedPart:
        """What storage took from an earlier try whose answer was lost."""
        held = await self._client.list_parts(self._media_id, traceparent=self._traceparent)
        for one in held.parts:
            if (one.part_number, one.size_bytes) == (part.part_number, part.size_bytes):
                self._count(part.size_bytes)
                return one
        raise StorageRefused(
            f"object storage holds something else than this file: {refusal}", status=412, code="PreconditionFailed"
        )

    def _with_checksum(self, part: UploadedPart) -> UploadedPart:
        checksum = self._checksums.get(part.part_number)
        return replace(part, checksum=encoded(checksum)) if checksum else part

    def _count(self, more_bytes: int) -> None:
        self._sent_bytes += more_bytes
        if self._on_progress:
            self._on_progress(self._sent_bytes, self._source.size_bytes)


def _unreliable(source: Source, part: PartRange) -> FileUnusable:
    return FileUnusable(
        f"{source.path}: storage received other bytes of part {part.part_number} than were read, twice: "
        "the file is being changed, or disk, memory or network damage what they carry"
    )


@contextlib.contextmanager
def first_error_alone() -> Iterator[None]:
    """Raises the first error of a task group as itself: the others were only cancelled because of it."""
    try:
        yield
    except ExceptionGroup as group:
        first = group.exceptions[0]
        raise first from first.__cause__
