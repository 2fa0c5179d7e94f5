"""Quotas over HTTP: what is used, and what becomes of those who ask for more."""

import pytest

from tests.env import Env
from tests.integration.gateway.client import Uploader, problem

QUOTA_BYTES = 1_000
OPEN_UPLOADS = 3


@pytest.fixture(scope="module")
def env(env: Env) -> Env:
    """Small quotas."""
    return {**env, "MILLRACE_QUOTA_BYTES": str(QUOTA_BYTES), "MILLRACE_QUOTA_OPEN_UPLOADS": str(OPEN_UPLOADS)}


async def test_what_is_used_is_told_and_more_is_refused(alice: Uploader) -> None:
    assert (await alice.http.get("/v1/quota")).json() == {
        "used_bytes": 0,
        "limit_bytes": QUOTA_BYTES,
        "media_count": 0,
        "media_limit": 1_000_000,
        "open_upload_count": 0,
        "open_upload_limit": OPEN_UPLOADS,
    }
    begun = await alice.initiate(bytes(600))
    key = {"Idempotency-Key": "quota"}
    file = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 401}
    refused = await alice.http.post("/v1/initiate-upload", json=file, headers=key)
    body = problem(refused, 413, "quota-exceeded")
    assert body["details"] == {"used_bytes": "600", "limit_bytes": "1000"}
    assert body["retryable"] is False
    assert "retry-after" not in refused.headers

    await alice.abort(begun["media_id"])
    assert (await alice.http.get("/v1/quota")).json()["used_bytes"] == 0
    assert (await alice.http.post("/v1/initiate-upload", json=file, headers=key)).status_code == 201


async def test_too_many_open_uploads_are_to_be_tried_again(bob: Uploader) -> None:
    begun = [await bob.initiate(b"x") for _ in range(OPEN_UPLOADS)]
    file = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 1}
    refused = await bob.http.post("/v1/initiate-upload", json=file)
    body = problem(refused, 429, "too-many-open-uploads")
    assert body["retryable"] is True
    assert refused.headers["retry-after"] == body["details"]["retry_after_s"]
    sent = await bob.put(begun[0], b"x")
    assert (await bob.complete(begun[0]["media_id"], sent)).status_code == 202
    assert (await bob.http.post("/v1/initiate-upload", json=file)).status_code == 201
