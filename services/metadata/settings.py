"""Settings of the metadata service."""

from pydantic import Field

from services.runtime.settings import DatabaseSettings, NatsSettings


class MetadataSettings(DatabaseSettings, NatsSettings):
    """What the service needs to run; see `services.runtime.settings` for the shared ones."""

    metadata_listen: str = Field("127.0.0.1:7102", description="host:port of the gRPC server; port 0 takes a free one")

    task_max_attempts: int = Field(3, ge=1, le=20, description="attempts at a task before its media fails")
    task_first_backoff_s: float = Field(2.0, gt=0, le=600, description="wait after a task's first fault")
    task_longest_backoff_s: float = Field(60.0, gt=0, le=3_600, description="bound of that wait; it grows fourfold")
    processing_limit_s: float = Field(
        12 * 3_600.0, gt=0, le=30 * 86_400, description="processing, waiting in queues included, fails after this"
    )
    completing_grace_s: float = Field(
        900.0, gt=0, le=86_400, description="time for storage to put the parts together, whatever the upload's expiry"
    )

    quota_bytes: int = Field(
        1_000_000_000_000, ge=0, le=2**61, description="bytes of originals that an owner may have; 0 for any"
    )
    quota_media: int = Field(1_000_000, ge=0, le=2**61, description="media that an owner may have; 0 for any")
    quota_open_uploads: int = Field(
        1_000, ge=0, le=2**61, description="uploads of an owner that may be open at once; 0 for any"
    )

    relay_connections: int = Field(4, ge=1, le=64, description="shards published at once, a database connection each")
    relay_batch: int = Field(256, ge=1, le=1_024, description="messages of one shard published at once")
    relay_poll_s: float = Field(1.0, gt=0, le=60, description="longest time between two looks at the outbox")

    reconciler_interval_s: float = Field(5.0, gt=0, le=3_600, description="time between two passes")
    lease_amnesty_s: float = Field(
        15.0, ge=0, le=600, description="after a start or an outage, leases that ran out may be renewed for so long"
    )
    reconciler_batch: int = Field(500, ge=1, le=10_000, description="rows of each kind in one pass")
    reemit_after_s: float = Field(
        120.0, gt=0, le=86_400, description="a message without effect is sent again after this; doubles each time"
    )
    outbox_keep_s: float = Field(
        7 * 86_400.0, gt=0, le=365 * 86_400, description="published messages are kept so long, for support"
    )
