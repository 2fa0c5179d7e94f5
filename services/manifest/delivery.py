"""The delivery bucket as the publisher uses it, over the S3 adapter."""

import hashlib
from collections.abc import Mapping

from services.runtime.blobs import Blobs


class DeliveryBucket:
    """Implements the port `Delivery`."""

    def __init__(self, storage: Blobs, bucket: str) -> None:
        self._storage = storage
        self._bucket = bucket

    async def sizes(self, prefix: str) -> Mapping[str, int]:
        """Size in bytes of every object below a prefix, by key."""
        return {blob.key: blob.size_bytes for blob in await self._storage.list(self._bucket, prefix)}

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        """Writes an object that is never to change; AlreadyExists when the key is taken."""
        sha256 = hashlib.sha256(data).digest()
        await self._storage.put(self._bucket, key, data, content_type=content_type, sha256=sha256)

    async def read(self, key: str) -> bytes:
        """A whole object."""
        return await self._storage.get(self._bucket, key)
