"""Many files, one after the other: a large one has the whole link for its parts, small ones share it.

However many there are, few are open at once, and what came of each is told in the order in which they were given.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from millrace import report
from millrace.api import Client
from millrace.board import Board, Row
from millrace.checksums import ChecksumAlgorithm
from millrace.errors import (
    AlreadyUploading,
    LimitReached,
    MillraceError,
    NetworkError,
    NotAuthenticated,
    QuotaExceeded,
    ServiceFault,
    UnexpectedAnswer,
)
from millrace.models import Media
from millrace.slots import Slots
from millrace.transfer import first_error_alone
from millrace.upload import SMALL_BYTES, forget, upload, wait_until_published

Outcome: TypeAlias = Media | MillraceError

_OPEN_FILES: Final = 64  # being sent, or waited for
_PASSING: Final = (
    AlreadyUploading, LimitReached, NetworkError, NotAuthenticated, QuotaExceeded, ServiceFault, UnexpectedAnswer,
)  # fmt: skip
"""What another run may find mended, though the file and what was asked for stay the same."""


@dataclass(frozen=True, slots=True)
class Options:
    """How files are uploaded; see `millrace.upload` for all but `wait`: whether to wait until each is published."""

    content_type: str | None
    parallel: int
    checksum: ChecksumAlgorithm | None
    state_dir: Path | None
    resume: bool
    wait: bool


async def upload_each(
    client: Client, sizes: Mapping[Path, int], options: Options, board: Board, tell: Callable[[Path, Outcome], None]
) -> None:
    """Uploads files.

    Args:
        client: one user at one gateway.
        sizes: the files and their sizes in bytes, in the order in which they are to go.
        options: how.
        board: shows how far they are.
        tell: called once for each file, in that order, as soon as it and those before it have ended.
    """
    uploader = _Uploader(client, options, Slots(options.parallel))
    may_open = asyncio.Semaphore(_OPEN_FILES)
    outcomes: dict[Path, asyncio.Future[Outcome]] = {path: asyncio.get_running_loop().create_future() for path in sizes}

    async def one(path: Path, size_bytes: int) -> None:
        try:
            outcomes[path].set_result(await uploader.outcome_of(path, size_bytes, board.row(path.name)))
        finally:
            may_open.release()

    async def open_all(group: asyncio.TaskGroup) -> None:
        for path, size_bytes in sizes.items():
            await may_open.acquire()
            group.create_task(one(path, size_bytes))

    with first_error_alone():
        async with asyncio.TaskGroup() as group:
            group.create_task(open_all(group))
            for path in sizes:
                tell(path, await outcomes[path])
                del outcomes[path]
    # Only now, and only if nothing is left to do: the same command, given again, finds all that was done so far.
    if not uploader.unfinished:
        for path in uploader.accepted:
            await uploader.forget(path)


@dataclass(frozen=True, slots=True)
class _Uploader:
    client: Client
    options: Options
    slots: Slots
    accepted: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)

    async def forget(self, path: Path) -> None:
        """Removes what is remembered of a file that was accepted."""
        if self.options.state_dir is not None:
            await forget(self.client, path, self.options.state_dir)

    async def outcome_of(self, path: Path, size_bytes: int, row: Row) -> Outcome:
        """Uploads one file when its turn comes; whatever is wrong with it is its outcome, and stops no other."""
        is_large, options = size_bytes > SMALL_BYTES, self.options
        try:
            async with self.slots.taken(all_of_them=is_large):
                media = await upload(
                    self.client,
                    path,
                    content_type=options.content_type,
                    parallel=options.parallel if is_large else 1,
                    checksum=options.checksum,
                    state_dir=options.state_dir,
                    resume=options.resume,
                    keep_state=True,
                    on_progress=row.sent,
                )
            self.accepted.append(path)
            if options.wait:
                media = await wait_until_published(self.client, media.media_id, on_update=row.processed)
        except MillraceError as error:
            if isinstance(error, _PASSING):
                self.unfinished.append(path)
            row.ended(report.word_for(error), ok=False)
            return error
        row.ended(media.status.value, ok=True)
        return media
