"""What routes ask for by type: the parts of this process, and who asks."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import Depends, Header, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from opentelemetry import trace

from gateway import idempotency, models
from gateway.admission import Admission
from gateway.auth import Authenticator, Caller
from gateway.clients import Clients
from gateway.feed import Feed
from gateway.idempotency import KeyedRequest
from gateway.upload_tokens import UploadTokens
from gateway.views import Addresses
from services.runtime import ids, semconv
from services.runtime.bus import Bus


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a route may need; made once in `app`.

    Attributes:
        stopping: set when the process is about to end, so that streams end too.
        idempotency_terms: how idempotency keys are held.
        upload_tokens: None where the operator has set no key for them.
        admission: what bounds uploads that are just beginning.
    """

    clients: Clients
    bus: Bus
    feed: Feed
    authenticator: Authenticator
    addresses: Addresses
    stopping: asyncio.Event
    idempotency_terms: idempotency.Terms
    upload_tokens: UploadTokens | None
    admission: Admission


def parts_of(request: Request) -> Parts:
    """The parts of the process that handles a request."""
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


# None of these blocks, and all are coroutines: FastAPI would send plain functions through a thread. It also solves what
# a dependency itself depends on anew for each use, so they take the request where another one is not documented by it.
async def _parts(request: Request) -> Parts:
    return parts_of(request)


bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A JWT of the configured issuer.")


async def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Caller:
    token = credentials.credentials if credentials else None
    return identified(await parts_of(request).authenticator.caller(token))


def identified(caller: Caller) -> Caller:
    """A caller, told to the trace."""
    trace.get_current_span().set_attribute(semconv.USER_ID, caller.user_id)
    return caller


async def _media_id(
    caller: Annotated[Caller, Depends(_caller)],  # so that strangers hear 401 whatever the identifier looks like
    media_id: Annotated[str, Path(description="UUIDv7 of the media", examples=[models.EXAMPLE_ID])],
) -> str:
    parsed = str(ids.parse_media_id(media_id))
    trace.get_current_span().set_attribute(semconv.MEDIA_ID, parsed)
    return parsed


async def _keyed_request(
    request: Request,
    caller: Annotated[Caller, Depends(_caller)],
    _documented: Annotated[
        str | None,
        Header(
            alias=idempotency.KEY_HEADER,
            description="A key of your choice, best a UUID: for a day a repeat of the same request is answered as the "
            "first was, with `Idempotency-Replayed: true`. 1 to 255 visible ASCII characters; quotes around them do "
            "not count. Without one every request stands for itself.",
        ),
    ] = None,
) -> KeyedRequest:
    parts = parts_of(request)
    body = await request.body()  # read by then, and kept by the request
    return KeyedRequest(
        parts.clients.metadata,
        parts.idempotency_terms,
        user_id=caller.user_id,
        key=idempotency.parse_key(request.headers.getlist(idempotency.KEY_HEADER)),
        fingerprint=idempotency.fingerprint(request.method, request.url.path, body),
    )


ThisProcess: TypeAlias = Annotated[Parts, Depends(_parts)]
WhoAsks: TypeAlias = Annotated[Caller, Depends(_caller)]
MediaId: TypeAlias = Annotated[str, Depends(_media_id)]
OnceByKey: TypeAlias = Annotated[KeyedRequest, Depends(_keyed_request)]
