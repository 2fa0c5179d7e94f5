"""The schema: migrations, partitions, and queries that touch one shard alone."""

import asyncio
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from asyncpg.prepared_stmt import PreparedStatement

from services.metadata import migrations
from services.metadata.settings import MetadataSettings
from services.metadata.store import queries
from tests.integration.metadata.calls import Sql

TABLES = ("media", "uploads", "quotas", "tasks", "renditions", "thumbnails", "outbox", "requests")
SAMPLES: dict[str, object] = {
    "int4": 7,
    "int8": 7,
    "float8": 0.5,
    "text": "x",
    "uuid": uuid.UUID(int=0),
    "uuid[]": [uuid.UUID(int=0)],
    "interval": timedelta(seconds=1),
    "timestamptz": datetime(2026, 1, 1, tzinfo=UTC),
    "jsonb": "{}",
    "bytea": b"",
}
TEXTS = {"media": "failed", "uploads": "open"}
"""A planner that knows the check constraints reads nothing at all for a state that does not exist."""
WITH_A_SHARD = {
    f"{noun}.{name}": sql
    for noun in ("media", "uploads", "quotas", "tasks", "outbox", "requests")
    for name, sql in queries.load(noun).items()
    if "shard = $1" in sql
}


def relations(plan: Any) -> Iterator[str]:
    """Every table that a plan reads or writes."""
    if isinstance(plan, dict):
        if "Relation Name" in plan:
            yield plan["Relation Name"]
        for value in plan.values():
            yield from relations(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from relations(value)


def samples_for(statement: "PreparedStatement[asyncpg.Record]", name: str) -> list[object]:
    """Some value for each parameter of a query."""
    samples = SAMPLES | {"text": TEXTS.get(name.split(".", maxsplit=1)[0], "x")}
    return [samples[parameter.name] for parameter in statement.get_parameters()]


@pytest.mark.parametrize("name", sorted(WITH_A_SHARD))
async def test_a_query_for_a_shard_reads_its_partition_alone(name: str, sql: Sql) -> None:
    statement = await sql.prepare(WITH_A_SHARD[name])
    plan = await statement.explain(*samples_for(statement, name))
    # An UPDATE names its parent table once, for the root of the plan; what it scans is the partition.
    scanned = {relation for relation in relations(plan) if relation not in TABLES}
    partitions = {re.sub(r".*_p", "", relation) for relation in scanned}
    assert len(partitions) == 1, scanned


async def test_an_owners_list_comes_in_order_from_an_index(sql: Sql) -> None:
    await sql.execute("SET enable_seqscan = off")
    statement = await sql.prepare(queries.load("media")["list_media_after"])
    plan = str(await statement.explain(*samples_for(statement, "media.list_media_after")))
    assert "Index Scan" in plan
    assert "Sort Key" not in plan


async def test_every_table_has_its_partitions_and_the_shard_first_in_every_unique_index(sql: Sql) -> None:
    for table in TABLES:
        partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = $1::text::regclass"
        assert await sql.fetchval(partitions, table) == 8
        rows = await sql.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = $1 AND indexdef ~ 'UNIQUE'", table)
        assert rows
        assert all("(shard," in row["indexdef"] for row in rows)


@pytest.mark.parametrize(
    "change",
    [
        "status = 'published'",
        "status = 'processing'",
        "status = 'failed'",
        "status = 'failed', failure_reason = 'x', failure_message = 'x'",
        "deadline_at = NULL",
        "status = 'lost'",
        "generation = 0",
        "shard = 4096",
    ],
)
async def test_the_tables_themselves_refuse_impossible_states(change: str, sql: Sql) -> None:
    await sql.execute(
        "INSERT INTO media (shard, media_id, user_id, type, status, s3_key, size_bytes, filename, content_type, "
        "delivery_prefix, deadline_at) VALUES (1, gen_random_uuid(), 'u', 'video', 'uploading', 'k', 1, 'f', 'c', 'p', "
        "now())"
    )
    with pytest.raises(asyncpg.CheckViolationError):
        await sql.execute(f"UPDATE media SET {change} WHERE shard = 1")
    await sql.execute("DELETE FROM media WHERE shard = 1")


async def test_migrations_may_be_applied_by_several_at_once_and_again(settings: MetadataSettings, sql: Sql) -> None:
    url = settings.database_url.get_secret_value()
    await sql.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")  # left by one that was killed
    await asyncio.gather(*(asyncio.to_thread(migrations.apply, url) for _ in range(3)))
    assert await sql.fetchval("SELECT count(*) FROM yoyo_lock") == 0
    applied = await sql.fetchval("SELECT count(*) FROM _yoyo_migration")
    assert applied == len(list(migrations.DIRECTORY.glob("*.sql")))
