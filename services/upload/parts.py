"""How a file is cut into parts, and whether what a client sent is what was agreed. Pure.

The part size is 10 MiB by default: storage and clients work in binary units (S3's floor is 5 MiB, not 5 MB), and whole
MiB keep every part aligned with the blocks below it. Files that 10,000 such parts cannot hold get larger ones.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from services.runtime.errors import InvalidArgument

MIN_PART_SIZE_BYTES: Final = 5 * 1024 * 1024
"""S3's floor for every part but the last (UploadPart, "Multipart upload limits")."""

MAX_PART_COUNT: Final = 10_000
"""S3's ceiling for one upload."""

MAX_SIGNED_AT_ONCE: Final = 1_000

_GRANULE_BYTES: Final = 1024 * 1024
_MAX_LISTED_RANGES: Final = 50
"""Details travel in gRPC trailers, which peers cut off at 8 KiB."""


@dataclass(frozen=True, slots=True)
class HeldPart:
    """A part as storage lists it; `etag` without quotes."""

    number: int
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ClaimedPart:
    """A part as the client knows it; `etag` without quotes, `checksum` in base64 or empty."""

    number: int
    etag: str
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """The agreed cut of a file: parts of `part_size_bytes` from number 1 on, the last one with what is left.

    Both sizes are 0 where the size of the file is not known: then the client cuts as it likes, within storage's bounds.
    """

    size_bytes: int
    part_size_bytes: int

    @property
    def is_known(self) -> bool:
        """Whether the size of the file is known."""
        return self.size_bytes > 0

    @property
    def part_count(self) -> int:
        """How many parts there are, 1 to 10,000; 0 where that is not known."""
        return -(-self.size_bytes // self.part_size_bytes) if self.is_known else 0

    def size_of(self, number: int) -> int:
        """Exact length of a part in bytes; `number` is one of 1 to `part_count`. 0 where it is not known."""
        if not self.is_known:
            return 0
        if number < self.part_count:
            return self.part_size_bytes
        return self.size_bytes - (self.part_count - 1) * self.part_size_bytes


UNKNOWN: Final = Layout(0, 0)


def choose_layout(size_bytes: int, preferred_part_size_bytes: int) -> Layout:
    """Parts of the preferred size, or the smallest whole number of MiB with which 10,000 parts suffice."""
    needed_bytes = -(-size_bytes // MAX_PART_COUNT)
    if needed_bytes <= preferred_part_size_bytes:
        return Layout(size_bytes, preferred_part_size_bytes)
    return Layout(size_bytes, -(-needed_bytes // _GRANULE_BYTES) * _GRANULE_BYTES)


def check_signable(layout: Layout, numbers: Sequence[int]) -> None:
    """Checks which parts a client wants signed.

    Raises:
        InvalidArgument: none, more than 1,000, one twice, or one that the file does not have.
    """
    if not 1 <= len(numbers) <= MAX_SIGNED_AT_ONCE:
        raise InvalidArgument(
            f"ask for 1 to {MAX_SIGNED_AT_ONCE:,} parts at once",
            reason="PART_NUMBERS_INVALID",
            details={"field": "part_numbers"},
        )
    last = layout.part_count or MAX_PART_COUNT
    unknown = [number for number in numbers if not 1 <= number <= last]
    if unknown or len(set(numbers)) != len(numbers):
        raise InvalidArgument(
            f"part numbers are distinct and lie between 1 and {last:,}",
            reason="PART_NUMBERS_INVALID",
            details={"field": "part_numbers", "part_count": str(last), "unknown_parts": ranges(unknown)},
        )


def check_claim(layout: Layout, claimed: Sequence[ClaimedPart]) -> None:
    """Checks that a client names every part of the file once; where its size is not known, from 1 on without a gap.

    Raises:
        InvalidArgument: `details` say which parts are missing, unknown or named twice.
    """
    numbers = [part.number for part in claimed]
    expected = set(range(1, (layout.part_count or min(max(numbers, default=1), MAX_PART_COUNT)) + 1))
    wrong = {
        "missing_parts": ranges(expected - set(numbers)),
        "unknown_parts": ranges(set(numbers) - expected),
        "repeated_parts": ranges({number for number, following in pairwise(sorted(numbers)) if number == following}),
    }
    _refuse(wrong, "PARTS_INCOMPLETE", f"name each of the {len(expected):,} parts once, with its ETag")


def check_held(layout: Layout, claimed: Sequence[ClaimedPart], held: Sequence[HeldPart]) -> None:
    """Checks what a client names against what storage holds; `claimed` has passed `check_claim`.

    Raises:
        InvalidArgument: `details` say which parts storage lacks, holds with another ETag, or in another length.
    """
    by_number: Mapping[int, HeldPart] = {part.number: part for part in held}
    present = [(part, by_number[part.number]) for part in claimed if part.number in by_number]
    wrong = {
        "missing_parts": ranges(part.number for part in claimed if part.number not in by_number),
        "different_parts": ranges(part.number for part, found in present if part.etag != found.etag),
        "wrong_size_parts": ranges(
            found.number for _, found in present if layout.is_known and found.size_bytes != layout.size_of(found.number)
        ),
    }
    _refuse(wrong, "PARTS_DIFFER", "storage holds other parts than these: send the ones named in the details again")


def total_size(claimed: Sequence[ClaimedPart], held: Sequence[HeldPart]) -> int:
    """Bytes of the claimed parts as storage holds them; they have passed `check_held`."""
    names = {part.number for part in claimed}
    return sum(part.size_bytes for part in held if part.number in names)


def _refuse(wrong: Mapping[str, str], reason: str, message: str) -> None:
    details = {kind: listed for kind, listed in wrong.items() if listed}
    if details:
        raise InvalidArgument(message, reason=reason, details={"field": "parts", **details})


def normalised_etag(etag: str) -> str:
    """An ETag without the quotes that some clients keep and others strip."""
    return etag.strip().strip('"')


def ranges(numbers: Collection[int] | Iterable[int]) -> str:
    """Numbers for people and machines alike: `1-3,7`; cut with a trailing `,…` after 50 ranges."""
    ordered = sorted(set(numbers))
    runs: list[tuple[int, int]] = []
    for number in ordered:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    written = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:_MAX_LISTED_RANGES]]
    if len(runs) > _MAX_LISTED_RANGES:
        written.append("…")
    return ",".join(written)
