"""Gateway, upload and metadata as processes of their own, with small windows: uploads are real, nothing is encoded.

What presigned URLs name is a proxy before storage, which counts what comes and can stop or cut it.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.local.stack import Stack
from millrace import Client
from tests.integration.client.storage_link import StorageLink, storage_link

PART_BYTES = 5 << 20
WINDOW_PARTS = 2
MAX_IMAGE_BYTES = 1_000_000


@pytest.fixture(scope="package")
def way() -> Iterator[StorageLink]:
    """From clients to storage."""
    with storage_link() as link:
        yield link


@pytest.fixture
def link(way: StorageLink) -> Iterator[StorageLink]:
    """The same, open, and with nothing counted yet."""
    way.puts.clear()
    way.most_in_flight = 0
    yield way
    way.let_through(None)


@pytest.fixture(scope="package")
def uploads(tmp_path_factory: pytest.TempPathFactory, way: StorageLink) -> Iterator[Stack]:
    """What takes uploads."""
    overrides = {
        "MILLRACE_S3_PUBLIC_ENDPOINT_URL": way.url,
        "MILLRACE_UPLOAD_PART_SIZE_BYTES": str(PART_BYTES),
        "MILLRACE_UPLOAD_WINDOW_PARTS": str(WINDOW_PARTS),
        "MILLRACE_UPLOAD_MAX_IMAGE_BYTES": str(MAX_IMAGE_BYTES),
    }
    with Stack(tmp_path_factory.mktemp("uploads"), ("metadata", "upload", "gateway"), overrides) as stack:
        way.storage_url = stack.settings["MILLRACE_S3_ENDPOINT_URL"]
        yield stack


@pytest.fixture
async def alice(uploads: Stack) -> AsyncIterator[Client]:
    """One user."""
    async with Client(uploads.settings["MILLRACE_GATEWAY_URL"], uploads.token("alice")) as client:
        yield client


@pytest.fixture
async def bob(uploads: Stack) -> AsyncIterator[Client]:
    """Another user."""
    async with Client(uploads.settings["MILLRACE_GATEWAY_URL"], uploads.token("bob")) as client:
        yield client
