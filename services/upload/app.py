"""Wires the upload service together; the only module here that names adapters."""

import asyncio
from datetime import timedelta
from functools import partial

from media.v1 import upload_service_pb2, upload_service_pb2_grpc
from services.runtime import blobs, grpc_client, grpc_server
from services.upload.claims import MediaType
from services.upload.completion import Completion
from services.upload.metadata_client import MetadataRecords
from services.upload.servicer import UploadServicer
from services.upload.sessions import Sessions, Terms
from services.upload.settings import UploadSettings
from services.upload.storage import OriginalsBucket
from services.upload.sweeper import Sweeper

SERVICE_NAME = upload_service_pb2.DESCRIPTOR.services_by_name["UploadService"].full_name


async def serve(stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then drains.

    Raises:
        Unavailable: the address cannot be bound.
    """
    settings = UploadSettings()
    async with (
        grpc_client.channel(settings.metadata_target) as metadata,
        blobs.connected(settings) as storage,
        asyncio.TaskGroup() as group,
    ):
        terms = _terms(settings)
        originals = OriginalsBucket(storage, settings.s3_originals_bucket)
        records = MetadataRecords(metadata)
        completion = Completion(originals, records, terms.max_size_bytes)
        group.create_task(_sweeper(settings, originals, records, completion).run(stop), name="sweeper")
        servicer = UploadServicer(Sessions(originals, records, terms), completion, records)
        add_to = partial(upload_service_pb2_grpc.add_UploadServiceServicer_to_server, servicer)
        async with grpc_server.serving(settings.upload_listen, [(SERVICE_NAME, add_to)]):
            await stop.wait()


def _sweeper(
    settings: UploadSettings, originals: OriginalsBucket, records: MetadataRecords, completion: Completion
) -> Sweeper:
    return Sweeper(
        originals,
        records,
        completion,
        url_ttl=timedelta(seconds=settings.upload_url_ttl_s),
        interval_s=settings.upload_sweep_interval_s,
        orphan_interval_s=settings.upload_orphan_interval_s,
        orphan_age=timedelta(seconds=settings.upload_orphan_age_s),
    )


def _terms(settings: UploadSettings) -> Terms:
    return Terms(
        part_size_bytes=settings.upload_part_size_bytes,
        put_max_bytes=settings.upload_put_max_bytes,
        window_parts=settings.upload_window_parts,
        url_ttl=timedelta(seconds=settings.upload_url_ttl_s),
        session_ttl=timedelta(seconds=settings.upload_session_ttl_s),
        max_size_bytes={
            MediaType.IMAGE: settings.upload_max_image_bytes,
            MediaType.VIDEO: settings.upload_max_video_bytes,
        },
    )
