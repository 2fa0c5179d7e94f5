"""Settings of the gateway."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from services.runtime.settings import NatsSettings, TargetSettings


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

    gateway_max_event_streams: int = Field(2_000, ge=1, le=100_000, description="open event streams of one process")

    @model_validator(mode="after")
    def _has_one_source_of_keys(self) -> Self:
        if bool(self.jwks_url) == bool(self.jwt_public_key_file):
            raise ValueError("set either MILLRACE_JWKS_URL or MILLRACE_JWT_PUBLIC_KEY_FILE")
        return self
