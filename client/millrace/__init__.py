"""Millrace's client: uploads straight to object storage, progress, and what came of it.

async with Client("https://media.example.com", token) as client:
    media = await upload(client, Path("clip.mp4"))
    media = await wait_until_published(client, media.media_id)
    print(media.playback.manifest_url)
"""

from millrace.api import Client
from millrace.backoff import Backoff
from millrace.checksums import ChecksumAlgorithm
from millrace.errors import (
    AlreadyUploading,
    FileUnusable,
    LimitReached,
    MediaFailed,
    MillraceError,
    NetworkError,
    NotAuthenticated,
    NotFound,
    ProblemError,
    QuotaExceeded,
    Refused,
    ServiceFault,
    StateUnusable,
    StorageRefused,
    UnexpectedAnswer,
)
from millrace.models import (
    Failure,
    Media,
    Playback,
    PresignedPart,
    Rendition,
    SignedParts,
    Status,
    StoredParts,
    TaskProgress,
    Thumbnail,
    Update,
    UploadedPart,
    UploadSession,
)
from millrace.trace import new_traceparent, trace_id_of
from millrace.upload import forget, upload, wait_until_published

__all__ = [
    "AlreadyUploading",
    "Backoff",
    "ChecksumAlgorithm",
    "Client",
    "Failure",
    "FileUnusable",
    "LimitReached",
    "Media",
    "MediaFailed",
    "MillraceError",
    "NetworkError",
    "NotAuthenticated",
    "NotFound",
    "Playback",
    "PresignedPart",
    "ProblemError",
    "QuotaExceeded",
    "Refused",
    "Rendition",
    "ServiceFault",
    "SignedParts",
    "StateUnusable",
    "Status",
    "StorageRefused",
    "StoredParts",
    "TaskProgress",
    "Thumbnail",
    "UnexpectedAnswer",
    "Update",
    "UploadSession",
    "UploadedPart",
    "forget",
    "new_traceparent",
    "trace_id_of",
    "upload",
    "wait_until_published",
]
