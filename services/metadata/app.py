"""Wires the metadata service: a store on PostgreSQL, the relay and the reconciler beside the gRPC server."""

import asyncio
from datetime import timedelta

import grpc

from media.v1.metadata_service_pb2 import DESCRIPTOR
from media.v1.metadata_service_pb2_grpc import add_MetadataServiceServicer_to_server
from services.metadata.outbox.relay import Relay
from services.metadata.publication import Publications
from services.metadata.quotas import UNLIMITED, Quotas
from services.metadata.reconciler import Reconciler
from services.metadata.records import Amount
from services.metadata.requests import Requests
from services.metadata.servicer import MetadataServicer
from services.metadata.settings import MetadataSettings
from services.metadata.state import RetryPolicy
from services.metadata.store import Store
from services.metadata.sweeps import Sweeps
from services.metadata.tasks import Tasks
from services.metadata.uploads import Uploads
from services.metadata.views import Views
from services.runtime import bus, database, grpc_server
from services.runtime.bus import Bus

SERVICE_NAME = DESCRIPTOR.services_by_name["MetadataService"].full_name

_RECONCILER_CONNECTIONS = 2
"""One holds its lock, one works."""
_LISTENER_CONNECTIONS = 1


async def serve(stop: asyncio.Event) -> None:
    """Serves until `stop` is set; then drains calls, and publishes what they decided."""
    settings = MetadataSettings()
    own_connections = settings.relay_connections + _LISTENER_CONNECTIONS + _RECONCILER_CONNECTIONS
    async with (
        database.connected(settings) as for_calls,
        # A pool of its own, so that a slow broker never keeps calls from the database.
        database.connected(settings.model_copy(update={"database_pool_size": own_connections})) as for_background,
        bus.connected(settings.nats_url, "metadata", replicas=settings.nats_replicas) as broker,
        asyncio.TaskGroup() as group,
    ):
        drained = asyncio.Event()
        store = Store(for_background)
        group.create_task(relay(settings, store, broker).run(drained), name="relay")
        group.create_task(reconciler(settings, store).run(drained), name="reconciler")
        answers = servicer(settings, for_calls)

        def add_to(server: grpc.aio.Server) -> None:
            add_MetadataServiceServicer_to_server(answers, server)

        async with grpc_server.serving(settings.metadata_listen, [(SERVICE_NAME, add_to)]):
            await stop.wait()
        drained.set()


def servicer(settings: MetadataSettings, connected: database.Database) -> MetadataServicer:
    """The rpcs on a database."""
    store = Store(connected)
    limits = _limits(settings)
    return MetadataServicer(
        views=Views(store),
        uploads=Uploads(
            store,
            completing_grace=timedelta(seconds=settings.completing_grace_s),
            processing_limit=timedelta(seconds=settings.processing_limit_s),
            limits=limits,
        ),
        quotas=Quotas(store, limits),
        sweeps=Sweeps(store),
        requests=Requests(store),
        tasks=Tasks(store, retry_policy(settings)),
        publications=Publications(store),
    )


def _limits(settings: MetadataSettings) -> Amount:
    return Amount(
        bytes=settings.quota_bytes or UNLIMITED,
        media=settings.quota_media or UNLIMITED,
        open_uploads=settings.quota_open_uploads or UNLIMITED,
    )


def relay(settings: MetadataSettings, store: Store, broker: Bus) -> Relay:
    """The relay between a store and a broker."""
    return Relay(
        store=store,
        publisher=broker,
        concurrency=settings.relay_connections,
        batch=settings.relay_batch,
        poll_s=settings.relay_poll_s,
        look_again_after=timedelta(seconds=settings.reemit_after_s),
    )


def reconciler(settings: MetadataSettings, store: Store) -> Reconciler:
    """The reconciler of a store."""
    return Reconciler(
        store=store,
        tasks=Tasks(store, retry_policy(settings)),
        interval_s=settings.reconciler_interval_s,
        lease_amnesty_s=settings.lease_amnesty_s,
        batch=settings.reconciler_batch,
        outbox_keep=timedelta(seconds=settings.outbox_keep_s),
    )


def retry_policy(settings: MetadataSettings) -> RetryPolicy:
    """How often tasks are tried."""
    return RetryPolicy(
        max_attempts=settings.task_max_attempts,
        first_backoff=timedelta(seconds=settings.task_first_backoff_s),
        longest_backoff=timedelta(seconds=settings.task_longest_backoff_s),
    )
