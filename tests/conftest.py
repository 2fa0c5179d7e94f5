"""Real servers for the tests that need them: started once, on free ports, in a temporary folder, and ended."""

import secrets
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from deploy.local.stack import Stack
from services.runtime import blobs, bus
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.settings import S3Settings
from tests.env import Env, settings_from


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded servers without any service of ours."""
    with Stack(tmp_path_factory.mktemp("stack"), services=()) as stack:
        yield stack


@pytest.fixture(scope="session")
def infra(servers: Stack) -> Env:
    """Settings that reach the embedded servers."""
    return servers.settings


@pytest.fixture(scope="module")
async def database_url(infra: Env) -> AsyncIterator[str]:
    """A fresh, migrated database for one module of tests, cloned in milliseconds from the one that was provisioned."""
    template = urlsplit(infra["MILLRACE_DATABASE_URL"])
    administration = urlunsplit(template._replace(path="/postgres"))
    name = f"test_{secrets.token_hex(6)}"
    await _execute(administration, f"CREATE DATABASE {name} TEMPLATE {template.path.removeprefix('/')}")
    yield urlunsplit(template._replace(path=f"/{name}"))
    await _execute(administration, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def storage(infra: Env) -> AsyncIterator[Blobs]:
    """Object storage through our own adapter."""
    async with blobs.connected(settings_from(S3Settings, infra)) as connected:
        yield connected


@pytest.fixture(scope="session")
async def broker(infra: Env) -> AsyncIterator[Bus]:
    """The broker through our own adapter."""
    async with bus.connected(infra["MILLRACE_NATS_URL"], "tests") as connected:
        yield connected


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
