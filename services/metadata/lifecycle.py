"""What every use case begins or ends with: finding a media under its lock, and failing one."""

from dataclasses import replace

import structlog

from services.metadata.outbox import messages
from services.metadata.records import Failure, Media, MediaStatus, Upload, UploadState
from services.metadata.state import FINAL_MEDIA
from services.metadata.store import Transaction
from services.runtime.errors import NotFound
from services.runtime.ids import MediaId, UserId, shard_of_id, shard_of_user

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


async def fail(transaction: Transaction, media: Media, failure: Failure) -> Media:
    """Fails a media for good: its open upload ends, its unfinished tasks end, `media.failed` is announced.

    Its lock must be held. A media that is final stays as it is.

    Returns:
        The media as it stands afterwards.
    """
    if media.status in FINAL_MEDIA:
        return media
    await transaction.media.fail(media, failure)
    if media.status is MediaStatus.UPLOADING:
        upload = await upload_of(transaction, media.media_id)
        if upload.state in {UploadState.OPEN, UploadState.COMPLETING}:
            await transaction.uploads.move(upload, UploadState.ABORTED)
    await transaction.tasks.end_all(media)
    await transaction.outbox.add([messages.failed(media, failure)])
    _log.info("media_failed", media_id=str(media.media_id), generation=media.generation, reason=failure.reason)
    return replace(media, status=MediaStatus.FAILED, failure=failure)
