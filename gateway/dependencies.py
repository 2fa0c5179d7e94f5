"""What routes ask for by type: the parts of this process, and who asks."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, TypeAlias
from uuid import uuid4

from fastapi import Depends, Header, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from opentelemetry import trace

from gateway import models
from gateway.auth import Authenticator, Caller
from gateway.clients import Clients
from gateway.feed import Feed
from gateway.views import Addresses
from services.runtime import ids, semconv
from services.runtime.bus import Bus

_MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a route may need; made once in `app`.

    Attributes:
        stopping: set when the process is about to end, so that streams end too.
    """

    clients: Clients
    bus: Bus
    feed: Feed
    authenticator: Authenticator
    addresses: Addresses
    stopping: asyncio.Event


def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A JWT of the configured issuer.")


async def _caller(
    parts: Annotated[Parts, Depends(_parts)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    caller = await parts.authenticator.caller(credentials.credentials if credentials else None)
    trace.get_current_span().set_attribute(semconv.USER_ID, caller.user_id)
    return caller


def _media_id(
    caller: Annotated[Caller, Depends(_caller)],  # so that strangers hear 401 whatever the identifier looks like
    media_id: Annotated[str, Path(description="UUIDv7 of the media", examples=[models.EXAMPLE_ID])],
) -> str:
    parsed = str(ids.parse_media_id(media_id))
    trace.get_current_span().set_attribute(semconv.MEDIA_ID, parsed)
    return parsed


def _request_id(
    idempotency_key: Annotated[
        str,
        Header(
            max_length=_MAX_KEY_CHARS,
            pattern=r"^[\x21-\x7e]*$",
            description="A key of your choice, best a UUID: a repeat within a day answers with the first upload. "
            "Without one every request is a new upload.",
        ),
    ] = "",
) -> str:
    """The key; the IETF draft writes it as a structured string, in quotes, and many clients without.

    Where there is none it is one of our own, so that calls which are tried again behind the gateway make one upload.
    """
    return idempotency_key.strip('"') or uuid4().hex


ThisProcess: TypeAlias = Annotated[Parts, Depends(_parts)]
WhoAsks: TypeAlias = Annotated[Caller, Depends(_caller)]
MediaId: TypeAlias = Annotated[str, Depends(_media_id)]
RequestId: TypeAlias = Annotated[str, Depends(_request_id)]
