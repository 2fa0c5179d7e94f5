"""From the services' messages to the JSON that clients see."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from google.protobuf.timestamp_pb2 import Timestamp

from gateway import models
from gateway.progress import PlannedTask, Progress
from media.v1 import media_pb2, metadata_service_pb2, upload_service_pb2

STATUSES: Final[dict[media_pb2.MediaStatus.ValueType, models.MediaStatus]] = {
    media_pb2.MEDIA_STATUS_UPLOADING: "uploading",
    media_pb2.MEDIA_STATUS_PROCESSING: "processing",
    media_pb2.MEDIA_STATUS_PUBLISHED: "published",
    media_pb2.MEDIA_STATUS_FAILED: "failed",
}
FINAL: Final[frozenset[models.MediaStatus]] = frozenset({"published", "failed"})
_TYPES: Final[dict[media_pb2.MediaType.ValueType, Literal["image", "video"]]] = {
    media_pb2.MEDIA_TYPE_IMAGE: "image",
    media_pb2.MEDIA_TYPE_VIDEO: "video",
}
KINDS: Final[dict[media_pb2.UploadKind.ValueType, models.UploadKind]] = {
    media_pb2.UPLOAD_KIND_UNSPECIFIED: "multipart",  # of an upload service that knows no other yet
    media_pb2.UPLOAD_KIND_MULTIPART: "multipart",
    media_pb2.UPLOAD_KIND_PUT: "put",
    media_pb2.UPLOAD_KIND_FORM: "form",
}
_ALGORITHMS: Final[dict[media_pb2.ChecksumAlgorithm.ValueType, models.ChecksumAlgorithm]] = {
    media_pb2.CHECKSUM_ALGORITHM_CRC32C: "CRC32C",
    media_pb2.CHECKSUM_ALGORITHM_SHA256: "SHA256",
}
_ALGORITHMS_BY_NAME: Final = {name: value for value, name in _ALGORITHMS.items()}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where links lead; base URLs without a trailing slash.

    Attributes:
        gateway_url: of this gateway; empty makes links relative.
        edge_url: of the CDN.
        traces_url: of the page of traces; empty where there is none.
    """

    gateway_url: str
    edge_url: str
    traces_url: str

    def media_path(self, media_id: str) -> str:
        """The path of a media, for `Location`."""
        return f"/v1/media/{media_id}"

    def at_edge(self, s3_key: str) -> str:
        """The URL under which viewers get an object of the delivery bucket."""
        return f"{self.edge_url}/{s3_key}"

    def links(self, media_id: str, trace_id: str) -> models.Links:
        """Where to go from a media."""
        path = self.media_path(media_id)
        return models.Links(
            self=f"{self.gateway_url}{path}",
            events=f"{self.gateway_url}{path}/events",
            watch=f"{self.gateway_url}/watch/{media_id}",
            trace=f"{self.traces_url}/{trace_id}" if self.traces_url and trace_id else None,
        )


def media(message: media_pb2.Media, progress: Progress, addresses: Addresses) -> models.Media:
    """A media; `progress` takes over what the message says of its tasks."""
    status = STATUSES[message.status]
    progress.plan(planned(message))
    return models.Media(
        media_id=message.media_id,
        type=_TYPES[message.type],
        status=status,
        filename=message.filename,
        content_type=message.content_type,
        size_bytes=message.size_bytes,
        checksum=_checksum(message),
        created_at=time(message.created_at),
        updated_at=time(message.updated_at),
        published_at=time(message.published_at) if message.HasField("published_at") else None,
        progress=1.0 if status == "published" else round(progress.fraction, 4),
        failure=_failure(message.failure) if status == "failed" else None,
        playback=_playback(message, addresses) if status == "published" else None,
        trace_id=message.trace_id,
        links=addresses.links(message.media_id, message.trace_id),
    )


def planned(message: media_pb2.Media) -> list[PlannedTask]:
    """The tasks of a media, in plan order."""
    return [PlannedTask(task.task_id, task.label, task.done, task.cost_share) for task in message.tasks]


def presigned_parts(parts: Iterable[upload_service_pb2.PresignedPart]) -> list[models.PresignedPart]:
    """Signed parts."""
    return [
        models.PresignedPart(
            part_number=part.part_number, url=part.url, size_bytes=part.size_bytes, headers=dict(part.headers)
        )
        for part in parts
    ]


def uploaded_parts(parts: Iterable[upload_service_pb2.UploadedPart]) -> list[models.UploadedPart]:
    """Parts that storage holds."""
    return [
        models.UploadedPart(part_number=part.part_number, etag=part.etag, size_bytes=part.size_bytes) for part in parts
    ]


def initiated_upload(message: upload_service_pb2.InitiateUploadResponse) -> models.InitiatedUpload:
    """An upload that has begun."""
    return models.InitiatedUpload(
        media_id=message.media_id,
        upload_id=message.upload_id,
        kind=KINDS[message.kind],
        part_size_bytes=message.part_size_bytes,
        part_count=message.part_count,
        parts=presigned_parts(message.parts),
        expires_at=time(message.expires_at),
    )


def quota(message: metadata_service_pb2.GetQuotaResponse) -> models.Quota:
    """What an owner uses of their quota; 0 stands for no limit in the message."""
    return models.Quota(
        used_bytes=message.used_bytes,
        limit_bytes=message.limit_bytes or None,
        media_count=message.media_count,
        media_limit=message.media_limit or None,
        open_upload_count=message.open_upload_count,
        open_upload_limit=message.open_upload_limit or None,
    )


def checksum_algorithm(name: models.ChecksumAlgorithm | None) -> media_pb2.ChecksumAlgorithm.ValueType:
    """The message's value for a name; unspecified for none."""
    return _ALGORITHMS_BY_NAME[name] if name else media_pb2.CHECKSUM_ALGORITHM_UNSPECIFIED


def time(timestamp: Timestamp) -> datetime:
    """A moment, in UTC."""
    return timestamp.ToDatetime(UTC)


def _checksum(message: media_pb2.Media) -> models.VerifiedChecksum | None:
    if not message.checksum:
        return None
    return models.VerifiedChecksum(algorithm=_ALGORITHMS[message.checksum_algorithm], value=message.checksum)


def _failure(message: media_pb2.Failure) -> models.Failure:
    return models.Failure(reason=message.reason or "unknown", message=message.message)


def _playback(message: media_pb2.Media, addresses: Addresses) -> models.Playback:
    return models.Playback(
        manifest_url=addresses.at_edge(message.s3_manifest_key) if message.s3_manifest_key else None,
        renditions=[_rendition(one, addresses) for one in message.renditions],
        thumbnails=[
            models.Thumbnail(
                size_px=one.size_px,
                url=addresses.at_edge(one.s3_key),
                width_px=one.width_px,
                height_px=one.height_px,
                content_type=one.content_type,
                size_bytes=one.size_bytes,
            )
            for one in message.thumbnails
        ],
        thumbhash=_thumbhash(message),
    )


def _thumbhash(message: media_pb2.Media) -> str | None:
    found = next((one.thumbhash for one in message.thumbnails if one.thumbhash), b"")
    return base64.b64encode(found).decode() or None


def _rendition(one: media_pb2.Rendition, addresses: Addresses) -> models.Rendition:
    rate = one.frame_rate
    return models.Rendition(
        rendition_id=one.rendition_id,
        resolution=one.resolution,
        width_px=one.width_px,
        height_px=one.height_px,
        frame_rate=round(rate.numerator / rate.denominator, 3) if rate.denominator else None,
        duration_secs=round(one.duration_secs, 3),
        bitrate_kbps=one.bitrate_kbps,
        peak_bitrate_kbps=one.peak_bitrate_kbps,
        codecs=one.codecs,
        manifest_url=addresses.at_edge(one.s3_manifest_key),
    )
