"""Whether an original is what its owner says it is: the SHA-256 of the whole file, where storage could not tell.

Storage compares the bytes of each part with that part's checksum, but of a file in several parts it knows no SHA-256:
what S3 keeps then is a checksum of checksums. So the pinned original is read once, from its first byte to its last,
before anything is made of it. The bytes are hashed and not looked at: nothing is parsed here, so that it needs neither
a child nor a sandbox.
"""

import asyncio
import base64
import hashlib
from datetime import timedelta
from typing import Final

from services.runtime.errors import DeadlineExceeded
from services.transcode.engine_port import ByteSource
from services.transcode.originals import BLOCK_BYTES, longest_reading
from services.transcode.source import RejectedSource, RejectionReason

_AT_LEAST: Final = timedelta(minutes=1)


def longest(size_bytes: int) -> timedelta:
    """How long a verification may take: what bounds the time for which its message is held."""
    return _AT_LEAST + longest_reading(size_bytes)


async def verify(source: ByteSource, expected_sha256: bytes, *, within: timedelta) -> None:
    """Reads all of an original and compares; returns if it is what was expected.

    Memory stays at the reader's blocks, whatever the size.

    Args:
        source: the original; what its `read` raises passes through.
        expected_sha256: 32 bytes.
        within: how long it may take, see `longest`.

    Raises:
        RejectedSource: CHECKSUM_MISMATCH.
        DeadlineExceeded: storage answers too slowly.
    """
    clock = asyncio.timeout(within.total_seconds())
    try:
        async with clock:
            found = await _sha256_of(source)
    except TimeoutError as error:
        if not clock.expired():
            raise  # the source's own
        raise DeadlineExceeded(f"{source.size_bytes:,} bytes were not read within {within}") from error
    if found != expected_sha256:
        raise RejectedSource(
            RejectionReason.CHECKSUM_MISMATCH,
            f"the file that arrived has the SHA-256 {_base64(found)}, but {_base64(expected_sha256)} was announced",
        )


async def _sha256_of(source: ByteSource) -> bytes:
    digest = hashlib.sha256()
    offset = 0
    while block := await source.read(offset, BLOCK_BYTES):
        # In a thread: a block takes some 10 ms, during which the next one arrives.
        await asyncio.to_thread(digest.update, block)
        offset += len(block)
    return digest.digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
