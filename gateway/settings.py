"""Settings of the gateway."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, SecretStr, model_validator

from services.runtime.settings import NatsSettings, TargetSettings

UPLOAD_TOKEN_KEY_BYTES: Final = 32
"""RFC 7518 §3.2: a key for HS256 is at least as long as the hash."""

_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.*_-]+(:\d{1,5})?|https?://\[[0-9A-Fa-f:]+\](:\d{1,5})?")


def _origins(text: str) -> str:
    """Origins as headers take them: nothing in them can end a directive or begin another."""
    if wrong := [one for one in text.split() if one != "*" and not _ORIGIN.fullmatch(one)]:
        raise ValueError(f"not an origin (scheme://host or scheme://host:port): {', '.join(wrong)}")
    return " ".join(text.split())


Origins: TypeAlias = Annotated[str, AfterValidator(_origins)]
"""Origins, separated by spaces."""


class GatewaySettings(NatsSettings, TargetSettings):
    """Where the gateway listens, whom it believes, and where its links lead."""

    gateway_listen: str = Field("127.0.0.1:8080", description="host:port")
    gateway_url: str = Field("", description="as clients reach it, for links; empty makes links relative")
    edge_url: str = Field(description="the CDN's base URL; an object's key follows it")
    traces_url: str = Field("", description="a trace's page is this, a slash and the trace id; empty shows no link")

    jwt_issuer: str = Field(min_length=1, description="the `iss` a token must carry")
    jwt_audience: str = Field(min_length=1, description="the `aud` a token must carry")
    jwt_algorithm: Literal["ES256", "RS256", "EdDSA"] = Field("ES256", description="the one algorithm that is taken")
    jwks_url: str = Field("", description="where the issuer publishes its keys")
    jwt_public_key_file: Path | None = Field(None, description="one key in PEM, where there is no JWKS URL")

    upload_origins: Origins = Field(
        "", description="origins that presigned URLs lead to, separated by spaces: our pages may send files there"
    )
    gateway_cors_origins: Origins = Field(
        "*", description="origins whose pages may call the API, separated by spaces; never with cookies"
    )

    upload_token_key: SecretStr = Field(
        SecretStr(""), description="key of upload tokens, at least 32 bytes; empty turns them and Uppy's routes off"
    )
    upload_token_ttl_s: int = Field(43_200, ge=60, le=86_400, description="how long an upload token is good for")

    idempotency_lease_s: int = Field(
        30, ge=30, le=600, description="how long a request with a key may take before a repeat takes its place"
    )
    idempotency_keep_s: int = Field(86_400, ge=60, le=2_592_000, description="how long its answer is kept")

    gateway_beginning_uploads: int = Field(
        32, ge=1, le=10_000, description="uploads that one process begins at once; others wait in order"
    )
    gateway_patience_s: float = Field(
        5.0, ge=0, le=30, description="longest wait for that; beyond it the answer is 503 with Retry-After"
    )
    gateway_max_event_streams: int = Field(2_000, ge=1, le=100_000, description="open event streams of one process")

    @model_validator(mode="after")
    def _has_one_source_of_keys(self) -> Self:
        if bool(self.jwks_url) == bool(self.jwt_public_key_file):
            raise ValueError("set either MILLRACE_JWKS_URL or MILLRACE_JWT_PUBLIC_KEY_FILE")
        return self

    @model_validator(mode="after")
    def _has_a_long_key_or_none(self) -> Self:
        if 0 < len(self.upload_token_key.get_secret_value().encode()) < UPLOAD_TOKEN_KEY_BYTES:
            raise ValueError(f"MILLRACE_UPLOAD_TOKEN_KEY must have {UPLOAD_TOKEN_KEY_BYTES} bytes or more")
        return self
