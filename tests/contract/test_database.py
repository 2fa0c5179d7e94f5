"""What the database port promises, on a real PostgreSQL server: what is tried again, and what is an outage."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from services.runtime import database
from services.runtime.database import Connection, Database
from services.runtime.errors import Unavailable
from services.runtime.settings import DatabaseSettings
from tests.env import Env, settings_from


@pytest.fixture
async def pool(infra: Env, database_url: str) -> AsyncIterator[Database]:
    """A pool of one connection, so that whoever comes next meets what the last one left behind."""
    settings = settings_from(
        DatabaseSettings, {**infra, "MILLRACE_DATABASE_URL": database_url, "MILLRACE_DATABASE_POOL_SIZE": "1"}
    )
    async with database.connected(settings) as connected:
        yield connected


@pytest.mark.parametrize("code", ["53100", "53200", "53300"], ids=["disk full", "out of memory", "no connection left"])
async def test_a_server_without_room_is_an_outage(pool: Database, code: str) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{code}'; END $$")

    with pytest.raises(Unavailable):
        await pool.transaction(work)


async def test_a_table_that_changed_under_a_prepared_statement_is_read_again(pool: Database) -> None:
    table = f"changing_{secrets.token_hex(4)}"

    async def create(connection: Connection) -> None:
        await connection.execute(f"CREATE TABLE {table} (a int)")

    async def read(connection: Connection) -> list[str]:
        await connection.execute("SELECT 1")
        await connection.fetch(f"SELECT * FROM {table}")
        return [column.name for column in (await connection.prepare(f"SELECT * FROM {table}")).get_attributes()]

    async def change(connection: Connection) -> None:
        await connection.execute(f"ALTER TABLE {table} ADD COLUMN b int")

    await pool.transaction(create)
    assert await pool.transaction(read) == ["a"]
    await pool.transaction(change)
    assert await pool.transaction(read) == ["a", "b"]


async def test_a_transaction_that_was_ended_for_idling_runs_again(pool: Database) -> None:
    runs = 0

    async def work(connection: Connection) -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'idle' USING ERRCODE = '25P03'; END $$")
        return int(await connection.fetchval("SELECT 7"))

    assert await pool.transaction(work) == 7
    assert runs == 2


async def test_whoever_gives_up_while_the_connection_dies_is_let_go(pool: Database) -> None:
    runs = 0

    async def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        connection.terminate()
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await pool.transaction(work)
    assert runs == 1
