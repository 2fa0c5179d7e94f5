from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from services.manifest.playlists import render
from services.manifest.publication import Publication
from services.manifest.publisher import Publisher
from services.manifest.verification import Fault, ObjectFault, faults
from services.manifest.warming import Warmth, keys_to_warm
from services.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    MillraceError,
    NotFound,
    Stale,
    Unavailable,
)
from tests.unit.manifest.samples import IMAGE, MEDIA_ID, PREFIX, VIDEO


class Crash(Exception):
    """The process dies here."""


@dataclass
class World:
    """Metadata, storage and edge, which survive the publisher; `crash_after` steps it dies."""

    publication: Publication
    objects: dict[str, bytes] = field(default_factory=dict)
    warmed: list[str] = field(default_factory=list)
    published: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    crash_after: int = 10_000
    error: MillraceError | None = None

    def __post_init__(self) -> None:
        self.objects |= {key: b"x" * size for key, size in self.publication.objects.items()}

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) > self.crash_after:
            raise Crash(name)

    async def get(self, media_id: str, generation: int) -> Publication:
        if self.error:
            raise self.error
        return replace(self.publication, published=bool(self.published))

    async def publish(self, media_id: str, generation: int, s3_manifest_key: str, playlists: Mapping[str, str]) -> None:
        self._step("publish")
        self.published.append((s3_manifest_key, playlists))
        self._step("reply to publish")

    async def sizes(self, prefix: str) -> Mapping[str, int]:
        self._step("verify")
        return {key: len(data) for key, data in self.objects.items() if key.startswith(prefix)}

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        self._step(f"write {key}")
        assert content_type == "application/vnd.apple.mpegurl"
        if key in self.objects:
            raise AlreadyExists("taken")
        self.objects[key] = data
        self._step(f"reply to write {key}")

    async def read(self, key: str) -> bytes:
        return self.objects[key]

    async def warm(self, keys: Sequence[str]) -> Warmth:
        self._step("warm")
        self.warmed += keys
        return Warmth(len(keys), 0)

    @property
    def publisher(self) -> Publisher:
        return Publisher(publications=self, delivery=self, edge=self)


async def test_a_video_is_written_warmed_and_published() -> None:
    world = World(VIDEO)
    await world.publisher.publish(MEDIA_ID, 1)
    playlists = render(VIDEO)
    assert all(world.objects[playlist.s3_key] == playlist.data for playlist in playlists.in_order)
    assert world.published == [(f"{PREFIX}/main.m3u8", {label: each.s3_key for label, each in playlists.media.items()})]
    assert [step.partition(" ")[0] for step in world.steps if "reply" not in step] == [
        "verify",
        *["write"] * 8,
        "warm",
        "publish",
    ]


async def test_an_image_is_verified_warmed_and_published_without_playlists() -> None:
    world = World(IMAGE)
    await world.publisher.publish(MEDIA_ID, 1)
    assert world.published == [("", {})]
    assert world.warmed == [still.s3_key for still in IMAGE.stills]
    assert set(world.objects) == set(IMAGE.objects)


CRASH_POINTS = range(24)
"""More than a publication has steps; a test says so."""


@pytest.mark.parametrize("steps", CRASH_POINTS)
async def test_after_a_crash_anywhere_a_repeat_gives_the_same_bytes_and_one_publication(steps: int) -> None:
    undisturbed = World(VIDEO)
    await undisturbed.publisher.publish(MEDIA_ID, 1)
    assert len(undisturbed.steps) < len(CRASH_POINTS)

    world = World(VIDEO, crash_after=steps)
    try:
        await world.publisher.publish(MEDIA_ID, 1)
    except Crash:
        world.crash_after = 10_000
        await world.publisher.publish(MEDIA_ID, 1)
    assert world.objects == undisturbed.objects
    assert world.published == undisturbed.published


def lose(objects: dict[str, bytes], key: str) -> None:
    del objects[key]


def truncate(objects: dict[str, bytes], key: str) -> None:
    objects[key] = b""


@pytest.mark.parametrize("spoil", [lose, truncate])
async def test_nothing_is_published_while_an_object_is_not_as_recorded(
    spoil: Callable[[dict[str, bytes], str], None],
) -> None:
    for key in VIDEO.objects:
        world = World(VIDEO)
        spoil(world.objects, key)
        with pytest.raises(Unavailable) as caught:
            await world.publisher.publish(MEDIA_ID, 1)
        assert caught.value.details["s3_key"] == key
        assert world.published == []
        assert not any(key.endswith(".m3u8") for key in world.objects)


async def test_another_playlist_under_the_name_is_an_error() -> None:
    world = World(VIDEO)
    world.objects[f"{PREFIX}/main.m3u8"] = b"#EXTM3U\n"
    with pytest.raises(Internal):
        await world.publisher.publish(MEDIA_ID, 1)
    assert world.published == []


@pytest.mark.parametrize("error", [Stale("overtaken"), FailedPrecondition("tasks remain"), NotFound("deleted")])
async def test_what_cannot_be_published_by_this_message_is_dropped(error: MillraceError) -> None:
    world = World(VIDEO, error=error)
    await world.publisher.publish(MEDIA_ID, 1)
    assert world.steps == []


async def test_without_metadata_the_message_comes_again() -> None:
    with pytest.raises(Unavailable):
        await World(VIDEO, error=Unavailable("down")).publisher.publish(MEDIA_ID, 1)


async def test_verifying_counts_playlists_once_they_are_published() -> None:
    world = World(VIDEO)
    assert await world.publisher.verify(MEDIA_ID, 1) == (len(VIDEO.objects), ())
    await world.publisher.publish(MEDIA_ID, 1)
    assert await world.publisher.verify(MEDIA_ID, 1) == (len(VIDEO.objects) + 8, ())
    del world.objects[f"{PREFIX}/main.m3u8"]
    assert (await world.publisher.verify(MEDIA_ID, 1))[1] == (ObjectFault(f"{PREFIX}/main.m3u8", Fault.MISSING),)


async def test_only_what_is_published_is_warmed_on_demand() -> None:
    world = World(VIDEO)
    with pytest.raises(FailedPrecondition):
        await world.publisher.warm(MEDIA_ID, 1)
    await world.publisher.publish(MEDIA_ID, 1)
    warmth = await world.publisher.warm(MEDIA_ID, 1)
    assert warmth == Warmth(len(keys_to_warm(VIDEO, render(VIDEO))), 0)


def test_the_edge_is_warmed_with_what_a_player_asks_for_first() -> None:
    keys = keys_to_warm(VIDEO, render(VIDEO))
    assert keys[0] == f"{PREFIX}/main.m3u8"
    assert len(keys) == len(set(keys)) == 8 + 4 * 2 + 3
    assert not any("seg_00001" in key for key in keys)


def test_faults_are_found_and_strangers_ignored() -> None:
    assert faults({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 9, "stray": 4}) == (
        ObjectFault("b", Fault.SIZE_MISMATCH),
        ObjectFault("c", Fault.MISSING),
    )
