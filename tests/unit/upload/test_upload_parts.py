"""How files are cut, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import InvalidArgument
from services.upload import parts
from services.upload.parts import ClaimedPart, HeldPart, Layout

MIB = 1024 * 1024
TEN_MIB = 10 * MIB


@given(size_bytes=st.integers(1, 5 * 2**40), preferred=st.integers(parts.MIN_PART_SIZE_BYTES, 1024 * MIB))
def test_every_layout_holds_the_file_within_what_s3_allows(size_bytes: int, preferred: int) -> None:
    layout = parts.choose_layout(size_bytes, preferred)
    assert 1 <= layout.part_count <= parts.MAX_PART_COUNT
    assert preferred <= layout.part_size_bytes
    last = layout.size_of(layout.part_count)
    assert 1 <= last <= layout.part_size_bytes
    assert (layout.part_count - 1) * layout.part_size_bytes + last == size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "part_size_bytes", "part_count", "last_bytes"),
    [
        (1, TEN_MIB, 1, 1),
        (TEN_MIB, TEN_MIB, 1, TEN_MIB),
        (TEN_MIB + 1, TEN_MIB, 2, 1),
        (10_000 * TEN_MIB, TEN_MIB, 10_000, TEN_MIB),
        (10_000 * TEN_MIB + 1, 11 * MIB, 9_091, 10_000 * TEN_MIB + 1 - 9_090 * 11 * MIB),
    ],
)
def test_parts_grow_only_when_ten_thousand_would_not_do(
    size_bytes: int, part_size_bytes: int, part_count: int, last_bytes: int
) -> None:
    layout = parts.choose_layout(size_bytes, TEN_MIB)
    assert layout.part_size_bytes == part_size_bytes
    assert layout.part_count == part_count
    assert layout.size_of(part_count) == last_bytes


@pytest.mark.parametrize("numbers", [[], [0], [4], [1, 1], list(range(1, 1_002)), [-1]])
def test_refuses_to_sign_parts_that_are_none_of_the_file(numbers: list[int]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parts.check_signable(Layout(3 * TEN_MIB, TEN_MIB), numbers)
    assert refused.value.reason == "PART_NUMBERS_INVALID"


LAYOUT = Layout(2 * TEN_MIB + 5, TEN_MIB)
CLAIMED = [ClaimedPart(1, "a"), ClaimedPart(2, "b"), ClaimedPart(3, "c")]
HELD = [HeldPart(1, "a", TEN_MIB), HeldPart(2, "b", TEN_MIB), HeldPart(3, "c", 5)]


def test_accepts_what_was_agreed_in_any_order() -> None:
    parts.check_claim(LAYOUT, CLAIMED[::-1])
    parts.check_held(LAYOUT, CLAIMED[::-1], HELD)


@pytest.mark.parametrize(
    ("claimed", "kind", "numbers"),
    [
        (CLAIMED[:1], "missing_parts", "2-3"),
        ([], "missing_parts", "1-3"),
        ([*CLAIMED, ClaimedPart(9, "x")], "unknown_parts", "9"),
        ([*CLAIMED, ClaimedPart(2, "b")], "repeated_parts", "2"),
    ],
)
def test_says_which_parts_a_claim_lacks(claimed: list[ClaimedPart], kind: str, numbers: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parts.check_claim(LAYOUT, claimed)
    assert refused.value.reason == "PARTS_INCOMPLETE"
    assert refused.value.details[kind] == numbers


@pytest.mark.parametrize(
    ("held", "kind", "numbers"),
    [
        (HELD[1:], "missing_parts", "1"),
        ([HeldPart(1, "other", TEN_MIB), *HELD[1:]], "different_parts", "1"),
        ([*HELD[:2], HeldPart(3, "c", 4)], "wrong_size_parts", "3"),
    ],
)
def test_says_which_parts_storage_holds_otherwise(held: list[HeldPart], kind: str, numbers: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parts.check_held(LAYOUT, CLAIMED, held)
    assert refused.value.reason == "PARTS_DIFFER"
    assert refused.value.details == {"field": "parts", kind: numbers}


def test_details_stay_small_however_many_parts_are_missing() -> None:
    every_other = range(1, 10_001, 2)
    assert len(parts.ranges(every_other)) < 1_000
    assert parts.ranges(every_other).endswith(",…")
    assert parts.ranges([7, 1, 2, 3]) == "1-3,7"


@pytest.mark.parametrize("etag", ["abc", '"abc"', ' "abc" '])
def test_etags_compare_without_quotes(etag: str) -> None:
    assert parts.normalised_etag(etag) == "abc"
