"""Media: one, and an owner's list."""

from typing import Annotated

from fastapi import APIRouter, Query

from gateway import models, views
from gateway.dependencies import MediaId, ThisProcess, WhoAsks
from gateway.progress import Progress
from gateway.routes.documented import problems
from media.v1 import media_pb2
from media.v1 import metadata_service_pb2 as pb
from services.runtime.grpc_client import call

_STATUSES = {name: value for value, name in views.STATUSES.items()}

router = APIRouter(tags=["media"])


@router.get("/v1/media", summary="List your media", responses=problems(422))
async def list_media(
    caller: WhoAsks,
    here: ThisProcess,
    page_size: Annotated[int, Query(ge=0, description="at most this many; more than 100 is cut to 100")] = 50,
    page_token: Annotated[str, Query(max_length=1_024, description="`next_page_token` of the page before")] = "",
    status: Annotated[models.MediaStatus | None, Query(description="only media in this status")] = None,
) -> models.MediaPage:
    """Newest first. An empty `next_page_token` alone marks the end."""
    page = await call(
        here.clients.metadata.ListMedia,
        pb.ListMediaRequest(
            user_id=caller.user_id,
            page_size=min(page_size, 100),
            page_token=page_token,
            status=_STATUSES[status] if status else media_pb2.MEDIA_STATUS_UNSPECIFIED,
        ),
    )
    return models.MediaPage(
        media=[views.media(one, Progress(), here.addresses) for one in page.media],
        next_page_token=page.next_page_token,
    )


@router.get("/v1/media/{media_id}", summary="Read a media", responses=problems(404, 422))
async def get_media(media_id: MediaId, caller: WhoAsks, here: ThisProcess) -> models.Media:
    """Where it stands; once published, where viewers find it."""
    answer = await call(here.clients.metadata.GetMedia, pb.GetMediaRequest(user_id=caller.user_id, media_id=media_id))
    progress = Progress()
    for announcement in here.feed.latest(media_id):
        progress.hear(announcement)
    return views.media(answer.media, progress, here.addresses)
