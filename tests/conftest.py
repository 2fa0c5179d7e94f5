"""Real servers for the tests that need them: started once, on free ports, in a temporary folder, and ended."""

import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from deploy.local.stack import Stack
from services.metadata import migrations
from services.runtime import blobs, bus
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.settings import S3Settings

Env: TypeAlias = dict[str, str]
"""`MILLRACE_…` settings by name."""

_TEMPLATE = "millrace_template"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded servers without any service of ours."""
    with Stack(tmp_path_factory.mktemp("stack"), services=()) as stack:
        yield stack


@pytest.fixture(scope="session")
def infra(servers: Stack) -> Env:
    """Settings that reach the embedded servers."""
    return servers.settings


@pytest.fixture(scope="session")
async def _template(infra: Env) -> str:
    """A migrated database that nobody connects to, so that it can be cloned in milliseconds."""
    url = infra["MILLRACE_DATABASE_URL"]
    await _execute(url, f"CREATE DATABASE {_TEMPLATE}")
    migrations.apply(_with_database(url, _TEMPLATE))
    return url


@pytest.fixture(scope="module")
async def database_url(_template: str) -> AsyncIterator[str]:
    """A fresh, migrated database for one module of tests."""
    name = f"test_{secrets.token_hex(6)}"
    await _execute(_template, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield _with_database(_template, name)
    await _execute(_template, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def storage(infra: Env) -> AsyncIterator[Blobs]:
    """Object storage through our own adapter."""
    async with blobs.connected(s3_settings(infra)) as connected:
        yield connected


@pytest.fixture(scope="session")
async def broker(infra: Env) -> AsyncIterator[Bus]:
    """The broker through our own adapter."""
    async with bus.connected(infra["MILLRACE_NATS_URL"], "tests") as connected:
        yield connected


def s3_settings(env: Env) -> S3Settings:
    """The storage settings of an environment, however the process's own look."""
    fields = {name: env[key] for name in S3Settings.model_fields if (key := f"MILLRACE_{name.upper()}") in env}
    return S3Settings.model_validate(fields)


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
