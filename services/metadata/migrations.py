"""Brings a database's schema up to date: `python -m services.metadata.migrations`.

Migrations are plain SQL files in `migrations_sql/`, applied in the order of their names, each in one transaction, each
once. One that is released is never edited; a change is a new file.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import yoyo

from services.runtime.settings import DatabaseSettings

DIRECTORY: Final = Path(__file__).parent / "migrations_sql"
_LOCK_KEY: Final = 0x6D696C6C_72616365
"""Key of the advisory lock under which one process at a time migrates; any constant serves."""


def apply(database_url: str) -> None:
    """Applies what is missing; with nothing missing it changes nothing. Several callers at once wait for one another.

    Args:
        database_url: `postgresql://…` of an existing database.

    Raises:
        psycopg.Error: the database cannot be reached, or refuses a statement; that migration is rolled back whole.
    """
    migrations = yoyo.read_migrations(str(DIRECTORY))
    driver_url = urlunsplit(urlsplit(database_url)._replace(scheme="postgresql+psycopg"))
    with _alone(database_url), yoyo.get_backend(driver_url) as backend:
        # Whoever left yoyo's own lock behind is dead: the advisory lock is ours, and dies with its holder.
        backend.break_lock()
        with backend.lock():
            backend.apply_migrations(backend.to_apply(migrations))


@contextlib.contextmanager
def _alone(database_url: str) -> Iterator[None]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        yield


def main() -> None:
    """Migrates the database that `MILLRACE_DATABASE_URL` names."""
    apply(DatabaseSettings().database_url.get_secret_value())


if __name__ == "__main__":
    main()
