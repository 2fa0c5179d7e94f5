"""What may be announced."""

import pytest

from services.runtime.errors import InvalidArgument
from services.upload import claims
from services.upload.claims import Claim, MediaType

LIMITS = {MediaType.IMAGE: 1_000, MediaType.VIDEO: 50_000}


def test_takes_what_is_in_bounds_and_drops_parameters() -> None:
    claim = claims.check("日本の夏 🎆.mp4", "Video/MP4; codecs=avc1", 50_000, LIMITS)
    assert claim == Claim("日本の夏 🎆.mp4", "video/mp4", 50_000, MediaType.VIDEO)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "Application/Octet-Stream ; charset=binary"])
def test_what_nobody_knows_passes_for_a_video_until_the_bytes_tell(content_type: str) -> None:
    claim = claims.check("a", content_type, 50_000, LIMITS)
    assert claim == Claim("a", "application/octet-stream", 50_000, MediaType.VIDEO)


@pytest.mark.parametrize(
    ("filename", "content_type", "size_bytes", "reason"),
    [
        ("", "image/png", 1, "FILENAME_INVALID"),
        ("x" * 256, "image/png", 1, "FILENAME_INVALID"),
        ("a\nb.png", "image/png", 1, "FILENAME_INVALID"),
        ("a\x00.png", "image/png", 1, "FILENAME_INVALID"),
        ("a\u2028.png", "image/png", 1, "FILENAME_INVALID"),
        ("a.txt", "text/plain", 1, "CONTENT_TYPE_UNSUPPORTED"),
        ("a.zip", "application/zip", 1, "CONTENT_TYPE_UNSUPPORTED"),
        ("a", "", 1, "CONTENT_TYPE_UNSUPPORTED"),
        ("a", "application/octet-stream2", 1, "CONTENT_TYPE_UNSUPPORTED"),
        ("a.png", "image/", 1, "CONTENT_TYPE_UNSUPPORTED"),
        ("a.png", "image/png\r\nX-Evil: 1", 1, "CONTENT_TYPE_UNSUPPORTED"),
        ("a.png", "ximage/png", 1, "CONTENT_TYPE_UNSUPPORTED"),
        ("a.png", "image/png", 0, "FILE_EMPTY"),
        ("a.png", "image/png", -5, "FILE_EMPTY"),
        ("a.png", "image/png", 1_001, "FILE_TOO_LARGE"),
        ("a.mp4", "video/mp4", 50_001, "FILE_TOO_LARGE"),
        ("a", "application/octet-stream", 50_001, "FILE_TOO_LARGE"),
    ],
)
def test_refuses_what_is_out_of_bounds(filename: str, content_type: str, size_bytes: int, reason: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        claims.check(filename, content_type, size_bytes, LIMITS)
    assert refused.value.reason == reason
    assert refused.value.details["field"] in {"filename", "content_type", "size_bytes"}


def test_a_size_may_be_unknown_but_not_negative() -> None:
    assert claims.check("a.png", "image/png", 0, LIMITS, may_lack_size=True).size_bytes == 0
    with pytest.raises(InvalidArgument):
        claims.check("a.png", "image/png", -1, LIMITS, may_lack_size=True)


def test_what_storage_holds_meets_the_limit_of_its_type_too() -> None:
    claims.check_size(MediaType.IMAGE, 1_000, LIMITS)
    with pytest.raises(InvalidArgument) as refused:
        claims.check_size(MediaType.IMAGE, 1_001, LIMITS)
    assert refused.value.details["max_size_bytes"] == "1000"
