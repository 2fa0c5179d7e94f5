"""Checksums of parts and of whole files, as S3 takes them: storage refuses a part whose bytes are others.

CRC-32C is the default: processors compute it faster than files are read, and the checksum of a whole file follows from
those of its parts without another look at the bytes. SHA-256 is for those who keep one anyway.
"""

import asyncio
import base64
import hashlib
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

import google_crc32c

from millrace.parts import PartRange, Source, cut

_STRETCH_BYTES = 16 << 20  # read without a pause
_CASTAGNOLI = 0x82F63B78  # x^32 is the sum of these powers; bit 31 is x^0, as in every reflected CRC (RFC 3720 §12.1)
_ONE = 1 << 31
_X = 1 << 30


class Hasher(Protocol):
    """Takes bytes in pieces and sums them up."""

    def update(self, piece: bytes, /) -> None:
        """Takes the next bytes."""

    def digest(self) -> bytes:
        """The checksum of all bytes so far."""


class ChecksumAlgorithm(StrEnum):
    """As S3 and the gateway spell them."""

    CRC32C = "CRC32C"
    SHA256 = "SHA256"

    def hasher(self) -> Hasher:
        """A hasher that has taken nothing yet."""
        return _Crc32c() if self is ChecksumAlgorithm.CRC32C else hashlib.sha256()


class _Crc32c:
    """Holds the interpreter for about 0.1 ms a piece, so that sending goes on beside it; SHA-256 lets go of it."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, piece: bytes, /) -> None:
        self._crc = google_crc32c.extend(self._crc, piece)

    def digest(self) -> bytes:
        return self._crc.to_bytes(4, "big")


def checksum_of(source: Source, part: PartRange, algorithm: ChecksumAlgorithm) -> bytes:
    """The checksum of one part; reads the file piece by piece, and blocks.

    Raises:
        FileUnusable: the file is gone, was changed, ends too early or cannot be read.
    """
    hasher = algorithm.hasher()
    for piece in source.pieces(part):
        hasher.update(piece)
    return hasher.digest()


async def checksum_of_file(source: Source, algorithm: ChecksumAlgorithm) -> bytes:
    """The checksum of a whole file, computed in a thread, from which it comes back now and then to be cancelled.

    Raises:
        FileUnusable: as `checksum_of`.
    """
    hasher = algorithm.hasher()

    def take(stretch: PartRange) -> None:
        for piece in source.pieces(stretch):
            hasher.update(piece)

    for stretch in cut(source.size_bytes, _STRETCH_BYTES):
        await asyncio.to_thread(take, stretch)
    return hasher.digest()


def encoded(checksum: bytes) -> str:
    """A checksum as HTTP carries it."""
    return base64.b64encode(checksum).decode("ascii")


def joined_crc32c(parts: Iterable[tuple[bytes, int]]) -> bytes:
    """The CRC-32C of a whole from its parts' checksums and sizes in bytes, in order; that of nothing for no parts."""
    whole = 0
    for checksum, size_bytes in parts:
        whole = combine_crc32c(whole, int.from_bytes(checksum, "big"), size_bytes)
    return whole.to_bytes(4, "big")


def combine_crc32c(first: int, second: int, second_size_bytes: int) -> int:
    """The CRC-32C of two byte strings, one after the other, from the CRC-32C of each.

    A CRC is a remainder of polynomials over GF(2): what stands before `n` bytes counts x^(8n) times as much. The bits
    that are inverted at the beginning and at the end cancel each other out.
    """
    return _times(first, _x_to_the(8 * second_size_bytes)) ^ second


@lru_cache(maxsize=64)  # all parts of a file but the last are of one size
def _x_to_the(exponent: int) -> int:
    """x^exponent modulo the polynomial, by squaring."""
    power, square = _ONE, _X
    while exponent:
        if exponent & 1:
            power = _times(power, square)
        square = _times(square, square)
        exponent >>= 1
    return power


def _times(left: int, right: int) -> int:
    """The product of two polynomials modulo that of CRC-32C, all reflected."""
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = (left << 1) & 0xFFFFFFFF
        right = (right >> 1) ^ _CASTAGNOLI if right & 1 else right >> 1
    return product
