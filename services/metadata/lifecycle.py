"""What every use case begins or ends with: finding a media under its lock, moving its upload, and failing it."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import structlog

from services.metadata.outbox import messages
from services.metadata.records import Amount, Failure, Media, MediaStatus, Upload, UploadState
from services.metadata.state import FINAL_MEDIA, look_after
from services.metadata.store import Transaction
from services.runtime.errors import NotFound
from services.runtime.ids import MediaId, UserId, shard_of_id, shard_of_user

FAILED_ORIGINAL_KEEP: Final = timedelta(hours=1)
"""An original that could not be processed no longer counts in its owner's quota, so it is not kept for long."""

_log = structlog.get_logger(__name__)


def media_not_found() -> NotFound:
    """The one answer for media that are unknown, malformed or another's: they cannot be told apart."""
    return NotFound("no such media", reason="MEDIA_NOT_FOUND")


def check_owner_shard(user_id: UserId, media_id: MediaId) -> None:
    """Refuses, without a query, media that cannot be this user's.

    Raises:
        NotFound: the id lies in another shard than the user.
    """
    if shard_of_user(user_id) != shard_of_id(media_id):
        raise media_not_found()


async def lock_media(transaction: Transaction, media_id: MediaId) -> Media:
    """One media, held until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    media = await transaction.media.lock(media_id)
    if media is None:
        raise media_not_found()
    return media


async def lock_owned_media(transaction: Transaction, user_id: UserId, media_id: MediaId) -> Media:
    """One media of one owner, held until the transaction ends.

    Raises:
        NotFound: there is none, or it is another's.
    """
    media = await transaction.media.lock(media_id)
    if media is None or media.user_id != user_id:
        raise media_not_found()
    return media


async def upload_of(transaction: Transaction, media_id: MediaId) -> Upload:
    """The session of a media.

    Raises:
        NotFound: there is none.
    """
    upload = await transaction.uploads.find(media_id)
    if upload is None:
        raise media_not_found()
    return upload


async def move_upload(transaction: Transaction, upload: Upload, state: UploadState) -> None:
    """Moves an upload to another state, and has its objects looked after where that state asks for it."""
    await transaction.uploads.move(upload, state, look_after(upload.kind, state))


async def fail(transaction: Transaction, media: Media, failure: Failure) -> Media:
    """Fails a media for good: its upload and tasks end, its quota is given back, `media.failed` is announced.

    Its lock must be held. A media that is final stays as it is.

    Returns:
        The media as it stands afterwards.
    """
    if media.status in FINAL_MEDIA:
        return media
    await transaction.media.fail(media, failure)
    is_upload = media.status is MediaStatus.UPLOADING
    if is_upload:
        await move_upload(transaction, await upload_of(transaction, media.media_id), UploadState.ABORTED)
    else:
        await transaction.uploads.sweep_later(media.media_id, FAILED_ORIGINAL_KEEP)
    await transaction.tasks.end_all(media)
    used = Amount(bytes=media.size_bytes, media=1, open_uploads=1 if is_upload else 0)
    await transaction.quotas.release(media.user_id, used)
    await transaction.outbox.add([messages.failed(media, failure)])
    _log.info("media_failed", media_id=str(media.media_id), generation=media.generation, reason=failure.reason)
    return replace(media, status=MediaStatus.FAILED, failure=failure)
