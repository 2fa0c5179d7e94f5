"""The publisher's use case: every task is done; write the playlists, make sure of everything, let viewers in.

Each step can be repeated: playlists are rendered from recorded facts alone, written once under their names, and the
flip is a compare-and-set. A crash anywhere is repaired by doing all of it again.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog
from opentelemetry import trace

from services.manifest.playlists import CONTENT_TYPE, Playlist, Playlists, render
from services.manifest.publication import MediaKind, Publication
from services.manifest.verification import ObjectFault, faults
from services.manifest.warming import Warmth, keys_to_warm
from services.runtime import semconv, telemetry
from services.runtime.errors import AlreadyExists, FailedPrecondition, Internal, NotFound, Stale, Unavailable

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("millrace.manifest")


class Publications(Protocol):
    """Where publications are kept. Each call raises Unavailable or DeadlineExceeded when there is no answer."""

    async def get(self, media_id: str, generation: int) -> Publication:
        """What was made of a generation.

        Raises:
            NotFound: no such media.
            Stale: the generation was overtaken, or its media failed.
            FailedPrecondition: tasks remain.
        """
        ...

    async def publish(self, media_id: str, generation: int, s3_manifest_key: str, playlists: Mapping[str, str]) -> None:
        """Lets viewers in, once; a repeat changes nothing.

        Args:
            media_id: the media.
            generation: the generation.
            s3_manifest_key: key of the multivariant playlist; empty for an image.
            playlists: key of each track's playlist, by the track's label.

        Raises:
            Stale: the generation was overtaken, or its media failed.
        """
        ...


class Delivery(Protocol):
    """The delivery bucket."""

    async def sizes(self, prefix: str) -> Mapping[str, int]:
        """Size in bytes of every object below a prefix, by key."""
        ...

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        """Writes an object that is never to change.

        Raises:
            AlreadyExists: the key is taken.
        """
        ...

    async def read(self, key: str) -> bytes:
        """A whole object."""
        ...


class Edge(Protocol):
    """The CDN in front of the delivery bucket."""

    async def warm(self, keys: Sequence[str]) -> Warmth:
        """Makes the edge fetch objects. Best effort within a time of its own; raises nothing."""
        ...


class Publisher:
    """Publishes generations, and answers what became of them."""

    def __init__(self, *, publications: Publications, delivery: Delivery, edge: Edge) -> None:
        self._publications = publications
        self._delivery = delivery
        self._edge = edge

    async def publish(self, media_id: str, generation: int) -> None:
        """Publishes a generation; returns when it is published, or never will be by this message.

        Raises:
            Unavailable, DeadlineExceeded: storage or metadata do not answer, or an object is not there (yet); the
                message shall come again.
            Internal, ValueError: a defect; it comes again until the media's deadline fails it.
        """
        log = _log.bind(media_id=media_id, generation=generation)
        try:
            publication = await self._publications.get(media_id, generation)
            if publication.published:
                log.info("published_before")
                return
            await self._publish(publication)
        except (Stale, FailedPrecondition, NotFound) as error:
            # Overtaken, failed or deleted; or too early, and then the last task's completion announces it again.
            log.info("publication_dropped", reason=error.reason)
        else:
            log.info("media_published", kind=publication.kind.value)

    async def verify(self, media_id: str, generation: int) -> tuple[int, tuple[ObjectFault, ...]]:
        """Compares storage with the record; of a published generation its playlists too.

        Returns:
            How many objects were compared, and what is wrong.

        Raises:
            NotFound, Stale, FailedPrecondition: as `Publications.get`.
        """
        publication = await self._publications.get(media_id, generation)
        recorded = publication.objects
        if publication.published and (playlists := _rendered(publication)):
            recorded |= {playlist.s3_key: len(playlist.data) for playlist in playlists.in_order}
        return len(recorded), faults(recorded, await self._delivery.sizes(f"{publication.delivery_prefix}/"))

    async def warm(self, media_id: str, generation: int) -> Warmth:
        """Warms the edge with a published generation.

        Raises:
            NotFound, Stale: as `Publications.get`.
            FailedPrecondition: it is not published.
        """
        publication = await self._publications.get(media_id, generation)
        if not publication.published:
            raise FailedPrecondition("the media is not published", reason="NOT_PUBLISHED")
        return await self._edge.warm(keys_to_warm(publication, _rendered(publication)))

    async def _publish(self, publication: Publication) -> None:
        links = [link for each in publication.task_traceparents if (link := telemetry.link_from(each))]
        attributes = {
            semconv.MEDIA_ID: publication.media_id,
            semconv.MEDIA_TYPE: publication.kind.value,
            semconv.MEDIA_GENERATION: publication.generation,
            semconv.TASK_COUNT: len(publication.task_traceparents),
        }
        name = f"publish {publication.kind.value}"
        with _tracer.start_as_current_span(name, links=links, attributes=attributes):
            with _tracer.start_as_current_span("render") as span:
                playlists = _rendered(publication)
                span.set_attribute(semconv.PLAYLIST_COUNT, len(playlists.in_order) if playlists else 0)
            await self._make_sure_of(publication)
            if playlists:
                await self._write(playlists)
            await self._warm(publication, playlists)
            await self._publications.publish(
                publication.media_id,
                publication.generation,
                playlists.multivariant.s3_key if playlists else "",
                {label: playlist.s3_key for label, playlist in playlists.media.items()} if playlists else {},
            )

    async def _make_sure_of(self, publication: Publication) -> None:
        with _tracer.start_as_current_span("verify") as span:
            recorded = publication.objects
            wrong = faults(recorded, await self._delivery.sizes(f"{publication.delivery_prefix}/"))
            span.set_attributes({semconv.OBJECT_COUNT: len(recorded), semconv.FAULT_COUNT: len(wrong)})
            if wrong:
                raise Unavailable(
                    f"{len(wrong)} of {len(recorded)} objects are not as recorded",
                    reason="OBJECTS_MISSING",
                    details={"s3_key": wrong[0].s3_key, "fault": wrong[0].fault.value},
                )

    async def _write(self, playlists: Playlists) -> None:
        with _tracer.start_as_current_span("write") as span:
            span.set_attribute(semconv.PLAYLIST_COUNT, len(playlists.in_order))
            for playlist in playlists.in_order:
                await self._write_once(playlist)

    async def _write_once(self, playlist: Playlist) -> None:
        try:
            await self._delivery.write(playlist.s3_key, playlist.data, CONTENT_TYPE)
        except AlreadyExists as error:
            if await self._delivery.read(playlist.s3_key) != playlist.data:
                raise Internal(
                    "another playlist lies under this name",
                    reason="PLAYLIST_DIFFERS",
                    details={"s3_key": playlist.s3_key},
                ) from error

    async def _warm(self, publication: Publication, playlists: Playlists | None) -> None:
        with _tracer.start_as_current_span("warm") as span:
            warmth = await self._edge.warm(keys_to_warm(publication, playlists))
            span.set_attributes(
                {semconv.WARMED_COUNT: warmth.warmed_count, semconv.WARM_FAILED_COUNT: warmth.failed_count}
            )


def _rendered(publication: Publication) -> Playlists | None:
    """A video's playlists; an image has none."""
    return render(publication) if publication.kind is MediaKind.VIDEO else None
