"""Wires the manifest service together and runs it."""

import asyncio
from functools import partial

import httpx

from media.v1 import manifest_service_pb2
from media.v1.manifest_service_pb2_grpc import add_ManifestServiceServicer_to_server
from services.manifest.consumer import Consumer
from services.manifest.delivery import DeliveryBucket
from services.manifest.edge import HttpEdge
from services.manifest.metadata_client import MetadataClient
from services.manifest.publisher import Publisher
from services.manifest.servicer import ManifestServicer
from services.manifest.settings import ManifestSettings
from services.runtime import blobs, bus, grpc_client, grpc_server, topology

SERVICE_NAME = manifest_service_pb2.DESCRIPTOR.services_by_name["ManifestService"].full_name


async def serve(stop: asyncio.Event) -> None:
    """Publishes until `stop` is set; then finishes what is in hand."""
    settings = ManifestSettings()
    async with (
        grpc_client.channel(settings.metadata_target) as channel,
        blobs.connected(settings) as storage,
        bus.connected(settings.nats_url, "manifest", replicas=settings.nats_replicas) as broker,
        httpx.AsyncClient(timeout=settings.manifest_warm_request_s) as http,
    ):
        publisher = Publisher(
            publications=MetadataClient(channel),
            delivery=DeliveryBucket(storage, settings.s3_delivery_bucket),
            edge=HttpEdge(
                http,
                settings.edge_url,
                concurrency=settings.manifest_warm_concurrency,
                budget_s=settings.manifest_warm_budget_s,
            ),
        )
        consumer = Consumer(publisher)
        add_servicer = partial(add_ManifestServiceServicer_to_server, ManifestServicer(publisher))
        async with grpc_server.serving(settings.manifest_listen, [(SERVICE_NAME, add_servicer)]):
            await broker.consume(
                topology.PUBLISHER, consumer.on_encoded, concurrency=settings.manifest_slots, stop=stop
            )
