"""Settings of the manifest service, from `MILLRACE_…` variables."""

from pydantic import Field

from services.runtime.settings import NatsSettings, S3Settings, TargetSettings


class ManifestSettings(S3Settings, NatsSettings, TargetSettings):
    """How much is published at once, and how the edge is warmed."""

    manifest_listen: str = "127.0.0.1:7104"
    manifest_slots: int = Field(8, ge=1, le=256, description="media being published at once")
    edge_url: str = Field("http://127.0.0.1:8080", description="the CDN in front of the delivery bucket")
    manifest_warm_concurrency: int = Field(8, ge=1, le=64, description="requests at once while warming one media")
    manifest_warm_budget_s: float = Field(
        10.0, ge=0.1, le=30.0, description="publishing waits this long for it at most"
    )
    manifest_warm_request_s: float = Field(5.0, ge=0.1, le=30.0, description="for one answer of the edge")
