"""Media as their owners see them. Every read names the owner; another's media cannot be told from an unknown one."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.metadata import pages
from services.metadata.lifecycle import check_owner_shard, media_not_found
from services.metadata.pages import Position
from services.metadata.records import Media, MediaStatus, Rendition, TaskSummary, Thumbnail
from services.metadata.store import Store, Transaction
from services.runtime.ids import MediaId, UserId, shard_of_user


@dataclass(frozen=True, slots=True)
class MediaView:
    """A media with what was planned for it, and, once it is published, with what was made of it."""

    media: Media
    tasks: Sequence[TaskSummary] = field(default=())
    renditions: Sequence[Rendition] = field(default=())
    thumbnails: Sequence[Thumbnail] = field(default=())


@dataclass(frozen=True, slots=True)
class Page:
    """Some media, newest first, and the token of the next page; an empty one alone ends the list."""

    items: Sequence[MediaView]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Views:
    """The use cases of owners who look at their media."""

    store: Store

    async def get(self, user_id: UserId, media_id: MediaId) -> MediaView:
        """One media of one owner.

        Raises:
            NotFound: there is none, or it is another's.
        """
        check_owner_shard(user_id, media_id)

        async def work(transaction: Transaction) -> MediaView:
            media = await transaction.media.find_owned(user_id, media_id)
            if media is None:
                raise media_not_found()
            return await _view(transaction, media)

        return await self.store.transaction(work)

    async def page(self, user_id: UserId, page_size: int, page_token: str, status: MediaStatus | None) -> Page:
        """A page of an owner's media: without tasks and renditions, and with the smallest thumbnail alone.

        Args:
            user_id: the owner.
            page_size: at most this many; see `pages.page_size`.
            page_token: of the page before; empty for the first.
            status: only media in this status; None for all.

        Raises:
            InvalidArgument: the token does not continue this list.
        """
        size, after = pages.page_size(page_size), pages.decode(page_token, status)
        shard = shard_of_user(user_id)

        async def work(transaction: Transaction) -> Page:
            found = await transaction.media.list_owned(shard, user_id, status, after, size + 1)
            shown = found[:size]
            stills = await transaction.tasks.smallest_thumbnails(shard, [media.media_id for media in shown])
            token = (
                pages.encode(Position(shown[-1].created_at, shown[-1].media_id), status) if len(found) > size else ""
            )
            items = [
                MediaView(media, thumbnails=(stills[media.media_id],) if media.media_id in stills else ())
                for media in shown
            ]
            return Page(items, token)

        return await self.store.transaction(work)

    async def of(self, media: Media) -> MediaView:
        """The view of a media that a use case answered with."""
        return await self.store.transaction(lambda transaction: _view(transaction, media))


async def _view(transaction: Transaction, media: Media) -> MediaView:
    tasks = await transaction.tasks.summaries(media)
    if media.status is not MediaStatus.PUBLISHED:
        return MediaView(media, tasks)
    return MediaView(
        media,
        tasks,
        await transaction.tasks.renditions(media),
        await transaction.tasks.thumbnails(media),
    )
