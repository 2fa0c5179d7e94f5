"""The last step: what a generation's playlists are made of, and the flip to published."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from services.metadata import state
from services.metadata.lifecycle import fail, lock_media, media_not_found
from services.metadata.outbox import messages
from services.metadata.records import Failure, Media, MediaStatus, MediaType
from services.metadata.store import Store, Transaction
from services.runtime.errors import FailedPrecondition, InvalidArgument, Stale
from services.runtime.ids import MediaId

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Publication:
    """An encoded generation.

    Attributes:
        media: the media; published already, when this is asked for a second time.
        results: the serialised `TaskResult` of each task, in plan order.
        traceparents: W3C trace context of each task's last attempt, in the same order; empty ones left out.
    """

    media: Media
    results: tuple[bytes, ...]
    traceparents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Playlist:
    """The media playlist of the track with this label, as written."""

    label: str
    s3_manifest_key: str


@dataclass(frozen=True, slots=True)
class Publications:
    """The use cases of publishing, and of failing for good."""

    store: Store

    async def get(self, media_id: MediaId, generation: int) -> Publication:
        """Everything that playlists and verification need.

        Raises:
            Stale: the generation is not current, or it failed.
            FailedPrecondition: tasks remain.
        """

        async def work(transaction: Transaction) -> Publication:
            media = await transaction.media.find(media_id)
            if media is None:
                raise media_not_found()
            _check_current(media, generation)
            await _check_encoded(transaction, media)
            results = await transaction.tasks.results(media)
            return Publication(
                media=media,
                results=tuple(body for body, _ in results),
                traceparents=tuple(traceparent for _, traceparent in results if traceparent),
            )

        return await self.store.transaction(work)

    async def publish(
        self, media_id: MediaId, generation: int, s3_manifest_key: str | None, playlists: Sequence[Playlist]
    ) -> datetime:
        """Makes a generation visible and announces it; a repeat answers the first time and changes nothing.

        Raises:
            Stale: the generation is not current, or it failed.
            FailedPrecondition: tasks remain.
            InvalidArgument: the playlists are not those of its renditions, or lie outside its delivery prefix.
        """

        async def work(transaction: Transaction) -> datetime:
            media = await lock_media(transaction, media_id)
            _check_current(media, generation)
            if media.status is MediaStatus.PUBLISHED:
                assert media.published_at is not None
                return media.published_at
            await _check_encoded(transaction, media)
            _check_playlist_keys(media, s3_manifest_key, playlists)
            await _record_playlists(transaction, media, playlists)
            published_at = await transaction.media.publish(media, s3_manifest_key)
            await transaction.outbox.add([messages.published(media)])
            _log.info("media_published", media_id=str(media_id), generation=generation)
            return published_at

        return await self.store.transaction(work)

    async def fail(self, media_id: MediaId, generation: int, failure: Failure) -> MediaStatus:
        """Fails a media for good. A final one is left as it is.

        An upload that storage completed to something else than was announced may fail this way, too.

        Raises:
            Stale: the generation is not current.
        """

        async def work(transaction: Transaction) -> MediaStatus:
            media = await lock_media(transaction, media_id)
            if media.generation != generation:
                raise Stale(f"generation {media.generation} is current", reason="GENERATION_STALE")
            return (await fail(transaction, media, failure)).status

        return await self.store.transaction(work)


def _check_current(media: Media, generation: int) -> None:
    if media.status is not MediaStatus.PUBLISHED or media.generation != generation:
        state.check_generation(media, generation)


async def _check_encoded(transaction: Transaction, media: Media) -> None:
    planned, remaining = await transaction.tasks.count(media)
    if remaining or not planned:
        raise FailedPrecondition(
            f"{remaining} of {planned} tasks remain", reason="TASKS_REMAIN", details={"remaining": str(remaining)}
        )


def _check_playlist_keys(media: Media, s3_manifest_key: str | None, playlists: Sequence[Playlist]) -> None:
    if (media.type is MediaType.VIDEO) != (s3_manifest_key is not None):
        raise InvalidArgument(
            "a video has a multivariant playlist and an image has none", details={"field": "s3_manifest_key"}
        )
    keys = [playlist.s3_manifest_key for playlist in playlists] + ([s3_manifest_key] if s3_manifest_key else [])
    for key in keys:
        if not key.startswith(f"{media.delivery_prefix}/"):
            raise InvalidArgument(
                "a playlist lies outside the delivery prefix", reason="KEY_OUTSIDE_PREFIX", details={"key": key}
            )


async def _record_playlists(transaction: Transaction, media: Media, playlists: Sequence[Playlist]) -> None:
    """One playlist for each rendition, and for nothing else."""
    wanted = {rendition.resolution for rendition in await transaction.tasks.renditions(media)}
    given = [playlist.label for playlist in playlists]
    if len(given) != len(set(given)) or set(given) != wanted:
        raise InvalidArgument(
            f"playlists are given for {sorted(given)}, renditions are {sorted(wanted)}", details={"field": "playlists"}
        )
    for playlist in playlists:
        await transaction.tasks.set_playlist(media, playlist.label, playlist.s3_manifest_key)
