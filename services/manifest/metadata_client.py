"""The metadata service as the publisher uses it, over gRPC."""

from collections.abc import Mapping
from fractions import Fraction

import grpc

from media.v1 import media_pb2, metadata_service_pb2
from media.v1.metadata_service_pb2_grpc import MetadataServiceStub
from services.manifest.publication import MediaKind, Publication, Segment, Still, Track
from services.runtime import grpc_client
from services.runtime.errors import Internal

_READ_TIMEOUT_S = 15.0
"""A long video has thousands of segments."""
_KINDS = {media_pb2.MEDIA_TYPE_IMAGE: MediaKind.IMAGE, media_pb2.MEDIA_TYPE_VIDEO: MediaKind.VIDEO}


class MetadataClient:
    """Implements the port `Publications`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = MetadataServiceStub(channel)

    async def get(self, media_id: str, generation: int) -> Publication:
        """See `Publications`."""
        request = metadata_service_pb2.GetPublicationRequest(media_id=media_id, generation=generation)
        answer = await grpc_client.call(self._stub.GetPublication, request, timeout_s=_READ_TIMEOUT_S)
        if (kind := _KINDS.get(answer.type)) is None:
            raise Internal(f"media {media_id} has no type")
        return Publication(
            media_id=media_id,
            generation=generation,
            kind=kind,
            delivery_prefix=answer.delivery_prefix,
            tracks=tuple(track_from_pb(track) for track in answer.tracks),
            stills=tuple(Still(still.thumbnail.s3_key, still.thumbnail.size_bytes) for still in answer.stills),
            published=answer.published,
            task_traceparents=tuple(answer.task_traceparents),
        )

    async def publish(self, media_id: str, generation: int, s3_manifest_key: str, playlists: Mapping[str, str]) -> None:
        """See `Publications`."""
        request = metadata_service_pb2.PublishMediaRequest(
            media_id=media_id,
            generation=generation,
            s3_manifest_key=s3_manifest_key,
            playlists=[
                metadata_service_pb2.PublishedPlaylist(label=label, s3_manifest_key=key)
                for label, key in playlists.items()
            ],
        )
        await grpc_client.call(self._stub.PublishMedia, request)


def track_from_pb(track: media_pb2.Track) -> Track:
    """A track as recorded."""
    rate = track.frame_rate
    return Track(
        label=track.label,
        init_s3_key=track.init_s3_key,
        init_size_bytes=track.init_size_bytes,
        segments=tuple(_segment_from_pb(segment) for segment in track.segments),
        timescale=track.timescale,
        codecs=track.codecs,
        width_px=track.width_px,
        height_px=track.height_px,
        frame_rate=Fraction(rate.numerator, rate.denominator) if rate.denominator else None,
        channels=track.channels,
        average_bps=track.average_bps,
        peak_bps=track.peak_bps,
        language=track.language,
    )


def _segment_from_pb(segment: media_pb2.Segment) -> Segment:
    return Segment(
        s3_key=segment.s3_key,
        size_bytes=segment.size_bytes,
        duration_ticks=segment.duration_ticks,
        key_frame_chunk_bytes=segment.key_frame_chunk_bytes,
    )
