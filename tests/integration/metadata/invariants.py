"""Invariant E as SQL: what a quota says is used is the sum over the media that did not fail, never below nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.integration.metadata.calls import Sql

WRONG_QUOTAS = """
    SELECT coalesce(q.user_id, m.user_id) AS user_id,
           q.used_bytes, m.bytes, q.media_count, m.media, q.open_upload_count, m.open_uploads
    FROM quotas q
    FULL JOIN (
        SELECT shard, user_id, sum(size_bytes)::bigint AS bytes, count(*) AS media,
               count(*) FILTER (WHERE status = 'uploading') AS open_uploads
        FROM media
        WHERE status <> 'failed'
        GROUP BY shard, user_id
    ) m ON m.shard = q.shard AND m.user_id = q.user_id
    WHERE (coalesce(q.used_bytes, 0), coalesce(q.media_count, 0), coalesce(q.open_upload_count, 0))
          IS DISTINCT FROM (coalesce(m.bytes, 0), coalesce(m.media, 0), coalesce(m.open_uploads, 0))
       OR least(q.used_bytes, q.media_count, q.open_upload_count) < 0
"""
"""Each row is an owner whose quota is wrong. A statement sees what is committed, hence it holds at any moment."""

BEYOND_LIMITS = """
    SELECT user_id, used_bytes, media_count, open_upload_count
    FROM quotas
    WHERE used_bytes > coalesce(limit_bytes, used_bytes) OR media_count > coalesce(media_limit, media_count)
       OR open_upload_count > coalesce(open_upload_limit, open_upload_count)
"""
"""Each row is an owner who uses more than the limits that are theirs alone."""


async def quotas_hold(sql: Sql) -> None:
    """Fails when the quota of any owner is wrong."""
    wrong = [*await sql.fetch(WRONG_QUOTAS), *await sql.fetch(BEYOND_LIMITS)]
    assert not wrong, [dict(row) for row in wrong]


@asynccontextmanager
async def holding_throughout(check: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Checks again and again while the block runs, and once more after it."""
    is_over = False

    async def watch() -> None:
        while not is_over:
            await check()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        try:
            yield
        finally:
            is_over = True
    await check()
