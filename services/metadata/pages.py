"""Tokens of an owner's list: where the next page begins.

A token is opaque to clients and grants nothing: whose list it is comes from the request, never from the token.
"""

import base64
import binascii
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from services.metadata.records import MediaStatus
from services.runtime.errors import InvalidArgument

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 100

_FORMAT: Final = struct.Struct(">BBq16s")
"""Version, status filter, microseconds since 1970, media id."""
_VERSION: Final = 1
_FILTERS: Final = (None, *MediaStatus)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Position:
    """The last media of a page; the next page holds what is older."""

    created_at: datetime
    media_id: UUID


def page_size(asked: int) -> int:
    """How many media a page holds: 0 means the default, too many are cut (AIP-158).

    Raises:
        InvalidArgument: negative.
    """
    if asked < 0:
        raise InvalidArgument("page_size must not be negative", details={"field": "page_size"})
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def encode(position: Position, status: MediaStatus | None) -> str:
    """The token that continues a list after a position; url-safe, without padding."""
    unix_us = (position.created_at - _EPOCH) // _MICROSECOND
    packed = _FORMAT.pack(_VERSION, _FILTERS.index(status), unix_us, position.media_id.bytes)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(token: str, status: MediaStatus | None) -> Position | None:
    """Where a list continues; None for the empty token of a first page.

    Raises:
        InvalidArgument: no token of ours, or one of a list with another filter.
    """
    if not token:
        return None
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        version, filter_index, unix_us, media_id = _FORMAT.unpack(packed)
        position = Position(_EPOCH + unix_us * _MICROSECOND, UUID(bytes=media_id))
    except (binascii.Error, struct.error, ValueError, OverflowError) as error:
        raise _invalid() from error
    if version != _VERSION or filter_index >= len(_FILTERS) or _FILTERS[filter_index] is not status:
        raise _invalid()
    return position


def _invalid() -> InvalidArgument:
    return InvalidArgument(
        "page_token does not continue this list", reason="PAGE_TOKEN_INVALID", details={"field": "page_token"}
    )
