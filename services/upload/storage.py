"""The originals bucket as the `Storage` port, over the runtime's S3 adapter."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from services.runtime.blobs import Blobs, Part
from services.runtime.errors import NotFound
from services.upload.checksums import ChecksumAlgorithm
from services.upload.parts import ClaimedPart, HeldPart
from services.upload.ports import Form, PendingUpload
from services.upload.session import StoredOriginal


class OriginalsBucket:
    """Uploads to one bucket; see `ports.Storage` for what each method owes."""

    def __init__(self, blobs: Blobs, bucket: str) -> None:
        self._blobs = blobs
        self._bucket = bucket

    async def create(self, key: str, content_type: str, algorithm: ChecksumAlgorithm | None) -> str:
        """Begins a multipart upload."""
        return await self._blobs.create_multipart(
            self._bucket, key, content_type=content_type, algorithm=algorithm.value if algorithm else None
        )

    def sign_parts(
        self, key: str, upload_id: str, headers: Mapping[int, Mapping[str, str]], expires_in: timedelta
    ) -> Mapping[int, str]:
        """Signs parts; some three microseconds each, so that even a thousand hold nobody up."""
        return self._blobs.sign_parts(self._bucket, key, upload_id, headers, expires_in=expires_in)

    def sign_put(self, key: str, headers: Mapping[str, str], expires_in: timedelta) -> str:
        """Signs a whole object."""
        return self._blobs.sign_put(self._bucket, key, headers, expires_in=expires_in)

    def sign_form(self, key: str, max_size_bytes: int, expires_in: timedelta) -> Form:
        """Signs a form."""
        form = self._blobs.sign_form(self._bucket, key, max_size_bytes=max_size_bytes, expires_in=expires_in)
        return Form(form.url, form.fields)

    async def list_parts(self, key: str, upload_id: str) -> Sequence[HeldPart]:
        """Lists parts, all pages."""
        held = await self._blobs.list_parts(self._bucket, key, upload_id)
        return [HeldPart(part.number, part.etag, part.size_bytes) for part in held]

    async def complete(
        self, key: str, upload_id: str, claimed: Sequence[ClaimedPart], algorithm: ChecksumAlgorithm | None
    ) -> None:
        """Joins parts."""
        joined = [Part(part.number, part.etag, checksum=part.checksum) for part in claimed]
        await self._blobs.complete_multipart(
            self._bucket, key, upload_id, joined, algorithm=algorithm.value if algorithm else None
        )

    async def abort(self, key: str, upload_id: str) -> None:
        """Gives an upload up."""
        await self._blobs.abort_multipart(self._bucket, key, upload_id)

    async def head(self, key: str) -> StoredOriginal:
        """Describes an object."""
        blob = await self._blobs.head(self._bucket, key)
        checksums = {ChecksumAlgorithm(name): value for name, value in blob.checksums.items()}
        return StoredOriginal(key, blob.etag, blob.size_bytes, checksums)

    async def exists(self, key: str) -> bool:
        """Looks for an object."""
        try:
            await self._blobs.head(self._bucket, key)
        except NotFound:
            return False
        return True

    async def copy(self, source_key: str, etag: str, key: str) -> None:
        """Copies an object."""
        await self._blobs.copy(self._bucket, source_key, key, etag=etag)

    async def delete(self, key: str) -> None:
        """Deletes an object."""
        await self._blobs.delete(self._bucket, key)

    async def pending(self, after: tuple[str, str]) -> tuple[Sequence[PendingUpload], tuple[str, str] | None]:
        """Lists multipart uploads."""
        page, following = await self._blobs.pending_multipart(self._bucket, after=after)
        return [PendingUpload(one.key, one.upload_id, one.initiated_at) for one in page], following
