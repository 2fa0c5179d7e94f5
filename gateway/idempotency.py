"""Requests with an Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header-07): done once, answered alike.

The metadata service keeps the keys. The first request with one is carried out under an `operation_id`, by which
everything behind the gateway recognises a repeat, and its answer is kept. Whoever repeats it gets that answer, byte for
byte; while it is under way a repeat is refused, and so is another request under the same key at any time.

Only successes are kept. After a refusal the key is free. After an outage nobody knows what took effect: the key stays
bound to its request, and a repeat is carried out under the same `operation_id`. A gateway that dies in between is
covered by a lease.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import uuid4

import structlog
from fastapi import Response
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel

from media.v1 import metadata_service_pb2 as pb
from services.runtime import errors
from services.runtime.grpc_client import call

if TYPE_CHECKING:
    from media.v1.metadata_service_pb2_grpc import MetadataServiceAsyncStub

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"

_KEY: Final = re.compile(r'[!#-\[\]-~]{1,255}|"[!#-\[\]-~]{1,255}"')
"""Visible ASCII but for the quote and the backslash, which would read differently with quotes around and without."""

_END_TIMEOUT_S: Final = 2.0
_REFUSALS: Final = (
    errors.InvalidArgument,
    errors.Unauthenticated,
    errors.NotFound,
    errors.FailedPrecondition,
    errors.Stale,
    errors.AlreadyExists,
    errors.ResourceExhausted,
)
"""Errors that settle the request: whoever repeats it may as well have it carried out anew, under another identifier."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """How keys are held.

    Attributes:
        lease: how long the first request may take before a repeat takes its place.
        keep: how long an answer is kept.
    """

    lease: timedelta
    keep: timedelta


@dataclass(frozen=True, slots=True)
class Answer:
    """A success over HTTP as it can be kept: JSON, and the headers that belong to it."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(cls, status: int, model: BaseModel, headers: Mapping[str, str]) -> "Answer":
        """The answer that a model makes."""
        return cls(status, model.model_dump_json().encode(), headers)

    def response(self) -> Response:
        """As it goes out."""
        return Response(self.body, self.status, dict(self.headers), media_type="application/json")


Work: TypeAlias = Callable[[str], Awaitable[Answer]]
"""Carries a request out under an identifier by which repeats of it are recognised."""


class KeyedRequest:
    """One request of one user, with a key or without."""

    def __init__(
        self, metadata: "MetadataServiceAsyncStub", terms: Terms, *, user_id: str, key: str | None, fingerprint: bytes
    ) -> None:
        """Describes the request.

        Args:
            metadata: who keeps the keys.
            terms: how they are held.
            user_id: who asks; keys of different users have nothing to do with each other.
            key: as `parse_key` gives it; None for a request of its own.
            fingerprint: of the request; see `fingerprint`.
        """
        self.user_id = user_id
        self._metadata = metadata
        self._terms = terms
        self._key = key
        self._fingerprint = fingerprint

    async def answer(self, work: Work) -> Response:
        """The kept answer, or what carrying the request out now gives.

        Raises:
            InvalidArgument: the key belongs to another request.
            FailedPrecondition: the first request with this key is under way.
            MillraceError: as `work` raises it.
        """
        if self._key is None:
            return (await work(uuid4().hex)).response()
        claim_id = str(uuid4())
        begun = await self._begin(self._key, claim_id)
        if begun.HasField("answer"):
            return _replayed(begun.answer)
        try:
            answer = await work(begun.operation_id)
        except BaseException as error:  # a cancellation too: the key must not wait for the end of its lease
            unknown = not isinstance(error, _REFUSALS)
            ended = pb.EndRequestRequest(outcome_unknown=unknown)
            await self._end(self._key, begun.operation_id, claim_id, ended)
            raise
        kept = pb.StoredAnswer(status=answer.status, headers=answer.headers, body=answer.body)
        await self._end(self._key, begun.operation_id, claim_id, pb.EndRequestRequest(answer=kept))
        return answer.response()

    async def _begin(self, key: str, claim_id: str) -> pb.BeginRequestResponse:
        return await call(
            self._metadata.BeginRequest,
            pb.BeginRequestRequest(
                user_id=self.user_id,
                idempotency_key=key,
                fingerprint=self._fingerprint,
                lease=_duration(self._terms.lease),
                keep=_duration(self._terms.keep),
                claim_id=claim_id,
            ),
        )

    async def _end(self, key: str, operation_id: str, claim_id: str, request: pb.EndRequestRequest) -> None:
        """Says what came of it; where that fails, the lease runs out and a repeat is carried out anew, harmlessly."""
        request.user_id, request.idempotency_key = self.user_id, key
        request.operation_id, request.claim_id = operation_id, claim_id

        async def say() -> None:
            try:
                await call(self._metadata.EndRequest, request, timeout_s=_END_TIMEOUT_S)
            except errors.MillraceError as error:
                _log.warning("idempotency_key_not_ended", reason=error.reason, error=error.message)

        await asyncio.shield(say())


def parse_key(values: list[str]) -> str | None:
    """The key that a request carries; None where it carries none.

    The draft writes it as a structured string, in quotes, and many clients without: both name the same key.

    Args:
        values: of all headers of that name.

    Raises:
        InvalidArgument: more than one, or none of 1 to 255 characters.
    """
    if not values:
        return None
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        raise errors.InvalidArgument(
            "the Idempotency-Key has 1 to 255 visible ASCII characters other than quotes and backslashes",
            reason="IDEMPOTENCY_KEY_INVALID",
            details={"field": KEY_HEADER},
        )
    return values[0].strip('"')


def fingerprint(method: str, path: str, body: bytes) -> bytes:
    """What tells one request from another under the same key: SHA-256 of method, path and body as received."""
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(), body))).digest()


def _replayed(answer: pb.StoredAnswer) -> Response:
    headers = {**answer.headers, REPLAYED_HEADER: "true"}
    return Answer(answer.status, answer.body, headers).response()


def _duration(delta: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration
