"""What passes for a checksum."""

import base64
import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import InvalidArgument
from services.upload import checksums
from services.upload.checksums import ChecksumAlgorithm

algorithms = st.sampled_from(ChecksumAlgorithm)


def checksum_of(algorithm: ChecksumAlgorithm, data: bytes) -> str:
    """One of the right form: what it is of matters to storage alone."""
    return base64.b64encode(hashlib.sha256(data).digest()[: algorithm.length_bytes]).decode()


@given(algorithms, st.binary())
def test_checksums_as_clients_make_them_pass(algorithm: ChecksumAlgorithm, data: bytes) -> None:
    checksum = checksum_of(algorithm, data)
    checksums.check_whole(algorithm, checksum)
    checksums.check_parts(algorithm, [checksum, checksum], 2)


@given(algorithms, st.binary())
def test_bytes_of_any_other_length_do_not(algorithm: ChecksumAlgorithm, data: bytes) -> None:
    text = base64.b64encode(data).decode()
    if len(data) == algorithm.length_bytes or not text:
        checksums.check_whole(algorithm, text)
        return
    with pytest.raises(InvalidArgument) as refused:
        checksums.check_whole(algorithm, text)
    assert (refused.value.reason, refused.value.details["field"]) == ("CHECKSUM_INVALID", "checksum")


@given(algorithms, st.text(alphabet=string.printable + "é…", min_size=1))
def test_no_text_that_is_no_base64_passes(algorithm: ChecksumAlgorithm, text: str) -> None:
    try:
        is_one = len(base64.b64decode(text, validate=True)) == algorithm.length_bytes
    except ValueError:
        is_one = False
    if not is_one:
        with pytest.raises(InvalidArgument):
            checksums.check_whole(algorithm, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("AAAAAA==\r\nx-evil: 1", id="a header that would end"),
        pytest.param("AAAA AA==", id="white space"),
        pytest.param("AAAAAA", id="no padding"),
        pytest.param("00000000", id="hex"),
        pytest.param("____-A==", id="the alphabet of URLs"),
    ],
)
def test_nothing_gets_into_a_header_that_is_no_checksum(text: str) -> None:
    with pytest.raises(InvalidArgument):
        checksums.check_parts(ChecksumAlgorithm.CRC32C, [text], 1)


def test_none_is_asked_for_and_none_is_taken_without_an_algorithm() -> None:
    checksums.check_whole(None, "")
    checksums.check_parts(None, [], 5)
    with pytest.raises(InvalidArgument) as refused:
        checksums.check_whole(None, "AAAAAA==")
    assert refused.value.details["field"] == "checksum_algorithm"
    with pytest.raises(InvalidArgument) as refused:
        checksums.check_parts(None, ["AAAAAA=="], 1)
    assert refused.value.details["field"] == "checksums"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_is_one_for_each_part(count: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        checksums.check_parts(ChecksumAlgorithm.CRC32C, ["AAAAAA=="] * count, 2)
    assert refused.value.reason == "CHECKSUMS_MISSING"


def test_headers_are_named_as_s3_names_them() -> None:
    assert {algorithm: algorithm.header for algorithm in ChecksumAlgorithm} == {
        ChecksumAlgorithm.CRC32C: "x-amz-checksum-crc32c",
        ChecksumAlgorithm.SHA256: "x-amz-checksum-sha256",
    }


def test_a_mismatch_says_both_sides() -> None:
    refusal = checksums.mismatch("AAAAAA==", "AAAAAQ==")
    assert (refusal.reason, refusal.details) == (
        "CHECKSUM_MISMATCH",
        {"expected": "AAAAAA==", "found": "AAAAAQ=="},
    )
