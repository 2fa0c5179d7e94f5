"""Health: whether this process lives, and whether it can do its work."""

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel

from gateway.dependencies import ThisProcess

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    """This process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """What this process depends on; all of it must be true."""

    ready: bool
    upload: bool
    metadata: bool
    broker: bool


@router.get("/healthz", summary="Liveness")
async def healthz() -> Liveness:
    """Answers as long as the process lives; restart it when it does not."""
    return Liveness()


@router.get("/readyz", summary="Readiness", responses={503: {"model": Readiness, "description": "not ready"}})
async def readyz(here: ThisProcess, response: Response) -> Readiness:
    """Whether requests can be served; send none while it answers 503."""
    upload, metadata = await asyncio.gather(here.clients.is_serving("upload"), here.clients.is_serving("metadata"))
    broker = here.bus.is_connected
    ready = upload and metadata and broker and not here.stopping.is_set()
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, upload=upload, metadata=metadata, broker=broker)
