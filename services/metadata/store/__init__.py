"""PostgreSQL, behind nouns: a transaction offers a table for each of them, and nothing else.

SQL lives in `sql/`, by name. This package alone knows how values become columns; what may follow what is decided
elsewhere, under the row lock that `media.lock` takes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import asyncpg

from services.metadata.store import queries
from services.metadata.store.media import MediaTable
from services.metadata.store.outbox import CHANNEL, OutboxTable
from services.metadata.store.quotas import QuotaTable
from services.metadata.store.requests import RequestTable
from services.metadata.store.tasks import TaskTable
from services.metadata.store.uploads import UploadTable
from services.runtime.database import Connection, Database
from services.runtime.errors import InvalidArgument, Unavailable

_T = TypeVar("_T")

_SQL: Final = queries.load("reconciler")
_DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """The tables as one transaction sees them."""

    media: MediaTable
    uploads: UploadTable
    quotas: QuotaTable
    tasks: TaskTable
    outbox: OutboxTable
    requests: RequestTable


class Store:
    """Transactions on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def transaction(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        """Runs `work` in one transaction.

        It runs again from the start when the database could not finish it, even after a commit whose reply was lost:
        a second run must find the first and answer the same.

        Raises:
            Unavailable: the database did not answer.
            InvalidArgument: it cannot hold a value, for instance a text with a NUL character.
        """
        with _storable():
            return await self._database.transaction(lambda connection: work(_tables(connection)))

    async def statement(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        """Runs `work` that sends one statement, which is a transaction of its own; otherwise as `transaction`."""
        with _storable():
            return await self._database.statement(lambda connection: work(_tables(connection)))

    @asynccontextmanager
    async def listening(self, wake: asyncio.Event) -> AsyncIterator[Callable[[], bool]]:
        """Sets an event whenever a transaction that added to the outbox commits, for as long as the block lasts.

        Yields:
            A function that says whether the connection still stands; what is announced while it does not is not heard.

        Raises:
            Unavailable: the database cannot be reached at first.
        """

        def heard(*_: object) -> None:
            wake.set()

        try:
            async with self._database.connection() as connection:
                await connection.add_listener(CHANNEL, heard)
                try:
                    yield lambda: not connection.is_closed()
                finally:
                    if not connection.is_closed():
                        await connection.remove_listener(CHANNEL, heard)
        except _DRIVER_ERRORS as error:
            raise Unavailable(f"database: {error!r}") from error

    @asynccontextmanager
    async def alone(self, key: int) -> AsyncIterator[bool]:
        """Holds a lock that belongs to one connection in the whole database, for as long as the block lasts.

        Yields:
            False when somebody else holds it; nothing is locked then.

        Raises:
            Unavailable: the database does not answer.
        """
        try:
            async with self._database.connection() as connection:
                locked = bool(await connection.fetchval(_SQL["try_lock"], key))
                try:
                    yield locked
                finally:
                    if locked and not connection.is_closed():
                        await connection.fetchval(_SQL["unlock"], key)
        except _DRIVER_ERRORS as error:
            raise Unavailable(f"database: {error!r}") from error


def _tables(connection: Connection) -> Transaction:
    return Transaction(
        media=MediaTable(connection),
        uploads=UploadTable(connection),
        quotas=QuotaTable(connection),
        tasks=TaskTable(connection),
        outbox=OutboxTable(connection),
        requests=RequestTable(connection),
    )


@contextmanager
def _storable() -> Iterator[None]:
    try:
        yield
    except asyncpg.DataError as error:
        raise InvalidArgument(f"a value cannot be stored: {error}", reason="VALUE_NOT_STORABLE") from error
