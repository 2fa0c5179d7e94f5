"""Completing an upload: from parts at storage to an original that is pinned and queued. Safe to repeat at any point.

Every step leaves a state from which the same call, made again, goes on:

    crash after            the repeat finds                         and goes on with
    the comparison         open, parts at storage                   all of it
    begin_complete         completing, parts at storage             joining
    joining                completing, no upload but the object     pinning
    pinning                completed                                nothing

Storage's answer decides, never a guess: when it knows no such upload, or refuses the parts, a HEAD tells whether an
earlier call has already joined them. Nothing but the joined parts can ever appear under the original's key, since every
URL that was signed is a URL for a part.
"""

from collections.abc import Sequence
from typing import Final

from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from services.upload import parts, tracing
from services.upload.parts import ClaimedPart
from services.upload.sessions import Failure, Records, Session, SessionState, Storage, StoredOriginal, lost

_LOST: Final = Failure("upload_lost", "Storage no longer holds what was uploaded. Upload the file again.")


class Completion:
    """The use case of completing an upload."""

    def __init__(self, storage: Storage, records: Records) -> None:
        self._storage = storage
        self._records = records

    async def complete(self, user_id: str, media_id: str, claimed: Sequence[ClaimedPart]) -> None:
        """Joins the parts, pins the original by ETag and size, and has its processing begin.

        Returns at once when the upload is complete already.

        Raises:
            NotFound: unknown, or another's.
            InvalidArgument: parts are missing or differ; `details` say which. The upload stays open.
            FailedPrecondition: the upload was aborted or expired; or storage no longer knows it, and the media fails.
        """
        session = await self._records.get(user_id, media_id)
        with tracing.continuing("complete upload", session.traceparent):
            if session.state is SessionState.COMPLETED:
                return
            try:
                await self._compare(session, claimed)
            except InvalidArgument:
                if session.state is SessionState.COMPLETING:
                    await self._records.reopen(media_id)  # so that what differs can be signed and sent again
                raise
            session = await self._records.begin_complete(user_id, media_id)
            if session.state is SessionState.COMPLETED:
                return
            await self._join(session, claimed)
            original = await self._verified(session)
            await self._records.begin_processing(media_id, original)

    async def _compare(self, session: Session, claimed: Sequence[ClaimedPart]) -> None:
        """Refuses what cannot succeed before any state changes."""
        parts.check_claim(session.layout, claimed)
        if not session.upload_id:
            raise FailedPrecondition("the upload was never begun: initiate it again", reason="UPLOAD_NOT_BEGUN")
        try:
            held = await self._storage.list_parts(session.s3_key, session.upload_id)
        except NotFound:
            return  # joined by an earlier call, or given up: the steps that follow find out
        parts.check_held(session.layout, claimed, held)

    async def _join(self, session: Session, claimed: Sequence[ClaimedPart]) -> None:
        ordered = sorted(claimed, key=lambda part: part.number)
        try:
            await self._storage.complete(session.s3_key, session.upload_id, ordered)
        except NotFound:
            return  # as above: the HEAD that follows tells
        except FailedPrecondition as refusal:
            if await self._is_joined(session):
                return
            await self._records.reopen(session.media_id)
            raise InvalidArgument(
                "storage refuses these parts: list what it holds and send what differs again",
                reason="PARTS_REFUSED",
                details={"field": "parts", **refusal.details},
            ) from refusal

    async def _is_joined(self, session: Session) -> bool:
        try:
            await self._storage.head(session.s3_key)
        except NotFound:
            return False
        return True

    async def _verified(self, session: Session) -> StoredOriginal:
        """The original, exactly as long as it was claimed to be; the media fails when it is not, or is not there."""
        try:
            original = await self._storage.head(session.s3_key)
        except NotFound as error:
            await self._fail(session, _LOST)
            raise lost() from error
        if original.size_bytes == session.layout.size_bytes:
            return original
        message = f"{original.size_bytes:,} bytes arrived where {session.layout.size_bytes:,} were announced"
        await self._fail(session, Failure("size_mismatch", message))
        raise FailedPrecondition(message, reason="SIZE_MISMATCH")

    async def _fail(self, session: Session, failure: Failure) -> None:
        """Ends a completing session; only an open one can be aborted."""
        await self._records.reopen(session.media_id)
        await self._records.abort(session.user_id, session.media_id, failure)
