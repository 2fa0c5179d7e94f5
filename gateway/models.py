"""The JSON that goes in and out, as the OpenAPI page shows it."""

from datetime import datetime
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MediaType: TypeAlias = Literal["image", "video"]
MediaStatus: TypeAlias = Literal["uploading", "processing", "published", "failed"]
UploadKind: TypeAlias = Literal["multipart", "put", "form"]
ChecksumAlgorithm: TypeAlias = Literal["CRC32C", "SHA256"]

_CHECKSUM_CHARS: Final[dict[ChecksumAlgorithm, int]] = {"CRC32C": 8, "SHA256": 44}

EXAMPLE_ID = "019d4f2e-7c1a-7a3f-9b52-0d6c1e8f4a77"
_ETAG = "9b2cf535f27731c974343645a3985328"

PartNumber: TypeAlias = Annotated[int, Field(ge=1, le=10_000, description="from 1 on", examples=[1])]
MediaId: TypeAlias = Annotated[str, Field(description="UUIDv7 of the media", examples=[EXAMPLE_ID])]
Etag: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=128, description="as the PUT answered, with or without quotes", examples=[_ETAG]),
]
Checksum: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9+/]{6}==|[A-Za-z0-9+/]{43}=)$",
        description="in base64: the 4 bytes of a CRC-32C, big-endian, or the 32 of a SHA-256",
        examples=["4waSgw=="],
    ),
]


class Body(BaseModel):
    """A request body: members that are not known here are refused, so that a typo is not passed over."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Answer(BaseModel):
    """A response body; new members may appear at any time."""

    model_config = ConfigDict(frozen=True)


class InitiateUpload(Body):
    """A file that is to be uploaded."""

    filename: Annotated[str, Field(min_length=1, max_length=255, description="for display", examples=["holiday.mp4"])]
    content_type: Annotated[
        str,
        Field(
            max_length=255,
            description="`image/*`, `video/*`, or `application/octet-stream` for unknown; the bytes decide",
            examples=["video/mp4"],
        ),
    ]
    size_bytes: Annotated[int, Field(gt=0, lt=2**63, description="exact size of the file", examples=[314_572_800])]
    checksum_algorithm: Annotated[
        ChecksumAlgorithm | None, Field(description="every part will carry its checksum; storage refuses other bytes")
    ] = None
    checksum: Annotated[
        Checksum | None, Field(description="of the whole file, if it is known; verified before the file is processed")
    ] = None

    @model_validator(mode="after")
    def _checksum_is_of_the_algorithm(self) -> Self:
        if self.checksum is not None:
            if self.checksum_algorithm is None:
                raise PydanticCustomError("checksum", "A checksum needs checksum_algorithm beside it")
            if len(self.checksum) != _CHECKSUM_CHARS[self.checksum_algorithm]:
                raise PydanticCustomError("checksum", "The checksum's length is not that of checksum_algorithm")
        return self


class PresignedPart(Answer):
    """Where to PUT one part: with exactly these headers, and no other `x-amz-*` header than these."""

    part_number: PartNumber
    url: Annotated[str, Field(description="presigned URL of object storage", examples=["https://storage.example/…"])]
    size_bytes: Annotated[int, Field(description="exact length; the signature binds it", examples=[10_485_760])]
    headers: Annotated[
        dict[str, str],
        Field(
            description="send them exactly so; the signature binds them",
            examples=[{"x-amz-checksum-crc32c": "4waSgw=="}],
        ),
    ]


class InitiatedUpload(Answer):
    """The upload that has begun."""

    media_id: MediaId
    upload_id: Annotated[str, Field(description="object storage's name of the upload; empty where it is one PUT")]
    kind: Annotated[
        UploadKind,
        Field(
            description="`multipart`: every part has a PUT of its own. `put`: the one part is the whole object; "
            "storage answers 412 to a second PUT, since the object is there: list the parts for its ETag, and complete"
        ),
    ]
    part_size_bytes: Annotated[int, Field(description="size of every part but the last", examples=[10_485_760])]
    part_count: Annotated[int, Field(description="how many parts the file has", examples=[30])]
    parts: Annotated[
        list[PresignedPart],
        Field(description="the first parts; ask sign-parts for more. Empty where checksums are to be told first"),
    ]
    expires_at: Annotated[datetime, Field(description="when the URLs stop working")]


class SignParts(Body):
    """Parts whose URLs are wanted, for the first time or again."""

    part_numbers: Annotated[
        list[PartNumber], Field(min_length=1, max_length=1_000, description="distinct", examples=[[101, 102, 103]])
    ]
    checksums: Annotated[
        list[Checksum] | None,
        Field(
            max_length=1_000,
            description="one for each number, in that order, if the upload has a checksum algorithm, and only then",
            examples=[["4waSgw==", "yZRlqg==", "AAAAAA=="]],
        ),
    ] = None

    @model_validator(mode="after")
    def _checksums_are_aligned(self) -> Self:
        if self.checksums is not None and len(self.checksums) != len(self.part_numbers):
            raise PydanticCustomError("checksums", "There must be as many checksums as part_numbers")
        return self


class SignedParts(Answer):
    """Fresh URLs, in the order asked for."""

    parts: list[PresignedPart]
    expires_at: Annotated[datetime, Field(description="when the URLs stop working")]


class UploadedPart(Answer):
    """A part that storage confirmed."""

    part_number: PartNumber
    etag: Annotated[str, Field(description="without quotes", examples=[_ETAG])]
    size_bytes: Annotated[int, Field(examples=[10_485_760])]


class UploadedParts(Answer):
    """What storage holds: whatever is not listed must be sent."""

    kind: UploadKind
    parts: Annotated[list[UploadedPart], Field(description="by ascending number; of one sent twice, the latest")]
    upload_id: Annotated[str, Field(description="object storage's name of the upload")]
    part_size_bytes: Annotated[int, Field(examples=[10_485_760])]
    part_count: Annotated[int, Field(examples=[30])]


class CompletedPart(Body):
    """A part as you know it."""

    part_number: PartNumber
    etag: Etag
    checksum: Annotated[Checksum | None, Field(description="as it was signed for; needed where it is a SHA-256")] = None


class CompleteUpload(Body):
    """Every part of an upload."""

    media_id: MediaId
    parts: Annotated[list[CompletedPart], Field(min_length=1, max_length=10_000)]
    checksum: Annotated[
        Checksum | None, Field(description="of the whole file, where it was not known when the upload was begun")
    ] = None


class Failure(Answer):
    """Why a media failed."""

    reason: Annotated[str, Field(description="stable code", examples=["unsupported_format"])]
    message: Annotated[str, Field(description="one sentence for its owner")]


class Rendition(Answer):
    """One version of a video's picture, or its sound (`resolution` is then `audio` and the size 0)."""

    rendition_id: str
    resolution: Annotated[str, Field(examples=["1080p"])]
    width_px: Annotated[int, Field(examples=[1920])]
    height_px: Annotated[int, Field(examples=[1080])]
    frame_rate: Annotated[float | None, Field(description="pictures a second", examples=[30.0])]
    duration_secs: Annotated[float, Field(examples=[12.5])]
    bitrate_kbps: Annotated[int, Field(description="average", examples=[4_200])]
    peak_bitrate_kbps: Annotated[int, Field(description="of the largest segment", examples=[5_900])]
    codecs: Annotated[str, Field(description="RFC 6381", examples=["avc1.640028"])]
    manifest_url: Annotated[str, Field(description="its media playlist at the CDN")]


class Thumbnail(Answer):
    """A still version."""

    size_px: Annotated[int, Field(description="upper bound of the longer side", examples=[600])]
    url: Annotated[str, Field(description="at the CDN")]
    width_px: Annotated[int, Field(examples=[600])]
    height_px: Annotated[int, Field(examples=[338])]
    content_type: Annotated[str, Field(examples=["image/jpeg"])]
    size_bytes: Annotated[int, Field(examples=[48_112])]


class Playback(Answer):
    """Where viewers find it; every URL leads to the CDN and never changes its content."""

    manifest_url: Annotated[str | None, Field(description="HLS multivariant playlist; null for an image")]
    renditions: list[Rendition]
    thumbnails: Annotated[
        list[Thumbnail],
        Field(description="largest first; of one size JPEG first, then what else there is: choose by `content_type`"),
    ]
    thumbhash: Annotated[
        str | None,
        Field(
            description="ThumbHash of the image, or of the video's poster, in base64: what to show until it has come",
            examples=["1QcSHQRnh493V4dIh4eXh1h4kJUI"],
        ),
    ]


class Links(Answer):
    """Where to go from here."""

    self: Annotated[str, Field(examples=[f"/v1/media/{EXAMPLE_ID}"])]
    events: Annotated[str, Field(description="server-sent events until it is final")]
    watch: Annotated[str, Field(description="page that shows progress and plays the result")]
    trace: Annotated[str | None, Field(description="its trace, where the operator shows traces")]


class VerifiedChecksum(Answer):
    """A checksum of a whole original."""

    algorithm: ChecksumAlgorithm
    value: Annotated[str, Field(description="in base64", examples=["4waSgw=="])]


class Media(Answer):
    """A media as its owner sees it."""

    media_id: MediaId
    type: MediaType
    status: MediaStatus
    filename: str
    content_type: Annotated[str, Field(description="as claimed")]
    size_bytes: Annotated[int, Field(description="of the original; 0 while nobody has said it")]
    checksum: Annotated[VerifiedChecksum | None, Field(description="if its owner gave one, once it is verified")]
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    progress: Annotated[float, Field(ge=0, le=1, description="of its processing", examples=[0.42])]
    failure: Annotated[Failure | None, Field(description="set when, and only when, it failed")]
    playback: Annotated[Playback | None, Field(description="set when, and only when, it is published")]
    trace_id: Annotated[str, Field(description="32 hex digits; empty if its trace was not recorded")]
    links: Links


class MediaPage(Answer):
    """A page of media, newest first; in a list each has its smallest JPEG only."""

    media: list[Media]
    next_page_token: Annotated[str, Field(description="ask for the next page with it; empty at the end")]


class TaskFraction(Answer):
    """How far the tasks of one kind are, weighed by what they cost."""

    label: Annotated[str, Field(examples=["video"])]
    fraction: Annotated[float, Field(ge=0, le=1)]


class ProgressEvent(Answer):
    """Data of a `progress` event."""

    fraction: Annotated[float, Field(ge=0, le=1, description="of the media; never falls within a stream")]
    tasks: list[TaskFraction]


class Quota(Answer):
    """What you use, and what you may use; a limit of null is none."""

    used_bytes: Annotated[int, Field(description="of all originals that did not fail, those on their way included")]
    limit_bytes: int | None
    media_count: Annotated[int, Field(description="media that did not fail")]
    media_limit: int | None
    open_upload_count: Annotated[int, Field(description="uploads under way")]
    open_upload_limit: int | None


class NewUploadToken(Body):
    """An upload token that is wanted."""

    cookie: Annotated[bool, Field(description="also set it as a cookie, for pages of this origin")] = False


class UploadToken(Answer):
    """Proof of who uploads, for Uppy's S3 plugin and for nothing else."""

    token: Annotated[str, Field(description="keep it to yourself: who has it uploads as you")]
    endpoint: Annotated[
        str,
        Field(
            description="Uppy's `endpoint` (version 5) or `companionEndpoint` (version 6)",
            examples=["https://media.example/uppy/eyJhbGciOi…"],
        ),
    ]
    expires_at: Annotated[datetime, Field(description="when it stops working; uploads that have begun stay")]
