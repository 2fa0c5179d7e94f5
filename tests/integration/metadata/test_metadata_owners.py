"""Owners see their media, all of them, and nobody else's."""

import itertools
from collections.abc import Awaitable, Callable

import pytest

from media.v1 import media_pb2
from services.runtime import errors, ids
from tests.integration.metadata.calls import THUMBHASH, Metadata


def _same_shard(user: str) -> str:
    """Another user of the same shard: the shard alone tells them apart from nobody."""
    shard = ids.shard_of_user(user)
    return next(name for n in itertools.count() if ids.shard_of_user(name := f"{user}-{n}") == shard)


async def test_anothers_an_unknown_and_a_malformed_media_are_answered_the_same(metadata: Metadata, user: str) -> None:
    media_id = (await metadata.create(user)).media_id
    neighbour, stranger = _same_shard(user), f"{user}-stranger"
    calls: tuple[Callable[[str, str], Awaitable[object]], ...] = (
        metadata.media,
        metadata.upload,
        metadata.begin_complete,
        metadata.abort,
    )
    for ask, (who, what) in itertools.product(
        calls,
        [
            (neighbour, media_id),
            (stranger, media_id),
            (user, str(ids.new_media_id(user))),
            (user, "00000000-0000-4000-8000-000000000000"),
            (user, "nonsense"),
            (user, ""),
        ],
    ):
        with pytest.raises(errors.NotFound) as caught:
            await ask(who, what)
        answer = (caught.value.message, caught.value.reason, caught.value.details)
        assert answer == ("no such media", "MEDIA_NOT_FOUND", {})
    assert (await metadata.media(user, media_id)).status == media_pb2.MEDIA_STATUS_UPLOADING


async def test_a_nameless_owner_is_refused(metadata: Metadata, user: str) -> None:
    media_id = (await metadata.create(user)).media_id
    for call in (metadata.media("", media_id), metadata.page("")):
        with pytest.raises(errors.InvalidArgument):
            await call


async def test_pages_hold_every_media_once_newest_first(metadata: Metadata, user: str) -> None:
    await metadata.create(_same_shard(user))
    created = [(await metadata.create(user)).media_id for _ in range(7)]
    seen: list[str] = []
    token, sizes = "", []
    while True:
        page = await metadata.page(user, page_size=3, page_token=token)
        seen += [media.media_id for media in page.media]
        sizes.append(len(page.media))
        if not (token := page.next_page_token):
            break
    assert seen == created[::-1]
    assert sizes == [3, 3, 1]


async def test_a_page_that_ends_the_list_has_no_token(metadata: Metadata, user: str) -> None:
    for _ in range(3):
        await metadata.create(user)
    assert (await metadata.page(user, page_size=3)).next_page_token == ""
    assert not (await metadata.page(f"{user}-nobody")).media


async def test_a_token_of_another_owner_shows_ones_own_media(metadata: Metadata, user: str) -> None:
    for _ in range(2):
        await metadata.create(user)
    token = (await metadata.page(user, page_size=1)).next_page_token
    other = _same_shard(user)
    await metadata.create(other)
    assert {media.user_id for media in (await metadata.page(other, page_token=token)).media} <= {other}


async def test_lists_are_filtered_by_status(metadata: Metadata, user: str) -> None:
    uploading = (await metadata.create(user)).media_id
    failed = (await metadata.create(user)).media_id
    await metadata.abort(user, failed)
    page = await metadata.page(user, status=media_pb2.MEDIA_STATUS_FAILED)
    assert [media.media_id for media in page.media] == [failed]
    page = await metadata.page(user, status=media_pb2.MEDIA_STATUS_UPLOADING)
    assert [media.media_id for media in page.media] == [uploading]
    with pytest.raises(errors.InvalidArgument):
        await metadata.page(user, page_token="forged")


async def test_a_list_shows_the_smallest_thumbnail_of_published_media_only(metadata: Metadata, user: str) -> None:
    hidden = await metadata.encoded(user, ("720p", "poster"))
    shown = await metadata.encoded(user, ("720p", "poster"))
    await metadata.publish(await metadata.publication(shown), shown)
    by_id = {media.media_id: media for media in (await metadata.page(user)).media}
    [still] = by_id[shown].thumbnails
    assert (still.size_px, still.content_type, still.thumbhash) == (150, "image/jpeg", THUMBHASH)
    assert not by_id[shown].renditions
    assert not by_id[shown].tasks
    assert not by_id[hidden].thumbnails
