"""Which way the bytes of a file take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.upload import kinds
from services.upload.kinds import UploadKind

PUT_MAX_BYTES = 1_000


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (1, UploadKind.PUT),
        (PUT_MAX_BYTES, UploadKind.PUT),
        (PUT_MAX_BYTES + 1, UploadKind.MULTIPART),
    ],
)
def test_a_small_file_takes_one_call(size_bytes: int, expected: UploadKind) -> None:
    assert kinds.choose(size_bytes, None, PUT_MAX_BYTES) is expected


def test_a_limit_of_nothing_lets_every_file_come_in_parts() -> None:
    assert kinds.choose(1, None, 0) is UploadKind.MULTIPART


@given(st.integers(0, 10 * PUT_MAX_BYTES), st.sampled_from(UploadKind))
def test_a_wish_is_granted(size_bytes: int, wish: UploadKind) -> None:
    assert kinds.choose(size_bytes, wish, PUT_MAX_BYTES) is wish
