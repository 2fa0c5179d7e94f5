"""The metadata service on real servers, reached through its gRPC door."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import grpc
import pytest
from pydantic import SecretStr

from media.v1.metadata_service_pb2_grpc import add_MetadataServiceServicer_to_server
from services.metadata import app
from services.metadata.settings import MetadataSettings
from services.metadata.store import Store
from services.runtime import database, grpc_client, grpc_server
from services.runtime.database import Database
from tests.env import Env
from tests.integration.metadata.calls import Metadata, Sql


@pytest.fixture(scope="module")
def settings(infra: Env, database_url: str) -> MetadataSettings:
    """Settings with short waits."""
    return MetadataSettings(
        database_url=SecretStr(database_url),
        database_pool_size=20,
        nats_url=infra["MILLRACE_NATS_URL"],
        task_first_backoff_s=0.02,
        relay_poll_s=0.1,
        reemit_after_s=0.05,
    )


@pytest.fixture(scope="module")
async def connected(settings: MetadataSettings) -> AsyncIterator[Database]:
    """A pool of connections to the module's database."""
    async with database.connected(settings) as pool:
        yield pool


@pytest.fixture(scope="module")
def store(connected: Database) -> Store:
    """The store on the module's database."""
    return Store(connected)


@asynccontextmanager
async def serving(settings: MetadataSettings, connected: Database) -> AsyncIterator[Metadata]:
    """Calls to a real server that has neither relay nor reconciler."""
    answers = app.servicer(settings, connected)

    def add_to(server: grpc.aio.Server) -> None:
        add_MetadataServiceServicer_to_server(answers, server)

    async with (
        grpc_server.serving("127.0.0.1:0", [(app.SERVICE_NAME, add_to)]) as address,
        grpc_client.channel(address) as channel,
    ):
        yield Metadata(channel)


@pytest.fixture(scope="module")
async def metadata(settings: MetadataSettings, connected: Database) -> AsyncIterator[Metadata]:
    """Calls to a server with the service's own limits."""
    async with serving(settings, connected) as calls:
        yield calls


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[Sql]:
    """A connection that looks behind the scenes."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def user() -> str:
    """A user that no other test has."""
    return f"user-{secrets.token_hex(6)}"
