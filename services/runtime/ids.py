"""Identifiers that carry their shard.

A `media_id` is a UUIDv7 (RFC 9562 §5.7) whose 12 `rand_a` bits hold the owner's virtual shard, so that a look-up by
`media_id` alone finds its shard. RFC 9562 §6.2 leaves `rand_a` to the implementation.
"""

import hashlib
import secrets
import time
import uuid
from typing import NewType

from services.runtime.errors import NotFound

Shard = NewType("Shard", int)
UserId = NewType("UserId", str)
MediaId = NewType("MediaId", uuid.UUID)

SHARD_COUNT = 4096
"""Virtual shards: 12 bits, far more than machines, so that growth moves shards and never splits one."""


def shard_of_user(user_id: str) -> Shard:
    """The virtual shard, 0 to 4,095, that holds everything of a user; stable for all time."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=2, person=b"millrace-shard").digest()
    return Shard(int.from_bytes(digest, "big") % SHARD_COUNT)


def new_id(shard: Shard) -> uuid.UUID:
    """A fresh UUIDv7 within a shard: 48 bits of Unix milliseconds, the shard, 62 random bits."""
    unix_ms = time.time_ns() // 1_000_000
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | shard << 64 | 0b10 << 62 | secrets.randbits(62)
    return uuid.UUID(int=value)


def new_media_id(user_id: str) -> MediaId:
    """A fresh identifier for a media of this user."""
    return MediaId(new_id(shard_of_user(user_id)))


def shard_of_id(identifier: uuid.UUID) -> Shard:
    """The shard inside an identifier that `new_id` made."""
    return Shard(identifier.int >> 64 & SHARD_COUNT - 1)


def parse_media_id(text: str) -> MediaId:
    """Reads a media identifier from outside.

    Raises:
        NotFound: the text is no UUIDv7; such a media cannot exist, and callers learn no more than that.
    """
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.version != 7 or str(parsed) != text.lower():
        raise NotFound("no such media", reason="MEDIA_NOT_FOUND")
    return MediaId(parsed)


def shard_prefix(shard: Shard) -> str:
    """The shard as the first component of every object key: three hex digits."""
    return f"{shard:03x}"


def original_key(media_id: MediaId) -> str:
    """The key of a media's original in the originals bucket."""
    return f"{shard_prefix(shard_of_id(media_id))}/{media_id}/original"
