"""A database that holds rows of an earlier schema, brought up to date."""

import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from pydantic import SecretStr

from services.metadata import migrations
from services.metadata.settings import MetadataSettings
from services.runtime import database, ids
from tests.env import Env
from tests.integration.metadata.calls import ETAG, SIZE_BYTES, Sql
from tests.integration.metadata.conftest import serving
from tests.integration.metadata.invariants import quotas_hold

ALICE, BOB, CAROL = "alice", "bob", "carol"
ROWS = [
    # owner, status of the media, state of its upload
    (ALICE, "uploading", "open"),
    (ALICE, "uploading", "completing"),
    (ALICE, "processing", "completed"),
    (ALICE, "published", "completed"),
    (ALICE, "failed", "aborted"),
    (ALICE, "failed", "completed"),
    (BOB, "processing", "completed"),
    (CAROL, "failed", "aborted"),
]


@pytest.fixture
async def url(infra: Env) -> AsyncIterator[str]:
    """A database without any table."""
    provisioned = urlsplit(infra["MILLRACE_DATABASE_URL"])
    administration = await asyncpg.connect(urlunsplit(provisioned._replace(path="/postgres")))
    name = f"test_{secrets.token_hex(6)}"
    await administration.execute(f"CREATE DATABASE {name}")
    yield urlunsplit(provisioned._replace(path=f"/{name}"))
    await administration.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await administration.close()


@pytest.fixture
async def old(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sql]:
    """The same with the first migration alone, and rows of it."""
    shutil.copy(migrations.DIRECTORY / "0001_tables.sql", tmp_path)
    with monkeypatch.context() as before:
        before.setattr(migrations, "DIRECTORY", tmp_path)
        migrations.apply(url)
    connection = await asyncpg.connect(url)
    for number, (user, status, state) in enumerate(ROWS, start=1):
        await insert(connection, user, status, state, number * SIZE_BYTES)
    yield connection
    await connection.close()


async def insert(sql: Sql, user: str, status: str, state: str, size_bytes: int) -> None:
    """A media and its upload as the service of then left them."""
    shard, media_id = ids.shard_of_user(user), ids.new_media_id(user)
    is_final = status in {"published", "failed"}
    await sql.execute(
        """
        INSERT INTO media (shard, media_id, user_id, type, status, s3_key, size_bytes, filename, content_type,
                           delivery_prefix, original_etag, deadline_at, published_at, failure_reason, failure_message)
        VALUES ($1, $2, $3, 'video', $4, $5, $6, 'a.mp4', 'video/mp4', 'p', $7,
                CASE WHEN $8::boolean THEN NULL ELSE now() + interval '1 h' END,
                CASE WHEN $4 = 'published' THEN now() END,
                CASE WHEN $4 = 'failed' THEN 'broken' END, CASE WHEN $4 = 'failed' THEN 'It broke.' END)
        """,
        shard,
        media_id,
        user,
        status,
        ids.original_key(media_id),
        size_bytes,
        ETAG if state == "completed" else None,
        is_final,
    )
    await sql.execute(
        """
        INSERT INTO uploads (shard, media_id, upload_id, size_bytes, part_size_bytes, state, expires_at)
        VALUES ($1, $2, 'u', $3, 10000000, $4, now() + interval '1 h')
        """,
        shard,
        media_id,
        size_bytes,
        state,
    )


async def test_what_owners_use_is_counted(old: Sql, url: str) -> None:
    migrations.apply(url)
    rows = await old.fetch("SELECT user_id, used_bytes, media_count, open_upload_count FROM quotas ORDER BY user_id")
    assert [tuple(row) for row in rows] == [
        (ALICE, (1 + 2 + 3 + 4) * SIZE_BYTES, 4, 2),
        (BOB, 7 * SIZE_BYTES, 1, 0),
    ]
    await quotas_hold(old)


async def test_what_was_there_is_multipart_and_what_ended_is_looked_after(old: Sql, url: str) -> None:
    before = await old.fetch("SELECT media_id, status, size_bytes FROM media ORDER BY media_id")
    migrations.apply(url)
    assert await old.fetch("SELECT media_id, status, size_bytes FROM media ORDER BY media_id") == before
    due = await old.fetch("SELECT state, count(*) AS n FROM uploads WHERE sweep_at <= now() GROUP BY state")
    # The completed one is of a media that failed: its original is of no use any more.
    assert {row["state"]: row["n"] for row in due} == {"aborted": 2, "completing": 1, "completed": 1}
    kinds = await old.fetch("SELECT DISTINCT kind, sweep_count FROM uploads")
    assert [tuple(row) for row in kinds] == [("multipart", 0)]


async def test_what_was_under_way_goes_on(old: Sql, url: str) -> None:
    """Their room is given back, and taken, as that of any other."""
    migrations.apply(url)
    settings = MetadataSettings(database_url=SecretStr(url))
    async with database.connected(settings) as connected, serving(settings, connected) as metadata:
        media_of = {
            (row["status"], row["state"]): str(row["media_id"])
            for row in await old.fetch(
                "SELECT m.media_id, m.status, u.state FROM media m JOIN uploads u USING (shard, media_id) "
                "WHERE user_id = $1",
                ALICE,
            )
        }
        await metadata.abort(ALICE, media_of["uploading", "open"])
        await metadata.begin_processing(await metadata.upload(ALICE, media_of["uploading", "completing"]))
        await metadata.fail_media(media_of["processing", "completed"])
        for media_id in media_of.values():
            await metadata.fail_media(media_id)  # those that are final stay
        for user in (ALICE, BOB, CAROL):
            await metadata.create(user)
        await quotas_hold(old)
        assert (await metadata.quota(ALICE)).used_bytes == (4 + 1) * SIZE_BYTES
        assert (await metadata.quota(CAROL)).used_bytes == SIZE_BYTES


async def test_stills_of_before_are_shown_as_ever(old: Sql, url: str) -> None:
    """JPEGs without a ThumbHash, largest first; a page shows the smallest."""
    await old.execute(
        """
        INSERT INTO thumbnails (shard, media_id, generation, size_px, s3_key, width_px, height_px, content_type,
                                size_bytes)
        SELECT shard, media_id, generation, size_px, 'p/' || size_px || '.jpg', size_px, size_px / 2, 'image/jpeg', 9
        FROM media, unnest(ARRAY[320, 1200]) AS size_px
        WHERE status = 'published'
        """
    )
    migrations.apply(url)
    settings = MetadataSettings(database_url=SecretStr(url))
    async with database.connected(settings) as connected, serving(settings, connected) as metadata:
        [listed] = [media for media in (await metadata.page(ALICE)).media if media.thumbnails]
        shown = await metadata.media(ALICE, listed.media_id)
    assert [(still.s3_key, still.width_px, still.height_px, still.thumbhash) for still in shown.thumbnails] == [
        ("p/1200.jpg", 1200, 600, b""),
        ("p/320.jpg", 320, 160, b""),
    ]
    assert list(listed.thumbnails) == [shown.thumbnails[1]]


async def test_an_empty_database_gets_all_of_it(url: str) -> None:
    for _ in range(2):
        migrations.apply(url)
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM quotas") == 0
    await connection.close()
