import base64
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import ChecksumAlgorithm, FileUnusable
from millrace.checksums import checksum_of, checksum_of_file, combine_crc32c, encoded, joined_crc32c
from millrace.parts import PIECE_BYTES, PartRange, Source, cut
from tests.unit.client.fakes import base64_of


def test_the_check_value_of_the_catalogue() -> None:
    assert google_crc32c.value(b"123456789") == 0xE3069283  # CRC-32/ISCSI
    assert encoded(google_crc32c.value(b"123456789").to_bytes(4, "big")) == "4waSgw=="


@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_two_checksums_combine_to_that_of_both(first: bytes, second: bytes) -> None:
    combined = combine_crc32c(google_crc32c.value(first), google_crc32c.value(second), len(second))
    assert combined == google_crc32c.value(first + second)


@given(content=st.binary(max_size=2_000), part_bytes=st.integers(1, 500))
def test_the_parts_however_they_are_cut_join_to_the_whole(content: bytes, part_bytes: int) -> None:
    parts = [content[at : at + part_bytes] for at in range(0, len(content), part_bytes)]
    joined = joined_crc32c((google_crc32c.value(part).to_bytes(4, "big"), len(part)) for part in parts)
    assert joined == google_crc32c.value(content).to_bytes(4, "big")


@given(crc=st.integers(0, 2**32 - 1), zeros=st.lists(st.integers(0, 10**15), min_size=2, max_size=2))
def test_lengths_that_no_test_could_read_add_up(crc: int, zeros: list[int]) -> None:
    """Going on by two lengths, one after the other, is going on by their sum; also beyond 32 and 40 bits."""
    assert combine_crc32c(combine_crc32c(crc, 0, zeros[0]), 0, zeros[1]) == combine_crc32c(crc, 0, sum(zeros))


def test_nothing_has_the_checksum_of_nothing() -> None:
    assert joined_crc32c([]) == bytes(4)


@pytest.mark.parametrize("algorithm", ChecksumAlgorithm)
async def test_a_file_is_summed_up_in_parts_and_as_a_whole(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    content = bytes(range(251)) * ((2 * PIECE_BYTES + 5) // 251)
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    source = Source.of(path)
    for part in cut(len(content), PIECE_BYTES + 3):
        stretch = content[part.offset_bytes : part.offset_bytes + part.size_bytes]
        assert encoded(checksum_of(source, part, algorithm)) == base64_of(algorithm, stretch)
    assert encoded(await checksum_of_file(source, algorithm)) == base64_of(algorithm, content)


def test_a_file_that_ends_too_early_has_none(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"0123456789")
    with pytest.raises(FileUnusable, match="cut short"):
        checksum_of(Source.of(path), PartRange(1, 0, 11), ChecksumAlgorithm.CRC32C)


def test_checksums_travel_in_base64() -> None:
    assert base64.b64decode(encoded(b"\0\1\2\xff")) == b"\0\1\2\xff"
