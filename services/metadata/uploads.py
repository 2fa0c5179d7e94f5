"""From the intent to upload to a pinned original."""

import base64
import secrets
import string
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from services.metadata.lifecycle import (
    check_owner_shard,
    fail,
    lock_media,
    lock_owned_media,
    media_not_found,
    move_upload,
    upload_of,
)
from services.metadata.outbox import messages
from services.metadata.quotas import exhausted, reserve_bytes
from services.metadata.records import (
    Amount,
    ChecksumAlgorithm,
    Failure,
    Media,
    MediaType,
    NewMedia,
    Original,
    Upload,
    UploadKind,
    UploadState,
)
from services.metadata.state import check_upload_move, look_after
from services.metadata.store import Store, Transaction
from services.metadata.store.uploads import NoRoom
from services.runtime import ids, telemetry
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.ids import MediaId, UserId

TOKEN_LENGTH: Final = 24
"""Letters and digits of a delivery prefix's token: log2(62) times 24 = 142 bits, more than anyone can guess."""

_ALPHABET: Final = string.ascii_letters + string.digits

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What a client asks for; sizes in bytes, 0 where they are not known; None where there is no such thing.

    `media_id` and `upload_id` are of an upload that has begun at storage already.
    """

    user_id: UserId
    type: MediaType
    filename: str
    content_type: str
    size_bytes: int
    part_size_bytes: int
    time_to_live: timedelta
    request_id: str | None
    kind: UploadKind
    checksum_algorithm: ChecksumAlgorithm | None
    checksum: str | None
    media_id: MediaId | None
    upload_id: str | None


@dataclass(frozen=True, slots=True)
class Uploads:
    """The use cases of an upload.

    Attributes:
        store: where all of it is kept.
        completing_grace: how long a complete call may be under way before the deadline of the media counts again.
        processing_limit: how long processing may take before the media fails.
        limits: quota of an owner that has none of their own.
    """

    store: Store
    completing_grace: timedelta
    processing_limit: timedelta
    limits: Amount

    async def create(self, request: UploadRequest) -> Upload:
        """Records the intent to upload; a repeat with the same request id answers with the first record.

        Raises:
            InvalidArgument: the request id was used for something else.
            ResourceExhausted: the owner's quota is used up.
        """
        new = _new_media(request)

        sweep_after = look_after(new.kind, UploadState.OPEN)
        try:
            upload = await self.store.statement(
                lambda transaction: transaction.uploads.begin(new, self.limits, sweep_after)
            )
        except NoRoom:
            wanted = Amount(bytes=new.size_bytes, media=1, open_uploads=1)
            raise await self.store.statement(
                lambda transaction: exhausted(transaction, new.user_id, wanted, self.limits)
            ) from None
        if upload is not None:
            return upload
        return await self.store.transaction(lambda transaction: _repeated(transaction, new, request))

    async def attach(self, media_id: MediaId, upload_id: str) -> Upload:
        """Attaches storage's multipart upload to an open session; the first one stays. Answers the session as it is."""
        upload = await self.store.statement(lambda transaction: transaction.uploads.attach(media_id, upload_id))
        if upload is None:
            raise media_not_found()
        return upload

    async def get(self, user_id: UserId, media_id: MediaId) -> Upload:
        """The session of a media of one owner.

        Raises:
            NotFound: there is none, or it is another's.
        """
        check_owner_shard(user_id, media_id)
        upload = await self.store.statement(lambda transaction: transaction.uploads.find_owned(user_id, media_id))
        if upload is None:
            raise media_not_found()
        return upload

    async def begin_complete(
        self, user_id: UserId, media_id: MediaId, *, size_bytes: int = 0, checksum: str | None = None
    ) -> Upload:
        """Moves an open session to completing; one that is completing or completed is answered as it is.

        Args:
            user_id: the owner who asks.
            media_id: the media.
            size_bytes: what storage holds, where no size was claimed; 0 otherwise.
            checksum: of the whole, where none was given before.

        Raises:
            FailedPrecondition: it was aborted, or its time is up.
            ResourceExhausted: what storage holds is more than the owner's quota allows.
        """
        check_owner_shard(user_id, media_id)

        async def work(transaction: Transaction) -> Upload:
            media = await lock_owned_media(transaction, user_id, media_id)
            upload = await upload_of(transaction, media_id)
            if upload.state is UploadState.COMPLETED:
                return upload
            if upload.state is not UploadState.COMPLETING:
                check_upload_move(upload.state, UploadState.COMPLETING)
                if upload.expired:
                    raise FailedPrecondition("the upload was not completed in time", reason="UPLOAD_EXPIRED")
                await move_upload(transaction, upload, UploadState.COMPLETING)
            await self._measure(transaction, media, upload, size_bytes, checksum)
            # A repeat counts as a sign of life: storage may take its time over many parts.
            await transaction.media.set_deadline(media, wait=self.completing_grace, not_before=upload.expires_at)
            return await upload_of(transaction, media_id)

        return await self.store.transaction(work)

    async def _measure(
        self, transaction: Transaction, media: Media, upload: Upload, size_bytes: int, checksum: str | None
    ) -> None:
        """Keeps a size and a checksum that were not known before; the quota follows the size."""
        is_news = size_bytes > 0 and upload.size_bytes == 0
        measured_bytes = size_bytes if is_news else media.size_bytes
        more_bytes = measured_bytes - media.size_bytes
        if more_bytes > 0:
            await reserve_bytes(transaction, media.user_id, more_bytes, self.limits)
        elif more_bytes < 0:
            await transaction.quotas.release(media.user_id, Amount(bytes=-more_bytes))
        if more_bytes or checksum:
            await transaction.media.measure(media, measured_bytes, checksum)

    async def reopen(self, media_id: MediaId) -> Upload:
        """Gives a completing session back to open; any other is answered as it is."""

        async def work(transaction: Transaction) -> Upload:
            media = await lock_media(transaction, media_id)
            upload = await upload_of(transaction, media_id)
            if upload.state is UploadState.COMPLETING:
                await move_upload(transaction, upload, UploadState.OPEN)
                await transaction.media.set_deadline(media, wait=timedelta(0), not_before=upload.expires_at)
            return await upload_of(transaction, media_id)

        return await self.store.transaction(work)

    async def begin_processing(self, media_id: MediaId, original: Original) -> Media:
        """Pins the original and announces `media.uploaded`; a repeat with the same original changes nothing.

        An open session may be pinned, too: another call, which storage refused, may have given it back meanwhile, and
        what storage holds decides.

        Raises:
            FailedPrecondition: another original is pinned, or the session was aborted.
            InvalidArgument: the key is not the one that the record gave out.
        """

        async def work(transaction: Transaction) -> Media:
            media = await lock_media(transaction, media_id)
            upload = await upload_of(transaction, media_id)
            if original.s3_key != media.s3_key:
                raise InvalidArgument("another key than the record's", details={"field": "original.s3_key"})
            if upload.state is UploadState.COMPLETED:
                if original != media.original:
                    raise FailedPrecondition("another original is pinned", reason="ORIGINAL_DIFFERS")
                return media
            check_upload_move(upload.state, UploadState.COMPLETED)
            await move_upload(transaction, upload, UploadState.COMPLETED)
            await transaction.media.begin_processing(media, original.etag, original.size_bytes, self.processing_limit)
            ended = Amount(bytes=media.size_bytes - original.size_bytes, open_uploads=1)
            await transaction.quotas.release(media.user_id, ended)
            media = await lock_media(transaction, media_id)
            await transaction.outbox.add([messages.uploaded(media, _unverified_sha256(upload))])
            _log.info("processing_began", media_id=str(media_id), size_bytes=original.size_bytes)
            return media

        return await self.store.transaction(work)

    async def abort(self, user_id: UserId | None, media_id: MediaId, failure: Failure) -> tuple[Media, Upload]:
        """Gives an open upload up; a repeat answers the same.

        Args:
            user_id: the owner who asks; None when the suite itself does.
            media_id: the media.
            failure: recorded as the media's.

        Raises:
            FailedPrecondition: it is completing or completed.
        """
        if user_id is not None:
            check_owner_shard(user_id, media_id)

        async def work(transaction: Transaction) -> tuple[Media, Upload]:
            if user_id is None:
                media = await lock_media(transaction, media_id)
            else:
                media = await lock_owned_media(transaction, user_id, media_id)
            upload = await upload_of(transaction, media_id)
            if upload.state is not UploadState.ABORTED:
                if upload.state is UploadState.COMPLETING:
                    raise FailedPrecondition("the upload is being completed", reason="UPLOAD_COMPLETING")
                check_upload_move(upload.state, UploadState.ABORTED)
                media = await fail(transaction, media, failure)
            return media, await upload_of(transaction, media_id)

        return await self.store.transaction(work)


def _new_media(request: UploadRequest) -> NewMedia:
    shard = ids.shard_of_user(request.user_id)
    media_id = request.media_id or ids.new_media_id(request.user_id)
    if ids.shard_of_id(media_id) != shard:
        raise InvalidArgument("another shard than the owner's", details={"field": "media_id"})
    folder = f"{ids.shard_prefix(shard)}/{media_id}"
    return NewMedia(
        shard=shard,
        media_id=media_id,
        user_id=request.user_id,
        type=request.type,
        filename=request.filename,
        content_type=request.content_type,
        size_bytes=request.size_bytes,
        part_size_bytes=request.part_size_bytes,
        time_to_live=request.time_to_live,
        request_id=request.request_id,
        s3_key=ids.original_key(media_id),
        delivery_prefix=f"{folder}/1/{new_token()}",
        traceparent=telemetry.trace_headers().get("traceparent", ""),
        kind=request.kind,
        checksum_algorithm=request.checksum_algorithm,
        checksum=request.checksum,
        upload_id=request.upload_id,
    )


def _unverified_sha256(upload: Upload) -> bytes:
    """The SHA-256 of the whole that storage could not verify: joining parts, it knows only those of the parts."""
    if upload.checksum is None or upload.checksum_algorithm is not ChecksumAlgorithm.SHA256:
        return b""
    return base64.b64decode(upload.checksum) if upload.kind is UploadKind.MULTIPART else b""


def new_token() -> str:
    """A fresh token of a delivery prefix; nobody can guess it before the API tells it."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))


async def _repeated(transaction: Transaction, new: NewMedia, request: UploadRequest) -> Upload:
    first = await _first(transaction, new)
    upload = await upload_of(transaction, first.media_id)
    _check_same(first, upload, request)
    return upload


async def _first(transaction: Transaction, new: NewMedia) -> Media:
    """The record that was there already: of the same request, or of this call's own lost commit."""
    first = await transaction.media.find_owned(new.user_id, new.media_id)
    if first is None and new.request_id is not None:
        first = await transaction.media.by_request(new.shard, new.user_id, new.request_id)
    if first is None:
        raise InvalidArgument("this identifier is another owner's", details={"field": "media_id"})
    return first


def _check_same(first: Media, upload: Upload, request: UploadRequest) -> None:
    asked = (request.filename, request.content_type, request.size_bytes, request.kind, request.checksum_algorithm)
    if asked != (first.filename, first.content_type, upload.size_bytes, upload.kind, first.checksum_algorithm):
        raise InvalidArgument(
            "request_id was used for another upload", reason="REQUEST_ID_REUSED", details={"field": "request_id"}
        )
