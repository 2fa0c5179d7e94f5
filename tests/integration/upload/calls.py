"""The service's rpcs as short calls of one uploader."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from media.v1 import media_pb2
from media.v1 import upload_service_pb2 as pb
from services.runtime.grpc_client import call

if TYPE_CHECKING:
    from media.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

PART_BYTES = 5 * 1024 * 1024
PATIENCE_S = 60.0
"""For a call among hundreds on a small machine."""

PUT = media_pb2.UPLOAD_KIND_PUT
MULTIPART = media_pb2.UPLOAD_KIND_MULTIPART
FORM = media_pb2.UPLOAD_KIND_FORM


def key_of(media_id: str) -> str:
    """The original's key: the media's shard stands before its id."""
    shard = int(media_id.replace("-", ""), 16) >> 64 & 0xFFF
    return f"{shard:03x}/{media_id}/original"


@dataclass(frozen=True, slots=True)
class Uploader:
    """One user of the upload service."""

    stub: "UploadServiceAsyncStub"
    user_id: str = "alice"

    async def initiate(
        self,
        size_bytes: int,
        kind: media_pb2.UploadKind.ValueType = media_pb2.UPLOAD_KIND_UNSPECIFIED,
        algorithm: media_pb2.ChecksumAlgorithm.ValueType = media_pb2.CHECKSUM_ALGORITHM_UNSPECIFIED,
        checksum: str = "",
    ) -> pb.InitiateUploadResponse:
        """Begins an upload."""
        request = pb.InitiateUploadRequest(
            user_id=self.user_id,
            filename="a.mp4",
            content_type="video/mp4",
            size_bytes=size_bytes,
            kind=kind,
            checksum_algorithm=algorithm,
            checksum=checksum,
        )
        return await call(self.stub.InitiateUpload, request, timeout_s=PATIENCE_S)

    async def sign(
        self, media_id: str, numbers: Sequence[int], checksums: Sequence[str] = ()
    ) -> Sequence[pb.PresignedPart]:
        """Has parts signed."""
        request = pb.SignPartsRequest(
            user_id=self.user_id, media_id=media_id, part_numbers=numbers, checksums=checksums
        )
        return (await call(self.stub.SignParts, request)).parts

    async def held(self, media_id: str) -> Sequence[pb.UploadedPart]:
        """What storage holds."""
        request = pb.ListPartsRequest(user_id=self.user_id, media_id=media_id)
        return (await call(self.stub.ListParts, request)).parts

    async def complete(self, media_id: str, parts: Sequence[pb.CompletedPart]) -> media_pb2.Media:
        """Completes."""
        request = pb.CompleteUploadRequest(user_id=self.user_id, media_id=media_id, parts=parts)
        return (await call(self.stub.CompleteUpload, request, timeout_s=PATIENCE_S)).media

    async def abort(self, media_id: str) -> media_pb2.Media:
        """Gives up."""
        request = pb.AbortUploadRequest(user_id=self.user_id, media_id=media_id)
        return (await call(self.stub.AbortUpload, request, timeout_s=PATIENCE_S)).media
