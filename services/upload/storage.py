"""The originals bucket as the `Storage` port, over the runtime's S3 adapter."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from services.runtime.blobs import Blobs, Part
from services.upload.parts import ClaimedPart, HeldPart
from services.upload.sessions import StoredOriginal


class OriginalsBucket:
    """Multipart uploads in one bucket; see `sessions.Storage` for what each method owes."""

    def __init__(self, blobs: Blobs, bucket: str) -> None:
        self._blobs = blobs
        self._bucket = bucket

    async def create(self, key: str, content_type: str) -> str:
        """Begins a multipart upload."""
        return await self._blobs.create_multipart(self._bucket, key, content_type=content_type)

    async def sign(
        self, key: str, upload_id: str, sizes_bytes: Mapping[int, int], expires_in: timedelta
    ) -> Mapping[int, str]:
        """Signs parts; some three microseconds each, so that even a thousand hold nobody up."""
        return self._blobs.sign_parts(self._bucket, key, upload_id, sizes_bytes, expires_in=expires_in)

    async def list_parts(self, key: str, upload_id: str) -> Sequence[HeldPart]:
        """Lists parts, all pages."""
        held = await self._blobs.list_parts(self._bucket, key, upload_id)
        return [HeldPart(part.number, part.etag, part.size_bytes) for part in held]

    async def complete(self, key: str, upload_id: str, claimed: Sequence[ClaimedPart]) -> None:
        """Joins parts."""
        joined = [Part(part.number, part.etag) for part in claimed]
        await self._blobs.complete_multipart(self._bucket, key, upload_id, joined)

    async def abort(self, key: str, upload_id: str) -> None:
        """Gives an upload up."""
        await self._blobs.abort_multipart(self._bucket, key, upload_id)

    async def head(self, key: str) -> StoredOriginal:
        """Describes a completed original."""
        blob = await self._blobs.head(self._bucket, key)
        return StoredOriginal(key, blob.etag, blob.size_bytes)
