"""An upload session and what belongs to it, as values.

A session is a record at the metadata service and, at object storage, a multipart upload or an object.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from services.runtime.errors import FailedPrecondition, NotFound
from services.upload.checksums import ChecksumAlgorithm
from services.upload.claims import MediaType
from services.upload.kinds import UploadKind
from services.upload.parts import Layout

_INCOMING: Final = "incoming"


class SessionState(Enum):
    """Where a session stands."""

    OPEN = "open"
    COMPLETING = "completing"
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Session:
    """An upload session as the metadata service records it.

    Attributes:
        media_id: the media that it creates.
        user_id: its owner.
        s3_key: key of the original.
        upload_id: storage's identifier of the multipart upload; empty until one is attached, and for other kinds.
        layout: the agreed cut.
        state: where it stands.
        content_type: as claimed.
        media_type: as claimed.
        traceparent: the trace that began with it; empty if none was recorded.
        kind: how its bytes come.
        checksum_algorithm: of the checksum that every part carries; None for none.
        checksum: of the whole file, in base64; empty for none.
    """

    media_id: str
    user_id: str
    s3_key: str
    upload_id: str
    layout: Layout
    state: SessionState
    content_type: str
    media_type: MediaType
    traceparent: str
    kind: UploadKind = UploadKind.MULTIPART
    checksum_algorithm: ChecksumAlgorithm | None = None
    checksum: str = ""

    @property
    def incoming_key(self) -> str:
        """Where a form puts the file: beside the original, which no URL ever leads to."""
        return f"{self.s3_key.rpartition('/')[0]}/{_INCOMING}"


@dataclass(frozen=True, slots=True)
class StoredOriginal:
    """An object as storage describes it; `etag` without quotes, `checksums` of the whole in base64, if it has any."""

    s3_key: str
    etag: str
    size_bytes: int
    checksums: Mapping[ChecksumAlgorithm, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a media ends unpublished: a code for machines, a sentence for its owner."""

    reason: str
    message: str


def check_upload_id(session: Session, upload_id: str) -> None:
    """Passes when a client that names storage's identifier of an upload, which may be anybody's, names this session's.

    Raises:
        NotFound: it is another one.
    """
    if upload_id and upload_id != session.upload_id:
        raise NotFound("no such media", reason="MEDIA_NOT_FOUND")


def check_open(session: Session) -> Session:
    """The session, if bytes may still arrive.

    Raises:
        FailedPrecondition: it is completing, completed or aborted, or was never begun at storage.
    """
    if session.state is not SessionState.OPEN:
        raise FailedPrecondition(
            f"the upload is {session.state.value}",
            reason="UPLOAD_NOT_OPEN",
            details={"state": session.state.value},
        )
    check_begun(session)
    return session


def check_begun(session: Session) -> None:
    """Passes when storage knows of the session.

    Raises:
        FailedPrecondition: whoever began it died before that.
    """
    if session.kind is UploadKind.MULTIPART and not session.upload_id:
        raise FailedPrecondition("the upload was never begun: initiate it again", reason="UPLOAD_NOT_BEGUN")


def lost() -> FailedPrecondition:
    """The refusal of an upload that storage no longer knows."""
    return FailedPrecondition("storage no longer holds this upload: begin a new one", reason="UPLOAD_LOST")
