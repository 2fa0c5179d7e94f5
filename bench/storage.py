"""What a benchmark leaves behind at storage, taken away between rounds so that no side pays for the other's litter."""

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import urlsplit

import boto3
import httpx
from botocore.config import Config

from bench.journeys import Begun
from bench.wire import Connection, Server, request
from deploy.local.home import Home
from deploy.local.stack import Stack
from services.runtime.presign import Credentials, Presigner

_CONNECTIONS = 8


class Storage:
    """The embedded SeaweedFS of a stack."""

    def __init__(self, stack: Stack) -> None:
        settings = stack.settings
        self.endpoint_url = settings["MILLRACE_S3_ENDPOINT_URL"]
        self.region = settings["MILLRACE_S3_REGION"]
        self.access_key_id = settings["MILLRACE_S3_ACCESS_KEY_ID"]
        self.secret_access_key = settings["MILLRACE_S3_SECRET_ACCESS_KEY"]
        self.bucket = settings["MILLRACE_S3_ORIGINALS_BUCKET"]
        self._master_port = Home.at(stack.directory).ledger.port("seaweedfs.master")

    def abort(self, begun: Iterable[Begun]) -> None:
        """Gives multipart uploads up, whoever began them."""
        server = Server.of(self.endpoint_url)
        presigner = Presigner(
            endpoint_url=self.endpoint_url,
            region=self.region,
            credentials=lambda: Credentials(self.access_key_id, self.secret_access_key),
        )
        waiting = iter([one for one in begun if one.upload_id])

        async def worker() -> None:
            connection = Connection(server)
            for one in waiting:
                url = presigner.sign(
                    "DELETE",
                    self.bucket,
                    one.key,
                    query={"uploadId": one.upload_id},
                    headers={},
                    expires_in=timedelta(minutes=5),
                )
                parts = urlsplit(url)
                answer = await connection.exchange(request("DELETE", f"{parts.path}?{parts.query}", server))
                assert answer.status in {204, 404}, answer.body
            connection.close()

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(_CONNECTIONS):
                    group.create_task(worker())

        asyncio.run(all_of_them())

    def empty(self) -> None:
        """Deletes every original, and has the space given back at once rather than at some time during a round."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for entry in page.get("Contents", []):
                client.delete_object(Bucket=self.bucket, Key=entry["Key"])
        # The volumes learn of deleted chunks a moment later.
        time.sleep(1)
        url = f"http://127.0.0.1:{self._master_port}/vol/vacuum"
        httpx.get(url, params={"garbageThreshold": "0.01"}, timeout=60, trust_env=False).raise_for_status()


def put(begun: Begun, body: bytes) -> None:
    """Sends the first part of an upload, to see that its URL is good.

    Raises:
        httpx.HTTPStatusError: storage refuses it.
    """
    httpx.put(begun.url, content=body, headers=dict(begun.headers), timeout=30, trust_env=False).raise_for_status()
