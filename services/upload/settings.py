"""Settings of the upload service."""

from typing import Final

from pydantic import Field

from services.runtime.settings import S3Settings, TargetSettings
from services.upload.parts import MIN_PART_SIZE_BYTES

_MIB: Final = 1024 * 1024
_GB: Final = 1_000_000_000


class UploadSettings(S3Settings, TargetSettings):
    """Where the upload service listens, and the terms on which it takes uploads."""

    upload_listen: str = Field("127.0.0.1:7101", description="host:port")
    upload_part_size_bytes: int = Field(
        10 * _MIB,
        ge=MIN_PART_SIZE_BYTES,
        le=5 * 1024 * _MIB,
        description="size of a part unless 10,000 of them would not hold the file",
    )
    upload_put_max_bytes: int = Field(
        10 * _MIB, ge=0, le=5 * 1024 * _MIB, description="files up to this size take one PUT, if one part holds them"
    )
    upload_window_parts: int = Field(100, ge=1, le=1_000, description="parts that initiate signs at once")
    upload_url_ttl_s: int = Field(3_600, ge=60, le=604_800, description="life of a presigned URL; S3 allows a week")
    upload_session_ttl_s: int = Field(
        86_400, ge=300, le=604_800, description="how long an upload may stay open before it is given up"
    )
    upload_sweep_interval_s: float = Field(1.0, gt=0, le=600, description="between two looks at what is due")
    upload_orphan_interval_s: float = Field(
        600.0, gt=0, le=86_400, description="between two looks at all multipart uploads of storage"
    )
    upload_orphan_age_s: int = Field(
        3_600, ge=0, le=604_800, description="a multipart upload that no record knows is aborted after this"
    )
    upload_max_image_bytes: int = Field(200_000_000, ge=1, le=50 * _GB)
    upload_max_video_bytes: int = Field(50 * _GB, ge=1, le=5_000 * _GB, description="S3 ends at 5 TiB")
