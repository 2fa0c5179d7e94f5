import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import ids
from services.runtime.errors import NotFound


@given(st.text(min_size=1, max_size=128))
def test_a_media_id_carries_its_owners_shard(user_id: str) -> None:
    media_id = ids.new_media_id(user_id)
    assert ids.shard_of_id(media_id) == ids.shard_of_user(user_id)
    assert 0 <= ids.shard_of_id(media_id) < ids.SHARD_COUNT


def test_a_media_id_is_a_valid_uuid_of_version_7() -> None:
    media_id = ids.new_media_id("alice")
    assert (media_id.version, media_id.variant) == (7, uuid.RFC_4122)
    assert ids.parse_media_id(str(media_id)) == media_id


def test_shards_never_move() -> None:
    # Where stored data lies: a change of these numbers loses every media.
    assert [ids.shard_of_user(user) for user in ("alice", "bob", "用户")] == [331, 897, 183]


def test_ids_of_later_milliseconds_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = ids.shard_of_user("alice")
    made = []
    for millisecond in (1, 2, 1_000_000_000_000):
        monkeypatch.setattr(time, "time_ns", lambda at=millisecond: at * 1_000_000)
        made.append(ids.new_id(shard))
    assert made == sorted(made)


def test_ids_do_not_repeat() -> None:
    shard = ids.shard_of_user("alice")
    assert len({ids.new_id(shard) for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "text",
    ["", "x", str(uuid.uuid4()), "{018f0000-0000-7000-8000-000000000000}", "018f000000007000800000000000000", "../etc"],
)
def test_what_is_no_media_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        ids.parse_media_id(text)


def test_the_shard_prefix_has_three_digits() -> None:
    assert ids.shard_prefix(ids.Shard(10)) == "00a"
