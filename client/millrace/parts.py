"""The local file: what it is, how it is cut into parts, and how a part is read without holding it in memory."""

import asyncio
import contextlib
import mimetypes
import os
import stat
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from millrace.errors import FileUnusable

PIECE_BYTES = 1 << 20
"""What is read and sent at once: memory stays at about this much a part in flight, whatever the file's size."""

# Python's own table lacks some of these, and the machine's varies.
_CONTENT_TYPES = {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jpg": "image/jpeg",
    ".m2ts": "video/mp2t",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".ts": "video/mp2t",
    ".webm": "video/webm",
    ".webp": "image/webp",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was when its upload began; reading notices when it is another one by then.

    Attributes:
        size_bytes: greater than zero.
        modified_ns: time of the last change, in nanoseconds since 1970.
    """

    path: Path
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "Source":
        """Looks at a file.

        Raises:
            FileUnusable: missing, unreadable, empty, or no regular file.
        """
        try:
            facts = path.stat()
            if stat.S_ISREG(facts.st_mode):
                path.open("rb").close()
        except OSError as error:
            raise _unusable(path, error) from error
        if not stat.S_ISREG(facts.st_mode):
            raise FileUnusable(f"{path}: {'is a directory' if stat.S_ISDIR(facts.st_mode) else 'not a regular file'}")
        if facts.st_size == 0:
            raise FileUnusable(f"{path}: the file is empty")
        return cls(path, facts.st_size, facts.st_mtime_ns)

    def open(self) -> BinaryIO:
        """Opens the file for reading.

        Raises:
            FileUnusable: it is gone or was changed since `of`.
        """
        try:
            file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise _unusable(self.path, error) from error
        facts = os.fstat(file.fileno())
        if (facts.st_size, facts.st_mtime_ns) != (self.size_bytes, self.modified_ns):
            file.close()
            raise FileUnusable(f"{self.path}: the file was changed during its upload")
        return file

    def check(self) -> None:
        """Looks whether the file is still what it was; raises as `open` does."""
        self.open().close()

    def pieces(self, part: "PartRange") -> Generator[bytes, None, None]:
        """The bytes of a part, exactly `part.size_bytes` of them, in pieces of at most `PIECE_BYTES`. Blocks.

        Raises:
            FileUnusable: the file is gone, was changed, ends too early, or cannot be read.
        """
        with self.open() as file:
            at_bytes, end_bytes = part.offset_bytes, part.offset_bytes + part.size_bytes
            while at_bytes < end_bytes:
                try:
                    piece = os.pread(file.fileno(), min(PIECE_BYTES, end_bytes - at_bytes), at_bytes)
                except OSError as error:
                    raise _unusable(self.path, error) from error
                if not piece:
                    raise FileUnusable(f"{self.path}: the file was cut short during its upload")
                at_bytes += len(piece)
                yield piece


@dataclass(frozen=True, slots=True)
class PartRange:
    """Where a part lies in the file; numbers begin at 1."""

    part_number: int
    offset_bytes: int
    size_bytes: int


def cut(size_bytes: int, part_size_bytes: int) -> tuple[PartRange, ...]:
    """The parts of a file: all of `part_size_bytes` but the last, which has the rest and is never empty."""
    return tuple(
        PartRange(number, offset, min(part_size_bytes, size_bytes - offset))
        for number, offset in enumerate(range(0, size_bytes, part_size_bytes), start=1)
    )


class PartBody(httpx.AsyncByteStream):
    """A part as the body of one request, exactly `part.size_bytes` long; counts what is on its way.

    It is read in a thread, so that a slow disk stops nobody else; `Source.pieces` says what may go wrong.
    """

    def __init__(self, source: Source, part: PartRange, on_sent: Callable[[int], None] = lambda _: None) -> None:
        """Reads nothing yet; `on_sent` is told how many more bytes are on their way."""
        self.source = source
        self.part = part
        self.sent_bytes = 0
        self._on_sent = on_sent
        self._pieces: Generator[bytes, None, None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = self.source.pieces(self.part)
        while piece := await asyncio.to_thread(next, self._pieces, None):
            yield piece
            self.count(len(piece))

    async def aclose(self) -> None:
        """Closes the file."""
        with contextlib.suppress(ValueError):  # a cancelled read is still under way; its end closes the file
            if self._pieces:
                self._pieces.close()

    def count(self, more_bytes: int) -> None:
        """Counts bytes that are on their way."""
        self.sent_bytes += more_bytes
        self._on_sent(more_bytes)


def content_type_of(path: Path) -> str:
    """The content type that a file's name suggests; the service decides by the bytes in the end.

    Raises:
        FileUnusable: the name suggests nothing, or neither an image nor a video.
    """
    guess = _CONTENT_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name, strict=False)[0]
    if guess is None or guess.partition("/")[0] not in {"image", "video"}:
        raise FileUnusable(f"{path}: the name tells neither an image nor a video; name its content type")
    return guess


def _unusable(path: Path, error: OSError) -> FileUnusable:
    return FileUnusable(f"{path}: {(error.strerror or str(error)).lower()}")
