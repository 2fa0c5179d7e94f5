"""Quotas: what an owner uses, and may use."""

from fastapi import APIRouter

from gateway import models, views
from gateway.dependencies import ThisProcess, WhoAsks
from gateway.routes.documented import problems
from media.v1 import metadata_service_pb2 as pb
from services.runtime.grpc_client import call

router = APIRouter(tags=["uploads"])


@router.get("/v1/quota", summary="Read your quota", responses=problems())
async def get_quota(caller: WhoAsks, here: ThisProcess) -> models.Quota:
    """What your uploads use of what you may use. Failed media use nothing."""
    return views.quota(await call(here.clients.metadata.GetQuota, pb.GetQuotaRequest(user_id=caller.user_id)))
