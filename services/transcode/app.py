"""Wires the transcode service together and runs it."""

import asyncio
import os
import socket
from functools import partial

import structlog

from media.v1 import transcode_service_pb2
from media.v1.transcode_service_pb2_grpc import add_TranscodeServiceServicer_to_server
from services.runtime import blobs, bus, grpc_client, grpc_server, topology
from services.transcode import isolation
from services.transcode.admission import Admission
from services.transcode.consumer import BusAnnouncer, Consumer
from services.transcode.encoders import resolved
from services.transcode.engine import run as engine
from services.transcode.engine.video import availability
from services.transcode.metadata_client import MetadataClient
from services.transcode.planner import Planner
from services.transcode.servicer import TranscodeServicer
from services.transcode.settings import TranscodeSettings
from services.transcode.slots import Slots
from services.transcode.worker import Worker, WorkerPolicy

_log = structlog.get_logger(__name__)

SERVICE_NAME = transcode_service_pb2.DESCRIPTOR.services_by_name["TranscodeService"].full_name


async def serve(stop: asyncio.Event) -> None:
    """Plans and encodes until `stop` is set; then finishes what is in hand within its grace, or gives it back."""
    settings = TranscodeSettings()
    await isolation.check(engine, settings.probe_limits, is_required=settings.transcode_require_sandbox)
    encoders = await asyncio.to_thread(resolved, settings.transcode_hardware, availability.opens)
    _log.info("encoders_chosen", preferred=dict(encoders.preferred))
    output = settings.output(encoders)
    worker_name = f"{socket.gethostname()}:{os.getpid()}"
    async with (
        grpc_client.channel(settings.metadata_target) as channel,
        blobs.connected(settings) as storage,
        bus.connected(settings.nats_url, f"transcode {worker_name}", replicas=settings.nats_replicas) as broker,
    ):
        metadata = MetadataClient(channel)
        slots = Slots(worker_name, settings.slots)
        admission = Admission(settings.memory_bytes)
        planner = Planner(
            engine=engine,
            storage=storage,
            bucket=settings.s3_originals_bucket,
            plans=metadata,
            limits=settings.probe_limits,
            probe_slots=settings.transcode_planner_slots,
            verification_slots=settings.transcode_verification_slots,
            fleet=settings.fleet,
            admission=admission,
            output=output,
            per_title=settings.transcode_per_title,
        )
        worker = Worker(
            engine=engine,
            storage=storage,
            tasks=metadata,
            announcer=BusAnnouncer(broker),
            slots=slots,
            admission=admission,
            encoders=encoders,
            policy=WorkerPolicy(
                lease=settings.lease,
                ack_wait=min(consumer.ack_wait for consumer in topology.WORKERS.values()),
                limits=settings.limits,
                originals_bucket=settings.s3_originals_bucket,
                delivery_bucket=settings.s3_delivery_bucket,
            ),
        )
        consumer = Consumer(planner, worker)
        servicer = TranscodeServicer(slots, settings.probe_limits, settings.fleet, output)
        add_servicer = partial(add_TranscodeServiceServicer_to_server, servicer)
        consume = partial(broker.consume, stop=stop, drain=settings.grace)
        async with (
            grpc_server.serving(settings.transcode_listen, [(SERVICE_NAME, add_servicer)]),
            asyncio.TaskGroup() as group,
        ):
            if settings.transcode_planner_slots:
                concurrency = settings.transcode_planner_slots + settings.transcode_verification_slots
                group.create_task(consume(topology.PLANNER, consumer.on_uploaded, concurrency=concurrency))
            for lane, concurrency in settings.slots.items():
                group.create_task(consume(topology.WORKERS[lane], consumer.on_task, concurrency=concurrency))
            await stop.wait()
            admission.close()
