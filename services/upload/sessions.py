"""Upload sessions: beginning one, signing its parts, saying what has arrived, giving it up.

A session is a record at the metadata service and a multipart upload at object storage. The record comes first, so that
whatever a crash leaves behind at storage is known to somebody. The two ports below are all that the use cases need.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

from services.runtime.errors import FailedPrecondition, NotFound
from services.upload import claims, parts, tracing
from services.upload.claims import Claim, MediaType
from services.upload.parts import ClaimedPart, HeldPart, Layout


class SessionState(Enum):
    """Where a session stands."""

    OPEN = "open"
    COMPLETING = "completing"
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Session:
    """An upload session as the metadata service records it.

    Attributes:
        media_id: the media that it creates.
        user_id: its owner.
        s3_key: key of the original.
        upload_id: storage's identifier of the multipart upload; empty until one is attached.
        layout: the agreed cut.
        state: where it stands.
        content_type: as claimed.
        traceparent: the trace that began with it; empty if none was recorded.
    """

    media_id: str
    user_id: str
    s3_key: str
    upload_id: str
    layout: Layout
    state: SessionState
    content_type: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class StoredOriginal:
    """A completed original as storage describes it; `etag` without quotes."""

    s3_key: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a media ends unpublished: a code for machines, a sentence for its owner."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SignedPart:
    """A URL to PUT exactly `size_bytes` to."""

    number: int
    url: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SignedWindow:
    """A session together with some of its parts, signed until `expires_at`."""

    session: Session
    parts: Sequence[SignedPart]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms uploads are taken; see the settings of the same names."""

    part_size_bytes: int
    window_parts: int
    url_ttl: timedelta
    session_ttl: timedelta
    max_size_bytes: Mapping[MediaType, int]


class Storage(Protocol):
    """The originals at object storage. Every method raises Unavailable when storage does not answer."""

    async def create(self, key: str, content_type: str) -> str:
        """Begins a multipart upload and returns its identifier."""

    async def sign(
        self, key: str, upload_id: str, sizes_bytes: Mapping[int, int], expires_in: timedelta
    ) -> Mapping[int, str]:
        """URLs by part number; the signature binds each part's exact length."""

    async def list_parts(self, key: str, upload_id: str) -> Sequence[HeldPart]:
        """All parts that storage holds, each number once, the latest. NotFound: no such upload (any more)."""

    async def complete(self, key: str, upload_id: str, claimed: Sequence[ClaimedPart]) -> None:
        """Joins the parts. NotFound: no such upload (any more). FailedPrecondition: storage refuses the parts."""

    async def abort(self, key: str, upload_id: str) -> None:
        """Gives the upload and its parts up; safe to repeat."""

    async def head(self, key: str) -> StoredOriginal:
        """The completed object. NotFound: there is none."""


class Records(Protocol):
    """The sessions at the metadata service. Every method is idempotent and may raise Unavailable."""

    async def create(
        self, user_id: str, claim: Claim, part_size_bytes: int, time_to_live: timedelta, request_id: str
    ) -> Session:
        """Records the intent; a repeat with the same non-empty `request_id` answers with the first record."""

    async def attach(self, media_id: str, upload_id: str) -> Session:
        """Attaches a multipart upload; the first one wins, and the answer holds the winner."""

    async def get(self, user_id: str, media_id: str) -> Session:
        """Reads a session. NotFound: unknown, or another's."""

    async def begin_complete(self, user_id: str, media_id: str) -> Session:
        """Open → completing. FailedPrecondition: aborted or expired."""

    async def reopen(self, media_id: str) -> None:
        """Completing → open; other states stay."""

    async def begin_processing(self, media_id: str, original: StoredOriginal) -> None:
        """Completing → completed: pins the original and announces it, once.

        Open too: another call whose parts were refused may have reopened the session while this one joined them.
        """

    async def abort(self, user_id: str, media_id: str, failure: Failure) -> Session:
        """Open → aborted, the media failed. FailedPrecondition: completing or complete."""


class Sessions:
    """The use cases of an open upload."""

    def __init__(self, storage: Storage, records: Records, terms: Terms) -> None:
        self._storage = storage
        self._records = records
        self._terms = terms

    async def initiate(
        self, user_id: str, *, filename: str, content_type: str, size_bytes: int, request_id: str
    ) -> SignedWindow:
        """Begins an upload and signs its first parts.

        A repeat with the same `request_id` finds the first session, finishes what a crash left undone and signs
        afresh; when that session is no longer open, there is nothing to sign and the window is empty. Without one, the
        call gets one of its own, so that a repeat of a step below makes no second session.

        Raises:
            InvalidArgument: name, type or size are out of bounds, or `request_id` belongs to another file.
        """
        claim = claims.check(filename, content_type, size_bytes, self._terms.max_size_bytes)
        layout = parts.choose_layout(claim.size_bytes, self._terms.part_size_bytes)
        session = await self._records.create(
            user_id, claim, layout.part_size_bytes, self._terms.session_ttl, request_id or uuid.uuid4().hex
        )
        if session.state is not SessionState.OPEN:
            return SignedWindow(session, (), datetime.now(UTC))
        session = await self._attached(session)
        last = min(session.layout.part_count, self._terms.window_parts)
        return await self._signed(session, range(1, last + 1))

    async def sign(self, user_id: str, media_id: str, numbers: Sequence[int]) -> SignedWindow:
        """Signs more parts, or the same ones afresh.

        Raises:
            NotFound: unknown, or another's.
            InvalidArgument: numbers that the file does not have.
            FailedPrecondition: the upload is no longer open.
        """
        session = _open(await self._records.get(user_id, media_id))
        parts.check_signable(session.layout, numbers)
        return await self._signed(session, numbers)

    async def held(self, user_id: str, media_id: str) -> tuple[Session, Sequence[HeldPart]]:
        """The session and the parts that storage confirmed, by number.

        Also while it is completing: a client that lost what storage told it completes the upload again with these.

        Raises:
            NotFound: unknown, or another's.
            FailedPrecondition: the upload is neither open nor completing, its parts are joined already, or storage no
                longer knows it.
        """
        session = await self._records.get(user_id, media_id)
        if session.state is not SessionState.COMPLETING:
            session = _open(session)
        try:
            return session, await self._storage.list_parts(session.s3_key, session.upload_id)
        except NotFound as error:
            if session.state is SessionState.COMPLETING:
                raise FailedPrecondition(
                    "storage has no parts any more: joined, or lost; completing again tells", reason="UPLOAD_COMPLETING"
                ) from error
            raise lost() from error

    async def abort(self, user_id: str, media_id: str) -> None:
        """Gives an upload up, first in the record, then at storage. Safe to repeat.

        Raises:
            NotFound: unknown, or another's.
            FailedPrecondition: it is completing or complete.
        """
        session = await self._records.get(user_id, media_id)
        with tracing.continuing("abort upload", session.traceparent):
            failure = Failure("upload_aborted", "The upload was cancelled by its owner.")
            session = await self._records.abort(user_id, media_id, failure)
            if session.upload_id:
                await self._storage.abort(session.s3_key, session.upload_id)

    async def _attached(self, session: Session) -> Session:
        """The session with a multipart upload: the one it has, or a new one unless another call was quicker."""
        if session.upload_id:
            return session
        upload_id = await self._storage.create(session.s3_key, session.content_type)
        session = await self._records.attach(session.media_id, upload_id)
        if session.upload_id != upload_id:
            await self._storage.abort(session.s3_key, upload_id)
        return _open(session)

    async def _signed(self, session: Session, numbers: Sequence[int]) -> SignedWindow:
        sizes_bytes = session.layout.sizes(numbers)
        expires_at = datetime.now(UTC) + self._terms.url_ttl
        urls = await self._storage.sign(session.s3_key, session.upload_id, sizes_bytes, self._terms.url_ttl)
        signed = [SignedPart(number, urls[number], size_bytes) for number, size_bytes in sizes_bytes.items()]
        return SignedWindow(session, signed, expires_at)


def lost() -> FailedPrecondition:
    """The refusal of an upload that storage no longer knows."""
    return FailedPrecondition("storage no longer holds this upload: begin a new one", reason="UPLOAD_LOST")


def _open(session: Session) -> Session:
    """The session, if parts may still arrive.

    Raises:
        FailedPrecondition: it is completing, completed or aborted, or was never begun at storage.
    """
    if session.state is not SessionState.OPEN:
        raise FailedPrecondition(
            f"the upload is {session.state.value}",
            reason="UPLOAD_NOT_OPEN",
            details={"state": session.state.value},
        )
    if not session.upload_id:
        raise FailedPrecondition("the upload was never begun: initiate it again", reason="UPLOAD_NOT_BEGUN")
    return session
