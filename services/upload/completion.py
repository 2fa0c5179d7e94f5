"""Completing an upload: from bytes at storage to an original that is pinned and queued. Safe to repeat at any point.

Every step leaves a state from which the same call, made again, goes on:

    crash after            the repeat finds                         and goes on with
    the comparison         open, parts at storage                   all of it
    begin_complete         completing, parts at storage             joining
    joining                completing, no upload but the object     pinning
    pinning                completed                                nothing

Storage's answer decides, never a guess: when it knows no such upload, or refuses the parts, a HEAD tells whether an
earlier call has already joined them. Nothing else can appear under the original's key: every URL that was signed is one
for a part, or for a whole that storage takes once, or leads to another key.

A whole that came with one PUT needs no joining. A form's file is copied, from the key that its URL leads to, under the
entity tag that was looked at.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from services.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from services.upload import checksums, claims, parts, tracing
from services.upload.checksums import ChecksumAlgorithm
from services.upload.claims import MediaType
from services.upload.kinds import UploadKind
from services.upload.parts import ClaimedPart, HeldPart
from services.upload.ports import Records, Storage
from services.upload.session import (
    Failure,
    Session,
    SessionState,
    StoredOriginal,
    check_begun,
    check_upload_id,
    lost,
)

_LOST: Final = Failure("upload_lost", "Storage no longer holds what was uploaded. Upload the file again.")


class Completion:
    """The use case of completing an upload."""

    def __init__(self, storage: Storage, records: Records, max_size_bytes: Mapping[MediaType, int]) -> None:
        self._storage = storage
        self._records = records
        self._max_size_bytes = max_size_bytes

    async def complete(
        self, user_id: str, media_id: str, claimed: Sequence[ClaimedPart], *, checksum: str = "", upload_id: str = ""
    ) -> None:
        """Joins the parts, pins the original by ETag and size, and has its processing begin.

        Returns at once when the upload is complete already.

        Args:
            user_id: who asks.
            media_id: the media being uploaded.
            claimed: every part.
            checksum: of the whole, where it was not given before; empty for none.
            upload_id: where it is not empty, the session must be this one at storage.

        Raises:
            NotFound: unknown, or another's.
            InvalidArgument: parts are missing or differ, or are too many bytes; `details` say which. The upload stays
                open.
            ResourceExhausted: the owner's quota does not allow what storage holds. The upload stays open.
            FailedPrecondition: the upload was aborted or expired; or storage no longer knows it, or holds other bytes
                than its size or checksum say, and the media fails.
        """
        session = await self._records.get(user_id, media_id)
        check_upload_id(session, upload_id)
        with tracing.continuing("complete upload", session.traceparent):
            if session.state is SessionState.COMPLETED:
                return
            _check_not_aborted(session)
            _check_checksum(session, checksum)
            if session.kind is UploadKind.FORM:
                if not await self._take_in(session):
                    raise InvalidArgument(
                        "the form was not sent yet", reason="PARTS_INCOMPLETE", details={"field": "parts"}
                    )
                return
            parts.check_claim(session.layout, claimed)
            check_begun(session)
            try:
                size_bytes = await self._compare(session, claimed)
            except InvalidArgument:
                if not await self._is_joined_meanwhile(session):
                    if session.state is SessionState.COMPLETING:
                        await self._records.reopen(media_id)  # so that what differs can be signed and sent again
                    _check_not_aborted(await self._records.get(user_id, media_id))  # which clears what is compared
                    raise
                size_bytes = 0
            session = await self._records.begin_complete(user_id, media_id, size_bytes=size_bytes, checksum=checksum)
            if session.state is SessionState.COMPLETED:
                return
            await self._join(session, claimed)
            await self._pin(session)

    async def take_in(self, session: Session) -> bool:
        """Completes a form's upload if its file has arrived; False when it has not.

        A file that its owner's quota does not allow fails the media: nobody is there to be told.
        """
        with tracing.continuing("complete upload", session.traceparent):
            try:
                return await self._take_in(session)
            except ResourceExhausted as error:
                failure = Failure("quota_exceeded", f"There was no room for the file: {error.message}.")
                await self._fail(session, failure)
                return True

    async def resume(self, session: Session) -> None:
        """Goes on with a session whose completion stopped midway: pins what was joined, or opens it again."""
        with tracing.continuing("complete upload", session.traceparent):
            if await self._is_joined(session):
                await self._pin(session)
            else:
                await self._records.reopen(session.media_id)

    async def _compare(self, session: Session, claimed: Sequence[ClaimedPart]) -> int:
        """Refuses what cannot succeed before any state changes.

        Returns:
            How many bytes storage holds of them, where that is news; else 0.
        """
        try:
            held = await self._held(session)
        except NotFound:
            return 0  # joined by an earlier call, or given up: the steps that follow find out
        parts.check_held(session.layout, claimed, held)
        if session.layout.is_known:
            return 0
        size_bytes = parts.total_size(claimed, held)
        claims.check_size(session.media_type, size_bytes, self._max_size_bytes)
        return size_bytes

    async def _held(self, session: Session) -> Sequence[HeldPart]:
        if session.kind is UploadKind.MULTIPART:
            return await self._storage.list_parts(session.s3_key, session.upload_id)
        try:
            whole = await self._storage.head(session.s3_key)
        except NotFound:
            return ()
        return (HeldPart(1, whole.etag, whole.size_bytes),)

    async def _join(self, session: Session, claimed: Sequence[ClaimedPart]) -> None:
        if session.kind is UploadKind.PUT:
            return
        ordered = sorted(claimed, key=lambda part: part.number)
        try:
            await self._storage.complete(session.s3_key, session.upload_id, ordered, session.checksum_algorithm)
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

    async def _take_in(self, session: Session) -> bool:
        """Copies a form's file to where no URL leads, and pins it there; False when none has arrived."""
        try:
            incoming = await self._storage.head(session.incoming_key)
        except NotFound:
            return False
        session = await self._records.begin_complete(
            session.user_id, session.media_id, size_bytes=incoming.size_bytes, checksum=""
        )
        if session.state is not SessionState.COMPLETED:
            try:
                await self._storage.copy(session.incoming_key, incoming.etag, session.s3_key)
            except (AlreadyExists, NotFound):
                # Another call copied it, and perhaps cleared it away; or the form was sent again: look again.
                if not await self._is_joined(session):
                    await self._records.reopen(session.media_id)
                    return False
            await self._pin(session)
        await self._storage.delete(session.incoming_key)
        return True

    async def _pin(self, session: Session) -> None:
        original = await self._verified(session)
        await self._records.begin_processing(session.media_id, original)

    async def _is_joined_meanwhile(self, session: Session) -> bool:
        """Whether another call joined the parts while this one compared them: they vanish one by one, as listed."""
        return session.kind is UploadKind.MULTIPART and await self._is_joined(session)

    async def _is_joined(self, session: Session) -> bool:
        return await self._storage.exists(session.s3_key)

    async def _verified(self, session: Session) -> StoredOriginal:
        """The original, as long as was claimed and with its checksum; the media fails when it is not, or not there."""
        try:
            original = await self._storage.head(session.s3_key)
        except NotFound as error:
            await self._fail(session, _LOST)
            raise lost() from error
        if session.layout.is_known and original.size_bytes != session.layout.size_bytes:
            message = f"{original.size_bytes:,} bytes arrived where {session.layout.size_bytes:,} were announced"
            await self._fail(session, Failure("size_mismatch", message))
            raise FailedPrecondition(message, reason="SIZE_MISMATCH")
        found = original.checksums.get(session.checksum_algorithm, "") if session.checksum_algorithm else ""
        if session.checksum and _is_known_to_storage(session) and found != session.checksum:
            mismatch = checksums.mismatch(session.checksum, found)
            await self._fail(session, Failure("checksum_mismatch", f"The file arrived damaged: {mismatch.message}."))
            raise mismatch
        return original

    async def _fail(self, session: Session, failure: Failure) -> None:
        """Ends a session that may be completing; only an open one can be aborted."""
        await self._records.reopen(session.media_id)
        await self._records.abort(session.user_id, session.media_id, failure)


def _check_not_aborted(session: Session) -> None:
    if session.state is SessionState.ABORTED:
        raise FailedPrecondition("the upload is aborted", reason="UPLOAD_ABORTED")


def _is_known_to_storage(session: Session) -> bool:
    """Whether storage can tell the checksum of the whole: not from parts' hashes. The planner reads the bytes then."""
    return not (session.kind is UploadKind.MULTIPART and session.checksum_algorithm is ChecksumAlgorithm.SHA256)


def _check_checksum(session: Session, checksum: str) -> None:
    checksums.check_whole(session.checksum_algorithm, checksum)
    if checksum and session.checksum and checksum != session.checksum:
        raise InvalidArgument(
            "another checksum was given for this file before",
            reason="CHECKSUM_INVALID",
            details={"field": "checksum"},
        )
