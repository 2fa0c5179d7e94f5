"""Checksums that clients give and storage verifies. Pure.

They travel in base64, as S3's own headers have them. Those of parts are bound by the parts' signatures, so that storage
refuses other bytes; that of the whole is compared before the media is processed.
"""

import base64
import binascii
from collections.abc import Sequence
from enum import StrEnum

from services.runtime.errors import FailedPrecondition, InvalidArgument


class ChecksumAlgorithm(StrEnum):
    """As S3 spells them."""

    CRC32C = "CRC32C"
    SHA256 = "SHA256"

    @property
    def length_bytes(self) -> int:
        """Length of the checksum itself."""
        return 4 if self is ChecksumAlgorithm.CRC32C else 32

    @property
    def header(self) -> str:
        """Name of the header that carries it, in lower case."""
        return f"x-amz-checksum-{self.lower()}"


def check_whole(algorithm: ChecksumAlgorithm | None, checksum: str) -> None:
    """Checks the form of a checksum of a whole file; empty for none.

    Raises:
        InvalidArgument: it is none of this algorithm, or there is no algorithm.
    """
    if checksum and algorithm is None:
        raise InvalidArgument(
            "say by which algorithm the checksum was made when the upload begins",
            reason="CHECKSUM_INVALID",
            details={"field": "checksum_algorithm"},
        )
    if checksum and algorithm:
        _check_form(algorithm, checksum, "checksum")


def check_parts(algorithm: ChecksumAlgorithm | None, checksums: Sequence[str], part_count: int) -> None:
    """Checks that parts which are to be signed come with checksums where, and only where, they were promised.

    Raises:
        InvalidArgument: one is missing, too many, or malformed.
    """
    if algorithm is None and checksums:
        raise InvalidArgument(
            "this upload began without an algorithm for checksums",
            reason="CHECKSUM_INVALID",
            details={"field": "checksums"},
        )
    if algorithm is None:
        return
    if len(checksums) != part_count:
        raise InvalidArgument(
            f"send one {algorithm} checksum for each part number, in the same order",
            reason="CHECKSUMS_MISSING",
            details={"field": "checksums"},
        )
    for checksum in checksums:
        _check_form(algorithm, checksum, "checksums")


def mismatch(expected: str, found: str) -> FailedPrecondition:
    """The refusal of bytes that are not those of the checksum."""
    return FailedPrecondition(
        "other bytes arrived than the checksum of the whole file says",
        reason="CHECKSUM_MISMATCH",
        details={"expected": expected, "found": found},
    )


def _check_form(algorithm: ChecksumAlgorithm, checksum: str, field: str) -> None:
    try:
        length_bytes = len(base64.b64decode(checksum, validate=True))
    except (binascii.Error, ValueError):
        length_bytes = 0
    if length_bytes != algorithm.length_bytes:
        raise InvalidArgument(
            f"a {algorithm} checksum is {algorithm.length_bytes} bytes in base64",
            reason="CHECKSUM_INVALID",
            details={"field": field},
        )
