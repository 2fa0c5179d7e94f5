"""What a client says about a file before it sends it, and the bounds that must hold. Pure.

Nothing here is trusted later on: the bytes decide what a file is. The claim only chooses which limit applies till then.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.runtime.errors import InvalidArgument

_MAX_FILENAME_CHARS: Final = 255
_CONTENT_TYPE: Final = re.compile(r"(image|video)/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
"""`type/subtype` as RFC 6838 §4.2 restricts names; of the types only the two that have a pipeline."""
_UNKNOWN_TYPE: Final = "application/octet-stream"
"""What browsers say of files they do not know, some videos among them."""
_UNPRINTABLE: Final = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories that break a line or a terminal: controls, surrogates, line and paragraph separators."""


class MediaType(StrEnum):
    """Which pipeline a file goes through."""

    IMAGE = "image"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Claim:
    """A file as its owner describes it, checked by `check`; a size of 0 is not known."""

    filename: str
    content_type: str
    size_bytes: int
    media_type: MediaType


def check(
    filename: str,
    content_type: str,
    size_bytes: int,
    max_size_bytes: Mapping[MediaType, int],
    *,
    may_lack_size: bool = False,
) -> Claim:
    """Checks what a client says about a file.

    Args:
        filename: for display; 1 to 255 characters, none of them a control character.
        content_type: `image/…`, `video/…` or `application/octet-stream`, which passes for a video until the bytes tell;
            parameters are dropped.
        size_bytes: greater than zero and at most what its type allows.
        max_size_bytes: the largest file of each type.
        may_lack_size: whether 0 is taken for a size that is not known.

    Raises:
        InvalidArgument: with the field and what it should be.
    """
    _check_filename(filename)
    essence = content_type.partition(";")[0].strip().lower()
    matched = _CONTENT_TYPE.fullmatch(essence)
    if matched is None and essence != _UNKNOWN_TYPE:
        raise _refusal("content_type", "CONTENT_TYPE_UNSUPPORTED", "only image/* and video/* files are taken")
    media_type = MediaType(matched.group(1)) if matched else MediaType.VIDEO
    if size_bytes < 0 or (size_bytes == 0 and not may_lack_size):
        raise _refusal("size_bytes", "FILE_EMPTY", "an empty file has nothing to show")
    check_size(media_type, size_bytes, max_size_bytes)
    return Claim(filename, essence, size_bytes, media_type)


def check_size(media_type: MediaType, size_bytes: int, max_size_bytes: Mapping[MediaType, int]) -> None:
    """Checks a size against the limit of a type.

    Raises:
        InvalidArgument: it is beyond.
    """
    check_limit(size_bytes, max_size_bytes[media_type], f"{media_type} files may have")


def check_limit(size_bytes: int, limit_bytes: int, what: str) -> None:
    """Checks a size against a limit; `what` begins the sentence that the refusal says.

    Raises:
        InvalidArgument: it is beyond.
    """
    if size_bytes > limit_bytes:
        raise InvalidArgument(
            f"{what} up to {limit_bytes:,} bytes",
            reason="FILE_TOO_LARGE",
            details={"field": "size_bytes", "max_size_bytes": str(limit_bytes)},
        )


def _check_filename(filename: str) -> None:
    if not 1 <= len(filename) <= _MAX_FILENAME_CHARS:
        raise _refusal("filename", "FILENAME_INVALID", f"a name has 1 to {_MAX_FILENAME_CHARS} characters")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in filename):
        raise _refusal("filename", "FILENAME_INVALID", "a name holds no control characters")


def _refusal(field: str, reason: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, details={"field": field})
