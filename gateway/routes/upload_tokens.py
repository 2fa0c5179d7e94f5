"""Upload tokens: for whoever uploads with Uppy."""

from typing import Annotated

from fastapi import APIRouter, Body, Response

from gateway import models, upload_tokens
from gateway.dependencies import ThisProcess, WhoAsks
from gateway.routes.documented import problems

router = APIRouter(tags=["uppy"])


@router.post("/v1/upload-tokens", status_code=201, summary="Get an upload token", responses=problems(404, 422))
async def create_upload_token(
    caller: WhoAsks,
    here: ThisProcess,
    response: Response,
    body: Annotated[models.NewUploadToken | None, Body()] = None,
) -> models.UploadToken:
    """A token that uploads as you for some hours, and an `endpoint` for an unmodified Uppy.

    `new Uppy().use(AwsS3, {endpoint})` in version 5, `{companionEndpoint: endpoint}` in version 6. With `cookie`, pages
    of this origin need no token in their endpoint.
    """
    if here.upload_tokens is None:
        raise upload_tokens.disabled()
    token = here.upload_tokens.mint(caller.user_id)
    endpoint = f"{here.addresses.gateway_url}{upload_tokens.COOKIE_PATH}"
    if not (body and body.cookie):
        return models.UploadToken(token=token.text, endpoint=f"{endpoint}/{token.text}", expires_at=token.expires_at)
    response.set_cookie(
        upload_tokens.COOKIE,
        token.text,
        max_age=int(here.upload_tokens.lifetime.total_seconds()),
        path=upload_tokens.COOKIE_PATH,
        secure=here.addresses.gateway_url.startswith("https://"),
        httponly=True,
        samesite="strict",
    )
    return models.UploadToken(token=token.text, endpoint=endpoint, expires_at=token.expires_at)
