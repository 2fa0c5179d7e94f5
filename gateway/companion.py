"""The JSON of Companion's S3 contract, as the unmodified `@uppy/aws-s3` of versions 5 and 6 speaks it.

Names are the contract's. Keys and upload ids come back from clients: a key must be exactly the one that a media of its
identifier has, and the upload service holds media, upload id and owner together.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway import models, views
from media.v1 import upload_service_pb2 as pb
from services.runtime import ids
from services.runtime.errors import InvalidArgument, NotFound

BUCKET: Final = "originals"
"""Where Uppy believes its files to be; nothing follows from it."""

UNKNOWN_TYPE: Final = "application/octet-stream"

_MAX_PARTS_SIGNED: Final = 1_000


class Wire(BaseModel):
    """Members by the names of the contract; what is not known here is passed over, as Companion does."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


def _text(value: Any) -> Any:
    return "" if value is None else value


class NewMultipart(Wire):
    """A file that is to be uploaded in parts; its size is not told."""

    filename: Annotated[str, BeforeValidator(_text), Field(examples=["holiday.mp4"])] = ""
    type: Annotated[str, BeforeValidator(_text), Field(description="content type", examples=["video/mp4"])] = ""
    metadata: Annotated[Any, Field(description="passed over")] = None


class Multipart(Wire):
    """An upload in parts that has begun."""

    key: Annotated[str, Field(examples=[f"a3f/{models.EXAMPLE_ID}/original"])]
    upload_id: Annotated[str, Field(alias="uploadId")]
    bucket: str = BUCKET


class UploadParameters(Wire):
    """A form to POST a file with: every field, then the file as `file`."""

    method: str = "POST"
    url: str
    fields: dict[str, str]
    expires: Annotated[int, Field(description="seconds that the form stays good")]
    media_id: models.MediaId


class HeldPart(Wire):
    """A part that storage holds."""

    part_number: Annotated[int, Field(alias="PartNumber")]
    etag: Annotated[str, Field(alias="ETag", description="in quotes, as S3 lists it")]
    size_bytes: Annotated[int, Field(alias="Size")]


class SignedPart(Wire):
    """A URL to PUT one part to."""

    url: str
    expires: Annotated[int, Field(description="seconds that the URL stays good")]


class SignedParts(Wire):
    """URLs by part number."""

    presigned_urls: Annotated[dict[str, str], Field(alias="presignedUrls")]


class SentPart(Wire):
    """A part as the client knows it."""

    part_number: Annotated[models.PartNumber, Field(alias="PartNumber")]
    etag: Annotated[models.Etag, Field(alias="ETag")]


class SentParts(Wire):
    """All parts of an upload."""

    parts: Annotated[list[SentPart], Field(min_length=1, max_length=10_000)]


class Completed(Wire):
    """An upload that is complete."""

    location: Annotated[str, Field(description="the page that shows the media")]
    key: str
    bucket: str = BUCKET


class Aborted(Wire):
    """Nothing: version 5 needs a body, and takes a member `error` for a failure."""


def media_id_of(key: str) -> str:
    """The media whose original a key names.

    Raises:
        NotFound: the key is not exactly that of a media.
    """
    _, _, rest = key.partition("/")
    media_id = ids.parse_media_id(rest.partition("/")[0])
    if key != ids.original_key(media_id):
        raise NotFound("no such media", reason="MEDIA_NOT_FOUND")
    return str(media_id)


def part_numbers_of(text: str) -> list[int]:
    """Part numbers from `1,2,3`.

    Raises:
        InvalidArgument: it has another form, or is too long; whether the file has such parts is the service's to say.
    """
    words = text.split(",")
    if len(words) > _MAX_PARTS_SIGNED or not all(
        word.isascii() and word.isdigit() and len(word) <= 5 for word in words
    ):
        raise InvalidArgument(
            f"partNumbers has 1 to {_MAX_PARTS_SIGNED:,} numbers, separated by commas",
            reason="PART_NUMBERS_INVALID",
            details={"field": "partNumbers"},
        )
    return [int(word) for word in words]


def content_type_of(said: str) -> str:
    """The content type as browsers tell it, without parameters; that of unknown bytes where they tell none."""
    return said.partition(";")[0].strip().lower() or UNKNOWN_TYPE


def held_parts(parts: Iterable[pb.UploadedPart]) -> list[HeldPart]:
    """Parts as S3 lists them."""
    return [HeldPart(part_number=part.part_number, etag=f'"{part.etag}"', size_bytes=part.size_bytes) for part in parts]


def seconds_until(moment: Timestamp) -> int:
    """Whole seconds from now on, at least one."""
    return max(1, int((views.time(moment) - datetime.now(UTC)).total_seconds()))
