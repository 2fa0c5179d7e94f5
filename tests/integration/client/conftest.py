"""Gateway, upload and metadata as processes of their own, with small windows: uploads are real, nothing is encoded."""

from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.local.stack import Stack
from millrace import Client

PART_BYTES = 5 << 20
WINDOW_PARTS = 2
MAX_IMAGE_BYTES = 1_000_000


@pytest.fixture(scope="package")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """What takes uploads."""
    overrides = {
        "MILLRACE_UPLOAD_PART_SIZE_BYTES": str(PART_BYTES),
        "MILLRACE_UPLOAD_WINDOW_PARTS": str(WINDOW_PARTS),
        "MILLRACE_UPLOAD_MAX_IMAGE_BYTES": str(MAX_IMAGE_BYTES),
    }
    with Stack(tmp_path_factory.mktemp("uploads"), ("metadata", "upload", "gateway"), overrides) as stack:
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
