"""Makes what Millrace expects to find in object storage, database and broker: ``python -m deploy.provision``.

Everything here may be run again at any time, on the embedded stack or on servers of one's own: what exists is
left as it is or brought up to date, and nothing is ever deleted.

- object storage: the originals bucket (private, CORS for uploads from browsers, forgotten multipart uploads
  aborted) and the delivery bucket (read by the edge alone)
- database: migrations
- broker: JetStream streams
"""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.metadata import migrations
from services.runtime import topology

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STALE_UPLOAD_DAYS = 8
"""A day more than the settings allow an upload to stay open; a backstop, since the sweeper comes first (R16)."""


class ProvisionSettings(BaseSettings):
    """Where to provision, from ``MILLRACE_…`` variables."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True)

    s3_endpoint_url: str | None = Field(None, description="None: Amazon's own endpoint")
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = Field(None, description="None: boto3's own search for credentials")
    s3_secret_access_key: SecretStr | None = None
    s3_originals_bucket: str = "originals"
    s3_delivery_bucket: str = "delivery"
    s3_cors_origins: str = Field(
        "*",
        description="Origins whose pages may PUT and POST, separated by spaces. An upload needs a presigned URL and no "
        "cookie, so any origin is safe; name yours to keep other sites from using leaked URLs in a browser.",
    )
    edge_origin_secret: SecretStr | None = Field(
        None,
        description="What the edge sends as Referer to be let in; None: a CDN with access of its own reads the "
        "delivery bucket, and its policy is left alone",
    )
    database_url: SecretStr
    nats_url: SecretStr
    nats_replicas: int = Field(1, ge=1, le=5, description="Copies of each stream; 3 on a cluster")


def provision(settings: ProvisionSettings) -> None:
    """Bring all three up to date; returns when they are.

    Raises:
        ClientError, BotoCoreError: object storage refused or could not be reached.
        Exception: whatever the migrations or the broker raise.
    """
    provision_object_storage(settings)
    migrations.apply(settings.database_url.get_secret_value())
    _ensure_streams(settings.nats_url.get_secret_value(), settings.nats_replicas)


def provision_object_storage(settings: ProvisionSettings) -> None:
    """Buckets, CORS, lifecycle and policy."""
    secret = settings.s3_secret_access_key
    s3 = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"max_attempts": 5, "mode": "standard"},
            s3={"addressing_style": "path"} if settings.s3_endpoint_url else {},
        ),
    )
    try:
        for bucket in (settings.s3_originals_bucket, settings.s3_delivery_bucket):
            _ensure_bucket(s3, bucket, settings.s3_region)
        _allow_uploads_from_browsers(s3, settings.s3_originals_bucket, settings.s3_cors_origins.split())
        _abort_stale_uploads(s3, settings.s3_originals_bucket)
        if settings.edge_origin_secret:
            _let_the_edge_read(s3, settings.s3_delivery_bucket, settings.edge_origin_secret)
    finally:
        s3.close()


def _ensure_bucket(s3: "S3Client", bucket: str, region: str) -> None:
    try:
        s3.head_bucket(Bucket=bucket)
        return
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    try:
        if region == "us-east-1":  # the one region that must not be named
            s3.create_bucket(Bucket=bucket)
        else:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})  # type: ignore[typeddict-item]
    except s3.exceptions.BucketAlreadyOwnedByYou:
        pass


def _allow_uploads_from_browsers(s3: "S3Client", bucket: str, origins: list[str]) -> None:
    s3.put_bucket_cors(
        Bucket=bucket,
        CORSConfiguration={
            "CORSRules": [
                {
                    # PUT for parts and whole files, POST for the forms of upload widgets.
                    "AllowedMethods": ["PUT", "POST"],
                    "AllowedOrigins": origins,
                    "AllowedHeaders": ["*"],
                    # A client needs the ETag to complete a multipart upload; Uppy reads Location as well.
                    "ExposeHeaders": ["ETag", "Location"],
                    "MaxAgeSeconds": 3600,
                }
            ]
        },
    )


def _abort_stale_uploads(s3: "S3Client", bucket: str) -> None:
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "abort-stale-uploads",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": STALE_UPLOAD_DAYS},
                }
            ]
        },
    )


def _let_the_edge_read(s3: "S3Client", bucket: str, secret: SecretStr) -> None:
    """Anonymous GetObject, and nothing else, for whoever knows the secret.

    The secret travels as the Referer header because bucket policies can compare that one
    (``aws:Referer``, a global condition key). Fit for an edge beside its storage, not across the internet.
    """
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "ReadByTheEdge",
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["s3:GetObject"],
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
                "Condition": {"StringEquals": {"aws:Referer": secret.get_secret_value()}},
            }
        ],
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def _ensure_streams(nats_url: str, replicas: int) -> None:
    # In a thread of its own, so that callers inside an event loop (tests) may provision as well.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(lambda: asyncio.run(topology.ensure_streams(nats_url, replicas=replicas))).result()


def main() -> int:
    """Provision what the environment names; 1 when that fails."""
    try:
        provision(ProvisionSettings())
    except ValidationError as error:
        print(f"settings are missing or wrong:\n{error}", file=sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        print(f"object storage refused: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
