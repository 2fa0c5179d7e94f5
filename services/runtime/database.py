"""PostgreSQL through asyncpg: one pool a process, whole transactions retried, outages in our taxonomy."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from services.runtime.errors import Unavailable
from services.runtime.settings import DatabaseSettings

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_ACQUIRE_TIMEOUT_S: Final = 2.0
"""A pool that is empty for longer is overload: shed rather than queue."""
_MAX_ATTEMPTS: Final = 4
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,  # after a fail-over: still connected to what is a standby now
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg makes of a connection that ended while it was idle
    ConnectionError,
)
_RETRIED = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,  # a migration changed the table; asyncpg prepares afresh the next time
    asyncpg.IdleInTransactionSessionTimeoutError,  # this process stalled; only this one connection has ended
    *_LOST,
)
_UNAVAILABLE = (
    *_RETRIED,
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.QueryCanceledError,
    TimeoutError,
    OSError,
)

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@asynccontextmanager
async def connected(settings: DatabaseSettings) -> AsyncIterator["Database"]:
    """A pool that lasts as long as the block.

    Raises:
        Unavailable: PostgreSQL cannot be reached at first.
    """
    try:
        pool = await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=1,
            max_size=settings.database_pool_size,
            command_timeout=settings.database_statement_timeout_ms / 1_000 + 1,
            max_inactive_connection_lifetime=300,
            reset=_as_it_is,
            server_settings={
                "application_name": "millrace",
                "statement_timeout": str(settings.database_statement_timeout_ms),
                "idle_in_transaction_session_timeout": "10000",
            },
        )
    except _UNAVAILABLE as error:
        raise Unavailable(f"database: {error!r}") from error
    try:
        yield Database(pool)
    finally:
        try:
            async with asyncio.timeout(5):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _as_it_is(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Nothing that runs here changes a session, so none is reset: that would be a round trip for each use of one."""


class Database:
    """A pool of connections; see `connected`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    async def transaction(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Runs `work` in one READ COMMITTED transaction, again from the start when the database could not finish it.

        A lost reply to COMMIT leaves the outcome unknown, so `work` must be such that a second run after a first,
        committed one finds that and answers the same.

        Raises:
            Unavailable: the database did not answer, several times over.
        """

        async def within(connection: Connection) -> _T:
            async with connection.transaction():
                return await work(connection)

        return await self.statement(within)

    async def statement(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Runs `work`, which sends one statement, in that statement's own transaction: two round trips less.

        Raises:
            Unavailable: as `transaction`, whose other terms hold too.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S) as connection:
                    return await work(connection)
            except _RETRIED as error:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    # The roll-back of a dead connection hides that the caller gave up.
                    raise asyncio.CancelledError from error
                _log.warning("transaction_retried", attempt=attempt, error=repr(error))
                if isinstance(error, _LOST):
                    # What ended one connection ended the others as well: none of them is used again.
                    await self._pool.expire_connections()
                if attempt == _MAX_ATTEMPTS:
                    raise Unavailable(f"database: {error!r}") from error
                await asyncio.sleep(0.05 * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 jitter, no secret
            except _UNAVAILABLE as error:
                raise Unavailable(f"database: {error!r}") from error
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection outside any transaction, for instance to listen on; errors are the driver's."""
        async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S) as connection:
            yield connection
