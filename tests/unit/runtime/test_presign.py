"""Our presigner against botocore's: the same parameters and the same signature, whatever is signed."""

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import boto3
import botocore.auth
import pytest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.presign import Credentials, Presigner

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

HOUR = timedelta(hours=1)
MOMENT = datetime(2026, 11, 22, 23, 59, 58, tzinfo=UTC)

keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r\n"), min_size=1, max_size=60).filter(
    lambda key: not key.startswith("/") and "//" not in key and not {".", ".."} & set(key.split("/"))
)
upload_ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80)
endpoints = st.sampled_from(
    [
        "http://127.0.0.1:8333",
        "https://s3.example.com",
        "https://s3.example.com:443",
        "http://storage:80",
        "http://[::1]:9000",
    ]
)
tokens = st.sampled_from(["", "FwoGZXIvYXdzEBYaDHn+/=", "a b&c=%d"])
sizes = st.integers(1, 5 * 2**30)


@cache
def botocore_client(endpoint_url: str, region: str, token: str) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret/+",
        aws_session_token=token or None,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def signed_by_botocore(client: "S3Client", operation: str, parameters: dict[str, object], expires_in: timedelta) -> str:
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=MOMENT.replace(tzinfo=None)):
        return client.generate_presigned_url(operation, Params=parameters, ExpiresIn=int(expires_in.total_seconds()))


def meaning(url: str) -> tuple[str, str | None, int, str, list[tuple[str, str]]]:
    """What a URL asks for: without the order of its parameters, and with the port that its scheme implies."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return parts.scheme, parts.hostname, port, parts.path, sorted(parse_qsl(parts.query, keep_blank_values=True))


def presigner(endpoint_url: str, region: str = "us-east-1", token: str = "") -> Presigner:
    return Presigner(
        endpoint_url=endpoint_url, region=region, credentials=lambda: Credentials("AKIDEXAMPLE", "secret/+", token)
    )


@settings(max_examples=150, deadline=None)
@given(
    client=st.tuples(endpoints, st.sampled_from(["us-east-1", "eu-central-1"]), tokens),
    key=keys,
    upload_id=upload_ids,
    part=st.tuples(
        st.integers(1, 10_000),
        sizes,
        st.just("") | st.binary(min_size=4, max_size=4).map(lambda digest: base64.b64encode(digest).decode()),
    ),
    expires_in=st.integers(1, 604_800).map(lambda seconds: timedelta(seconds=seconds)),
)
def test_parts_are_signed_as_botocore_signs_them(
    client: tuple[str, str, str], key: str, upload_id: str, part: tuple[int, int, str], expires_in: timedelta
) -> None:
    number, size_bytes, checksum = part
    headers = {"content-length": str(size_bytes)} | ({"x-amz-checksum-crc32c": checksum} if checksum else {})
    ours = presigner(*client).sign_parts(
        "originals", key, upload_id, {number: headers}, expires_in=expires_in, now=MOMENT
    )
    parameters: dict[str, object] = {
        "Bucket": "originals",
        "Key": key,
        "UploadId": upload_id,
        "PartNumber": number,
        "ContentLength": size_bytes,
    } | ({"ChecksumCRC32C": checksum} if checksum else {})
    theirs = signed_by_botocore(botocore_client(*client), "upload_part", parameters, expires_in)
    assert meaning(ours[number]) == meaning(theirs)


@settings(max_examples=100, deadline=None)
@given(endpoint_url=endpoints, token=tokens, key=keys, size_bytes=sizes, digest=st.binary(min_size=4, max_size=4))
def test_other_headers_are_signed_as_botocore_signs_them(
    endpoint_url: str, token: str, key: str, size_bytes: int, digest: bytes
) -> None:
    checksum = base64.b64encode(digest).decode()
    headers = {
        "content-length": str(size_bytes),
        "content-type": "image/jpeg",
        "x-amz-checksum-crc32c": checksum,
    }
    ours = presigner(endpoint_url, token=token).sign(
        "PUT", "originals", key, query={}, headers=headers, expires_in=HOUR, now=MOMENT
    )
    parameters: dict[str, object] = {
        "Bucket": "originals",
        "Key": key,
        "ContentLength": size_bytes,
        "ContentType": "image/jpeg",
        "ChecksumCRC32C": checksum,
    }
    theirs = signed_by_botocore(botocore_client(endpoint_url, "us-east-1", token), "put_object", parameters, HOUR)
    assert meaning(ours) == meaning(theirs)


def test_the_example_of_the_specification() -> None:
    # Amazon S3 API reference, "Authenticating Requests: Using Query Parameters", GET of examplebucket/test.txt.
    url = Presigner(
        endpoint_url="https://s3.amazonaws.com",
        region="us-east-1",
        credentials=lambda: Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        path_style=False,
    ).sign(
        "GET",
        "examplebucket",
        "test.txt",
        query={},
        headers={},
        expires_in=timedelta(days=1),
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert url.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
    assert url.startswith("https://examplebucket.s3.amazonaws.com/test.txt?")


def test_the_two_ways_of_signing_agree() -> None:
    one = presigner("http://127.0.0.1:1")
    part = one.sign_parts("b", "k", "u+/=", {7: {"content-length": "8"}}, expires_in=HOUR, now=MOMENT)[7]
    query, headers = {"partNumber": "7", "uploadId": "u+/="}, {"content-length": "8"}
    assert part == one.sign("PUT", "b", "k", query=query, headers=headers, expires_in=HOUR, now=MOMENT)


@pytest.mark.parametrize("seconds", [0, -1, 604_801])
def test_a_life_out_of_bounds_is_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="seven days"):
        presigner("http://127.0.0.1:1").sign_parts("b", "k", "u", {1: {}}, expires_in=timedelta(seconds=seconds))


@pytest.mark.parametrize("url", ["", "127.0.0.1:9", "ftp://x", "http://x/path"])
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an endpoint"):
        presigner(url)


def test_no_secret_is_shown() -> None:
    assert "secret" not in repr(Credentials("id", "secret", "secret token"))
