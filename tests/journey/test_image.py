"""An image, all the way."""

import io

import httpx
import pytest
from PIL import Image

from tests.journey.conftest import Journey

pytestmark = pytest.mark.journey


async def test_three_renditions_oriented_and_stripped(image: Journey) -> None:
    assert image.media.playback is not None
    with Image.open(image.source) as source:
        assert source.getexif().get_ifd(0x8825), "the sample has no GPS to lose"
        assert source.getexif()[0x0112] == 6, "the sample is not rotated"
        upright = (source.height, source.width)
    thumbnails = image.media.playback.thumbnails
    assert [(one.size_px, one.content_type) for one in thumbnails] == [
        (size_px, content_type) for size_px in (1200, 600, 150) for content_type in ("image/jpeg", "image/webp")
    ]
    async with httpx.AsyncClient() as http:
        for thumbnail in thumbnails:
            answer = await http.get(thumbnail.url)
            assert (answer.status_code, answer.headers["content-type"]) == (200, thumbnail.content_type)
            assert len(answer.content) == thumbnail.size_bytes
            with Image.open(io.BytesIO(answer.content)) as picture:
                assert picture.size == (thumbnail.width_px, thumbnail.height_px)
                assert max(picture.size) == thumbnail.size_px
                assert abs(picture.width / picture.height - upright[0] / upright[1]) < 0.01
                assert not picture.getexif()
                assert set(picture.info) <= {
                    "jfif",
                    "jfif_version",
                    "jfif_unit",
                    "jfif_density",
                    "background",
                    "loop",
                    "timestamp",
                    "duration",
                }
            assert b"GPS" not in answer.content
            assert b"Exif" not in answer.content


async def test_nothing_was_to_be_had_before_it_was_published(image: Journey) -> None:
    assert image.early_answers <= {404}
    assert not image.early_urls


async def test_viewers_never_get_the_original(image: Journey) -> None:
    assert "/original" not in str(image.media.document)
