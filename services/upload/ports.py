"""All that the use cases need of the world: storage for bytes, the metadata service for records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from services.upload.checksums import ChecksumAlgorithm
from services.upload.claims import Claim
from services.upload.kinds import UploadKind
from services.upload.parts import ClaimedPart, HeldPart
from services.upload.session import Failure, Session, StoredOriginal


@dataclass(frozen=True, slots=True)
class Form:
    """Where to POST a file to, and the fields that go before it."""

    url: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that storage holds parts of, whoever began it."""

    key: str
    upload_id: str
    initiated_at: datetime


@dataclass(frozen=True, slots=True)
class Intent:
    """An upload that is to be recorded.

    Attributes:
        claim: what its owner says of the file.
        kind: how the bytes come.
        part_size_bytes: of every part but the last; 0 where the size is not known.
        checksum_algorithm: of the checksum that every part will carry; None for none.
        checksum: of the whole, in base64; empty for none.
        time_to_live: how long it may stay open.
        request_id: names the intent; not empty.
        media_id: of the media that it makes.
        upload_id: of the multipart upload that has begun at storage for it; empty for other kinds.
    """

    claim: Claim
    kind: UploadKind
    part_size_bytes: int
    checksum_algorithm: ChecksumAlgorithm | None
    checksum: str
    time_to_live: timedelta
    request_id: str
    media_id: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """A session whose objects are to be looked after.

    Attributes:
        media_failed: whether nothing needs its original any more.
        count: how often it was claimed in its state; says which claim this is.
        in_state_for: since when it is in that state, by the database's clock.
    """

    session: Session
    media_failed: bool
    count: int
    in_state_for: timedelta


class Storage(Protocol):
    """The originals at object storage. Every method that asks it raises Unavailable when it does not answer."""

    async def create(self, key: str, content_type: str, algorithm: ChecksumAlgorithm | None) -> str:
        """Begins a multipart upload, whose parts will carry such checksums, and returns its identifier."""

    def sign_parts(
        self, key: str, upload_id: str, headers: Mapping[int, Mapping[str, str]], expires_in: timedelta
    ) -> Mapping[int, str]:
        """URLs by part number; each takes one PUT after another with exactly these headers. Asks nobody."""

    def sign_put(self, key: str, headers: Mapping[str, str], expires_in: timedelta) -> str:
        """A URL that takes a PUT of the whole object, with exactly these headers. Asks nobody."""

    def sign_form(self, key: str, max_size_bytes: int, expires_in: timedelta) -> Form:
        """A form that takes a file of one byte to a limit. Asks nobody."""

    async def list_parts(self, key: str, upload_id: str) -> Sequence[HeldPart]:
        """All parts that storage holds, each number once, the latest. NotFound: no such upload (any more)."""

    async def complete(
        self, key: str, upload_id: str, claimed: Sequence[ClaimedPart], algorithm: ChecksumAlgorithm | None
    ) -> None:
        """Joins the parts. NotFound: no such upload (any more). FailedPrecondition: storage refuses the parts."""

    async def abort(self, key: str, upload_id: str) -> None:
        """Gives the upload and its parts up; safe to repeat."""

    async def head(self, key: str) -> StoredOriginal:
        """What storage knows of an object. NotFound: there is none."""

    async def exists(self, key: str) -> bool:
        """Whether there is an object."""

    async def copy(self, source_key: str, etag: str, key: str) -> None:
        """Copies exactly the bytes that `etag` names. NotFound: no source. AlreadyExists: other bytes, or key taken."""

    async def delete(self, key: str) -> None:
        """Deletes an object; safe to repeat."""

    async def pending(self, after: tuple[str, str]) -> tuple[Sequence[PendingUpload], tuple[str, str] | None]:
        """A page of all multipart uploads, from `("", "")` on, and where the next page begins; None at the end."""


class Records(Protocol):
    """The sessions at the metadata service. Every method is idempotent and may raise Unavailable."""

    async def create(self, user_id: str, intent: Intent) -> Session:
        """Records an upload; a repeat with the same request id answers with the first record.

        ResourceExhausted: the owner's quota is used up.
        """

    async def get(self, user_id: str, media_id: str) -> Session:
        """Reads a session. NotFound: unknown, or another's."""

    async def begin_complete(self, user_id: str, media_id: str, *, size_bytes: int, checksum: str) -> Session:
        """Open → completing, with a size (0 for none) and a checksum of the whole (empty for none) not known before.

        FailedPrecondition: aborted or expired. ResourceExhausted: the owner's quota does not allow so many bytes.
        """

    async def reopen(self, media_id: str) -> None:
        """Completing → open; other states stay."""

    async def begin_processing(self, media_id: str, original: StoredOriginal) -> None:
        """Completing → completed: pins the original and announces it, once.

        Open too: another call whose parts were refused may have reopened the session while this one joined them.
        """

    async def abort(self, user_id: str, media_id: str, failure: Failure) -> Session:
        """Open → aborted, the media failed. FailedPrecondition: completing or complete."""

    async def claim_sweeps(self, limit: int, lease: timedelta) -> Sequence[Sweep]:
        """Takes sessions that are to be looked after, for a while; nobody else gets them meanwhile."""

    async def finish_sweep(self, sweep: Sweep, again_in: timedelta | None) -> None:
        """Says when a session is to be looked after again; None for never. Changes nothing when it moved on."""

    async def orphans(self, stored: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Those of some (media, multipart upload) that no session under way calls its own."""
