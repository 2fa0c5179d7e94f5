"""Page tokens continue the list that they came from, and nothing else."""

import base64
import re
import uuid
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metadata import pages
from services.metadata.pages import Position
from services.metadata.records import MediaStatus
from services.runtime.errors import InvalidArgument

moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 bounds of Hypothesis are naive
filters = st.one_of(st.none(), st.sampled_from(MediaStatus))


@given(moments, st.uuids(), filters)
def test_a_token_says_exactly_where_to_go_on(moment: datetime, media_id: uuid.UUID, status: MediaStatus | None) -> None:
    token = pages.encode(Position(moment, media_id), status)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert pages.decode(token, status) == Position(moment, media_id)


@given(moments, st.uuids(), filters, filters)
def test_a_token_continues_no_list_with_another_filter(
    moment: datetime, media_id: uuid.UUID, status: MediaStatus | None, other: MediaStatus | None
) -> None:
    if status is not other:
        with pytest.raises(InvalidArgument):
            pages.decode(pages.encode(Position(moment, media_id), status), other)


@given(st.one_of(st.text(min_size=1), st.binary(min_size=1).map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_foreign_tokens_are_refused_and_break_nothing(token: str) -> None:
    with suppress(InvalidArgument):
        assert pages.decode(token, None) is not None


def test_extreme_times_are_refused() -> None:
    token = base64.urlsafe_b64encode(pages._FORMAT.pack(1, 0, 2**63 - 1, bytes(16))).decode()
    with pytest.raises(InvalidArgument) as caught:
        pages.decode(token, None)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


def test_the_first_page_has_no_token() -> None:
    assert pages.decode("", None) is None


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (100, 100), (101, 100), (2**31 - 1, 100)])
def test_page_sizes_have_a_default_and_a_bound(asked: int, given_: int) -> None:
    assert pages.page_size(asked) == given_


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        pages.page_size(-1)
