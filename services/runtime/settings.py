"""Settings that several services share; each service composes what it needs in its own `settings` module.

Values come from environment variables with the prefix `MILLRACE_`; they are read once, in a service's `app`.
"""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Base of all settings: frozen, from `MILLRACE_…` variables."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True, extra="ignore")


class TelemetrySettings(Settings):
    """Where spans go, and what is logged."""

    otlp_endpoint: str = Field("", description="OTLP/gRPC collector, http://host:port; empty exports nothing")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    trace_sample_ratio: float = Field(1.0, ge=0.0, le=1.0, description="share of new traces that is recorded")


class S3Settings(Settings):
    """Object storage."""

    s3_endpoint_url: str = Field("", description="http(s)://host:port; empty means AWS")
    s3_public_endpoint_url: str = Field("", description="as clients reach it; empty means the same")
    s3_region: str = "us-east-1"
    s3_access_key_id: str = ""
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_originals_bucket: str = "originals"
    s3_delivery_bucket: str = "delivery"
    s3_max_connections: int = Field(32, ge=1, le=512, description="connections and threads of one process")


class NatsSettings(Settings):
    """The broker."""

    nats_url: str = Field("nats://127.0.0.1:4222", description="one or more URLs, separated by commas")
    nats_replicas: int = Field(1, ge=1, le=5, description="copies of each stream; 3 on a cluster")


class DatabaseSettings(Settings):
    """PostgreSQL."""

    database_url: SecretStr = SecretStr("postgresql://127.0.0.1:5432/millrace")
    database_pool_size: int = Field(10, ge=1, le=200, description="connections of one process")
    database_statement_timeout_ms: int = Field(5_000, ge=100, le=60_000)


class TargetSettings(Settings):
    """Where the services answer, as gRPC clients dial them."""

    upload_target: str = "127.0.0.1:7101"
    metadata_target: str = "127.0.0.1:7102"
    transcode_target: str = "127.0.0.1:7103"
    manifest_target: str = "127.0.0.1:7104"
