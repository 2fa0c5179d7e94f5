"""The gateway's application with hand-written services behind it, for what needs no server."""

import asyncio
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from gateway import app, auth
from gateway.admission import Admission
from gateway.auth import Authenticator
from gateway.clients import Clients
from gateway.dependencies import Parts
from gateway.feed import Feed
from gateway.idempotency import Terms
from gateway.upload_tokens import UploadTokens
from gateway.views import Addresses
from services.runtime.bus import Bus

KEY = ec.generate_private_key(ec.SECP256R1())
TERMS = Terms(lease=timedelta(seconds=60), keep=timedelta(days=1))
TOKENS = UploadTokens(SecretStr("k" * 32), timedelta(hours=12))


@dataclass
class Answers:
    """Stands in for a stub: each rpc answers what is put here, awaited or not, and remembers what it was asked."""

    by_rpc: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)

    def __getattr__(self, rpc: str) -> Callable[..., Any]:
        async def method(request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109 as gRPC names it
            self.asked.append(request)
            answer = self.by_rpc[rpc](request)
            return await answer if inspect.isawaitable(answer) else answer

        return method


@dataclass
class FakeBus:
    """A broker's connection, as readiness sees it."""

    is_connected: bool = True


def parts(
    *,
    upload: Answers | None = None,
    metadata: Answers | None = None,
    channels: dict[str, Any] | None = None,
    feed: Feed | None = None,
    is_connected: bool = True,
    has_upload_tokens: bool = True,
) -> Parts:
    """The parts of a gateway, with these services behind it."""
    pem = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    clients = Clients(
        upload=cast(Any, upload or Answers()), metadata=cast(Any, metadata or Answers()), channels=channels or {}
    )
    return Parts(
        clients=clients,
        bus=cast(Bus, FakeBus(is_connected)),
        feed=feed or Feed(max_watchers=10),
        authenticator=Authenticator(auth.from_key(pem), algorithm="ES256", issuer="issuer", audience="millrace"),
        addresses=Addresses("https://gateway.example", "https://edge.example", "https://traces.example/traces"),
        stopping=asyncio.Event(),
        idempotency_terms=TERMS,
        upload_tokens=TOKENS if has_upload_tokens else None,
        admission=Admission(100, 1.0),
    )


def client_of(made: Parts, user: str = "alice", **options: str) -> httpx.AsyncClient:
    """A client of an application with these parts and options, with a token of this user."""
    now_s = int(time.time())
    payload = {"sub": user, "iss": "issuer", "aud": "millrace", "iat": now_s, "exp": now_s + 600}
    token = jwt.encode(payload, KEY, algorithm="ES256")
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app.application(made, **options), raise_app_exceptions=False),
        base_url="https://gateway.example",
        headers={"Authorization": f"Bearer {token}"},
    )
