"""The original as a read-only file in the child: every block comes from the parent, few and large."""

import io
import os
from collections import OrderedDict
from collections.abc import Callable

BLOCK_BYTES = 4 << 20
"""A read from object storage costs about 10 ms whatever its size: small blocks made a file ten times
slower.
"""

_CACHED_BLOCKS = 6
"""Audio and video of a badly interleaved file sit megabytes apart; index and both fit."""


class RemoteFile(io.RawIOBase):
    """A seekable, read-only file over a function that reads ranges.

    `read(n)` returns `n` bytes, or all that are left: Pillow takes fewer for the end of the file. Never more: libav
    copies what it is given into a buffer of `n`.
    """

    def __init__(
        self, read_range: Callable[[int, int], bytes], size_bytes: int, block_bytes: int = BLOCK_BYTES
    ) -> None:
        super().__init__()
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._block_bytes = block_bytes
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.bytes_fetched = 0

    @property
    def size_bytes(self) -> int:
        """The file's size."""
        return self._size_bytes

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves; like any file, also past the end.

        Raises:
            ValueError: before the start, or an unknown `whence`.
        """
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}.get(whence)
        if base is None or base + offset < 0:
            msg = f"cannot seek to {offset} from {whence}"
            raise ValueError(msg)
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, across blocks; fewer at the end only. All that is left if negative."""
        if size < 0:
            return self.readall()
        pieces = []
        while size > 0 and (piece := self._available(size)):
            self._position += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readall(self) -> bytes:
        """All that is left."""
        pieces = []
        while piece := self.read(self._block_bytes):
            pieces.append(piece)
        return b"".join(pieces)

    def readinto(self, buffer: object) -> int:
        """For `io.BufferedReader`."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _available(self, size: int) -> bytes:
        """What one block has of the next `size` bytes; nothing at the end only."""
        if self._position >= self._size_bytes:
            return b""
        number, start = divmod(self._position, self._block_bytes)
        return self._block(number)[start : start + size]

    def _block(self, number: int) -> bytes:
        if (block := self._blocks.get(number)) is not None:
            self._blocks.move_to_end(number)
            return block
        offset = number * self._block_bytes
        block = self._read_range(offset, min(self._block_bytes, self._size_bytes - offset))
        self.bytes_fetched += len(block)
        self._blocks[number] = block
        if len(self._blocks) > _CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return block
