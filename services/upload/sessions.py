"""The use cases of an open upload: beginning one, signing its parts, saying what has arrived, giving it up."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from services.runtime import ids
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from services.upload import checksums, claims, clearing, kinds, parts, tracing
from services.upload.checksums import ChecksumAlgorithm
from services.upload.claims import MediaType
from services.upload.kinds import UploadKind
from services.upload.parts import UNKNOWN, HeldPart, Layout
from services.upload.ports import Form, Intent, Records, Storage
from services.upload.session import Failure, Session, SessionState, check_open, check_upload_id, lost

WHOLE_MAX_BYTES: Final = 5 * 1024**3
"""S3's ceiling for one PUT or POST, and for the copy that follows a form."""
_FORM_GRACE: Final = timedelta(hours=1)
"""A form that was begun just before it died may take so long to arrive."""
_COUNTED_EVERY: Final = 16
"""Where a size is not known, what storage holds is counted whenever a client asks for such a part number."""


@dataclass(frozen=True, slots=True)
class SignedPart:
    """A URL to PUT exactly `size_bytes` to (0: any number), with exactly these headers beside Content-Length."""

    number: int
    url: str
    size_bytes: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SignedWindow:
    """A session together with some of its parts, or its form, signed until `expires_at`."""

    session: Session
    parts: Sequence[SignedPart]
    expires_at: datetime
    form: Form | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms uploads are taken; see the settings of the same names."""

    part_size_bytes: int
    put_max_bytes: int
    window_parts: int
    url_ttl: timedelta
    session_ttl: timedelta
    max_size_bytes: Mapping[MediaType, int]


class Sessions:
    """The use cases of an open upload."""

    def __init__(self, storage: Storage, records: Records, terms: Terms) -> None:
        self._storage = storage
        self._records = records
        self._terms = terms

    async def initiate(
        self,
        user_id: str,
        *,
        filename: str,
        content_type: str,
        size_bytes: int,
        request_id: str,
        kind: UploadKind | None = None,
        checksum_algorithm: ChecksumAlgorithm | None = None,
        checksum: str = "",
    ) -> SignedWindow:
        """Begins an upload and signs its first parts, or its form.

        A repeat with the same `request_id` finds the first session and signs afresh; when that session is no longer
        open, there is nothing to sign and the window is empty. Without one, the call gets one of its own, so that a
        repeat of a step below makes no second session.

        The multipart upload begins at storage before it is recorded, which spares a second call of the metadata
        service. A crash in between leaves one that no record knows: the sweeper aborts those.

        Raises:
            InvalidArgument: name, type, size or checksum are out of bounds, or `request_id` belongs to another file.
            ResourceExhausted: the owner's quota is used up.
        """
        may_lack_size = kind in {UploadKind.MULTIPART, UploadKind.FORM}
        limits = self._terms.max_size_bytes
        claim = claims.check(
            filename,
            content_type,
            0 if kind is UploadKind.FORM else size_bytes,  # a form says how much it takes, not how much comes
            limits,
            may_lack_size=may_lack_size,
        )
        checksums.check_whole(checksum_algorithm, checksum)
        if kind is UploadKind.FORM and checksum_algorithm:
            raise InvalidArgument(
                "a form carries no checksum that storage would verify",
                reason="CHECKSUM_INVALID",
                details={"field": "checksum_algorithm"},
            )
        chosen, layout = self._arranged(claim.size_bytes, kind)
        media_id = ids.new_media_id(user_id)
        key = ids.original_key(media_id)
        upload_id = ""
        if chosen is UploadKind.MULTIPART:
            upload_id = await self._storage.create(key, claim.content_type, checksum_algorithm)
        intent = Intent(
            claim=claim,
            kind=chosen,
            part_size_bytes=layout.part_size_bytes,
            checksum_algorithm=checksum_algorithm,
            checksum=checksum,
            time_to_live=self._time_to_live(chosen),
            request_id=request_id or uuid.uuid4().hex,
            media_id=str(media_id),
            upload_id=upload_id,
        )
        try:
            session = await self._records.create(user_id, intent)
        except (InvalidArgument, ResourceExhausted):
            await self._give_up(key, upload_id)
            raise
        if session.upload_id != upload_id:
            await self._give_up(key, upload_id)
        if session.state is not SessionState.OPEN:
            return SignedWindow(session, (), datetime.now(UTC))
        return self._first_window(check_open(session))

    async def sign(
        self, user_id: str, media_id: str, numbers: Sequence[int], given: Sequence[str] = (), *, upload_id: str = ""
    ) -> SignedWindow:
        """Signs more parts, or the same ones afresh.

        Args:
            user_id: who asks.
            media_id: the media being uploaded.
            numbers: of the parts.
            given: their checksums, in the same order, where the upload has an algorithm.
            upload_id: where it is not empty, the session must be this one at storage.

        Raises:
            NotFound: unknown, or another's.
            InvalidArgument: numbers that the file does not have, checksums that are missing or malformed.
            FailedPrecondition: the upload is no longer open.
        """
        session = await self._records.get(user_id, media_id)
        check_upload_id(session, upload_id)
        check_open(session)
        if session.kind is UploadKind.FORM:
            raise FailedPrecondition("this upload takes a form, not parts", reason="UPLOAD_NOT_IN_PARTS")
        parts.check_signable(session.layout, numbers)
        await self._check_unknown_size(session, numbers)
        checksums.check_parts(session.checksum_algorithm, given, len(numbers))
        if session.layout.part_count == 1 and session.checksum and session.checksum not in given:
            raise InvalidArgument(
                "another checksum was given for this file when its upload began",
                reason="CHECKSUM_INVALID",
                details={"field": "checksums"},
            )
        return self._signed(session, numbers, given)

    async def held(self, user_id: str, media_id: str, *, upload_id: str = "") -> tuple[Session, Sequence[HeldPart]]:
        """The session and the parts that storage confirmed, by number.

        Also while it is completing: a client that lost what storage told it completes the upload again with these.

        Raises:
            NotFound: unknown, or another's.
            FailedPrecondition: the upload is neither open nor completing, its parts are joined already, or storage no
                longer knows it.
        """
        session = await self._records.get(user_id, media_id)
        check_upload_id(session, upload_id)
        if session.state is not SessionState.COMPLETING:
            check_open(session)
        if session.kind is not UploadKind.MULTIPART:
            return session, await self._held_whole(session)
        try:
            return session, await self._storage.list_parts(session.s3_key, session.upload_id)
        except NotFound as error:
            if session.state is SessionState.COMPLETING:
                raise FailedPrecondition(
                    "storage has no parts any more: joined, or lost; completing again tells", reason="UPLOAD_COMPLETING"
                ) from error
            raise lost() from error

    async def abort(self, user_id: str, media_id: str, *, upload_id: str = "") -> None:
        """Gives an upload up, first in the record, then at storage. Safe to repeat.

        Raises:
            NotFound: unknown, or another's.
            FailedPrecondition: it is completing or complete.
        """
        session = await self._records.get(user_id, media_id)
        check_upload_id(session, upload_id)
        with tracing.continuing("abort upload", session.traceparent):
            failure = Failure("upload_aborted", "The upload was cancelled by its owner.")
            session = await self._records.abort(user_id, media_id, failure)
            await clearing.clear(self._storage, session)

    def _arranged(self, size_bytes: int, wished: UploadKind | None) -> tuple[UploadKind, Layout]:
        """How the bytes come, and in which cut.

        Raises:
            InvalidArgument: one PUT is wished for what no PUT can hold.
        """
        if not size_bytes:
            return kinds.choose(0, wished, 0), UNKNOWN
        layout = parts.choose_layout(size_bytes, self._terms.part_size_bytes)
        chosen = kinds.choose(size_bytes, wished, min(self._terms.put_max_bytes, layout.part_size_bytes))
        if chosen is UploadKind.PUT:
            claims.check_limit(size_bytes, WHOLE_MAX_BYTES, "one PUT takes")
            layout = Layout(size_bytes, max(size_bytes, layout.part_size_bytes))
        return chosen, layout

    def _time_to_live(self, kind: UploadKind) -> timedelta:
        """A form that has not arrived when its URL is dead will not: nobody can have it signed again."""
        ttl = self._terms.session_ttl
        return min(ttl, self._terms.url_ttl + _FORM_GRACE) if kind is UploadKind.FORM else ttl

    async def _give_up(self, key: str, upload_id: str) -> None:
        """Aborts an upload that no record names; where storage does not answer, the sweeper finds it."""
        if upload_id:
            with suppress(Unavailable):
                await self._storage.abort(key, upload_id)

    async def _check_unknown_size(self, session: Session, numbers: Sequence[int]) -> None:
        """Refuses further parts of a file whose size nobody said once it is, or must be, beyond the limit.

        Raises:
            InvalidArgument: it is too large.
        """
        if session.layout.is_known:
            return
        least_bytes = (max(numbers) - 1) * parts.MIN_PART_SIZE_BYTES + 1
        if any(number % _COUNTED_EVERY == 0 for number in numbers):
            try:
                held = await self._storage.list_parts(session.s3_key, session.upload_id)
            except NotFound as error:
                raise lost() from error
            least_bytes = max(least_bytes, sum(part.size_bytes for part in held))
        claims.check_size(session.media_type, least_bytes, self._terms.max_size_bytes)

    async def _held_whole(self, session: Session) -> Sequence[HeldPart]:
        key = session.incoming_key if session.kind is UploadKind.FORM else session.s3_key
        try:
            whole = await self._storage.head(key)
        except NotFound:
            return ()
        return (HeldPart(1, whole.etag, whole.size_bytes),)

    def _first_window(self, session: Session) -> SignedWindow:
        """What can be signed at once: nothing whose checksum is promised and not known yet."""
        if session.kind is UploadKind.FORM:
            return self._signed_form(session)
        if session.checksum_algorithm is None:
            return self._signed(session, range(1, min(session.layout.part_count, self._terms.window_parts) + 1), ())
        is_known = session.layout.part_count == 1 and session.checksum
        return self._signed(session, (1,), (session.checksum,)) if is_known else self._signed(session, (), ())

    def _signed(self, session: Session, numbers: Sequence[int], given: Sequence[str]) -> SignedWindow:
        ttl = self._terms.url_ttl
        expires_at = datetime.now(UTC) + ttl
        checksum_of = dict(zip(numbers, given, strict=True)) if given else {}
        headers = {number: _headers(session, checksum_of.get(number, "")) for number in numbers}
        lengths = {number: session.layout.size_of(number) for number in numbers}
        bound = {
            number: headers[number] | ({"content-length": str(lengths[number])} if lengths[number] else {})
            for number in numbers
        }
        if session.kind is UploadKind.PUT:
            urls: Mapping[int, str] = {
                number: self._storage.sign_put(session.s3_key, bound[number], ttl) for number in numbers
            }
        else:
            urls = self._storage.sign_parts(session.s3_key, session.upload_id, bound, ttl)
        signed = [SignedPart(number, urls[number], lengths[number], headers[number]) for number in numbers]
        return SignedWindow(session, signed, expires_at)

    def _signed_form(self, session: Session) -> SignedWindow:
        expires_at = datetime.now(UTC) + self._terms.url_ttl
        limit_bytes = min(self._terms.max_size_bytes[session.media_type], WHOLE_MAX_BYTES)
        form = self._storage.sign_form(session.incoming_key, limit_bytes, self._terms.url_ttl)
        return SignedWindow(session, (), expires_at, form)


def _headers(session: Session, checksum: str) -> dict[str, str]:
    """What a PUT must carry beside its length: its checksum; and for a whole object, that there is none yet.

    So a URL that is used again after the object is there, by accident or on purpose, changes nothing.
    """
    headers = {"if-none-match": "*"} if session.kind is UploadKind.PUT else {}
    if session.checksum_algorithm and checksum:
        headers[session.checksum_algorithm.header] = checksum
    return headers
