"""Object storage over the S3 protocol.

Permissions: on the originals bucket s3:PutObject, GetObject, DeleteObject, ListMultipartUploadParts,
AbortMultipartUpload, ListBucketMultipartUploads, and ListBucket, without which a HEAD of what is not there answers 403;
on the delivery bucket s3:PutObject, GetObject, ListBucket.

Layout: `originals/<shard>/<media_id>/original`, and beside it `incoming`, where a browser's form puts its file;
`delivery/<shard>/<media_id>/<generation>/<token>/…`, each key of which is written once and never again.

Caveats of stores that were met: after a part is sent again, SeaweedFS lists it twice (the latest counts); a
CompleteMultipartUpload may answer 200 with an error inside (botocore raises it as an error); a repeat of it may answer
200 again or NoSuchUpload, so that only a HEAD of the object tells; ListParts does not tell checksums. A checksum of
the whole object is kept where parts are joined for CRC-32C; joined SHA-256 wants every part's checksum said again.
SeaweedFS lists multipart uploads by identifier rather than by key, up to ten thousand at a time where no size of a
page is asked for, and tells no key to go on from: the identifier alone is its marker.

boto3 blocks, hence every call runs in a thread. Bytes and questions have threads of their own, so that storage which
takes connections and says nothing does not hold up the quick calls. Signing needs neither storage nor boto3.
"""

import base64
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from services.runtime.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from services.runtime.multipart import MultipartStarter
from services.runtime.presign import Credentials, Presigner
from services.runtime.settings import S3Settings
from services.runtime.threads import Threads

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

IMMUTABLE: Final = "public, max-age=31536000, immutable"
"""`Cache-Control` of everything in the delivery bucket: its bytes never change under their URL."""

_CONNECT_TIMEOUT_S: Final = 2
_DATA_READ_TIMEOUT_S: Final = 20
_DATA_ATTEMPTS: Final = 4
_CONTROL_READ_TIMEOUT_S: Final = 5
_CONTROL_ATTEMPTS: Final = 2
"""Nothing but a few bytes is asked for, and somebody waits for the answer."""
_CONTROL_CONNECTIONS: Final = 8
_NOT_FOUND = {"404", "NoSuchKey", "NoSuchUpload", "NoSuchBucket"}
_CONFLICT = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_REFUSED = {
    "BadDigest",
    "EntityTooLarge",
    "EntityTooSmall",
    "InvalidPart",
    "InvalidPartOrder",
    "InvalidRequest",
    "MalformedXML",
}

_T = TypeVar("_T")

_tracer = trace.get_tracer("millrace.runtime")

ChecksumAlgorithm: TypeAlias = Literal["CRC32C", "SHA256"]
"""As S3 spells them; each with a header `x-amz-checksum-<lower case>`."""

_CHECKSUMS: Final[tuple[ChecksumAlgorithm, ...]] = ("CRC32C", "SHA256")


@dataclass(frozen=True, slots=True)
class Blob:
    """An object as HEAD describes it; `etag` without quotes, `checksums` of the whole in base64, if storage has any."""

    key: str
    etag: str
    size_bytes: int
    checksums: Mapping["ChecksumAlgorithm", str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that storage holds, or is said to hold.

    `etag` without quotes, `size_bytes` -1 where it is not known, `checksum` in base64, empty where there is none.
    """

    number: int
    etag: str
    size_bytes: int = -1
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """An HTML form that takes one file: every field, then the file as `file`."""

    url: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    initiated_at: datetime


@asynccontextmanager
async def connected(settings: S3Settings) -> AsyncIterator["Blobs"]:
    """A client that lasts as long as the block; nothing is sent before the first call."""
    data = Config(
        read_timeout=_DATA_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _DATA_ATTEMPTS},
        max_pool_connections=settings.s3_max_connections,
    )
    control = Config(
        read_timeout=_CONTROL_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _CONTROL_ATTEMPTS},
        max_pool_connections=_CONTROL_CONNECTIONS,
    )
    data_threads = Threads(settings.s3_max_connections, "s3-data")
    control_threads = Threads(_CONTROL_CONNECTIONS, "s3-control")
    with closing(data_threads), closing(control_threads):
        yield Blobs(
            data=_client(settings, settings.s3_endpoint_url, data),
            data_threads=data_threads,
            control=_client(settings, settings.s3_endpoint_url, control),
            control_threads=control_threads,
            public=_client(settings, settings.s3_public_endpoint_url or settings.s3_endpoint_url, control),
            starter=MultipartStarter(
                _presigner(settings, settings.s3_endpoint_url),
                connections=_CONTROL_CONNECTIONS,
                connect_timeout_s=_CONNECT_TIMEOUT_S,
                read_timeout_s=_CONTROL_READ_TIMEOUT_S,
            ),
            presigner=_presigner(settings, settings.s3_public_endpoint_url or settings.s3_endpoint_url),
        )


def _client(settings: S3Settings, endpoint_url: str, limits: Config) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url or None,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id or None,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value() or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            connect_timeout=_CONNECT_TIMEOUT_S,
        ).merge(limits),
    )


def _presigner(settings: S3Settings, endpoint_url: str) -> Presigner:
    """Signs for storage at a URL, with the settings' credentials or those that boto3 finds and renews."""
    session = boto3.Session(
        aws_access_key_id=settings.s3_access_key_id or None,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value() or None,
    )

    def credentials() -> Credentials:
        found = session.get_credentials()
        if found is None:
            raise Unavailable("no credentials for object storage", reason="STORAGE_UNAVAILABLE")
        frozen = found.get_frozen_credentials()
        return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token or "")

    return Presigner(
        endpoint_url=endpoint_url or f"https://s3.{settings.s3_region}.amazonaws.com",
        region=settings.s3_region,
        credentials=credentials,
        path_style=bool(endpoint_url),
    )


class Blobs:
    """Object storage; see `connected`. Every method raises Unavailable when storage does not answer."""

    def __init__(
        self,
        *,
        data: "S3Client",
        data_threads: Threads,
        control: "S3Client",
        control_threads: Threads,
        public: "S3Client",
        starter: MultipartStarter,
        presigner: Presigner,
    ) -> None:
        self._data = data
        self._data_threads = data_threads
        self._control = control
        self._control_threads = control_threads
        self._public = public
        self._starter = starter
        self._presigner = presigner

    # Objects

    async def put(self, bucket: str, key: str, data: bytes, *, content_type: str, sha256: bytes) -> None:
        """Writes an object that is never to change; storage checks the bytes against their SHA-256.

        Raises:
            AlreadyExists: the key is taken; the object that has it stays as it is.
        """
        await _run(
            self._data_threads,
            partial(
                self._data.put_object,
                Bucket=bucket,
                Key=key,
                Body=data,
                ContentType=content_type,
                CacheControl=IMMUTABLE,
                ChecksumSHA256=base64.b64encode(sha256).decode(),
                IfNoneMatch="*",
            ),
            key,
        )

    async def read(self, bucket: str, key: str, *, etag: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, fewer at the end of the object, of exactly the bytes `etag` names.

        Raises:
            NotFound: there is no such object.
            AlreadyExists: other bytes have taken the key.
        """

        def get() -> bytes:
            answer = self._data.get_object(
                Bucket=bucket, Key=key, IfMatch=f'"{etag}"', Range=f"bytes={offset}-{offset + length - 1}"
            )
            with closing(answer["Body"]) as body:
                return body.read()

        return await _run(self._data_threads, get, key)

    async def get(self, bucket: str, key: str) -> bytes:
        """A whole small object.

        Raises:
            NotFound: there is no such object.
        """

        def get() -> bytes:
            with closing(self._data.get_object(Bucket=bucket, Key=key)["Body"]) as body:
                return body.read()

        return await _run(self._data_threads, get, key)

    async def head(self, bucket: str, key: str) -> Blob:
        """What storage knows of an object.

        Raises:
            NotFound: there is no such object.
        """
        answer: Any = await _run(
            self._control_threads,
            partial(self._control.head_object, Bucket=bucket, Key=key, ChecksumMode="ENABLED"),
            key,
        )
        # What S3 calls composite is made of the parts' checksums: it is none of the bytes.
        is_whole = answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        checksums = {
            algorithm: answer[f"Checksum{algorithm}"]
            for algorithm in _CHECKSUMS
            if is_whole and f"Checksum{algorithm}" in answer
        }
        return Blob(key, answer["ETag"].strip('"'), answer["ContentLength"], checksums)

    async def copy(self, bucket: str, source_key: str, key: str, *, etag: str) -> None:
        """Copies exactly the bytes that `etag` names to a key that is free, within storage; up to 5 GiB.

        Raises:
            NotFound: there is no such source.
            AlreadyExists: the source has other bytes by now, or the key is taken.
        """
        await _run(
            self._data_threads,
            partial(
                self._data.copy_object,
                Bucket=bucket,
                Key=key,
                CopySource={"Bucket": bucket, "Key": source_key},
                CopySourceIfMatch=f'"{etag}"',
                IfNoneMatch="*",
            ),
            key,
        )

    async def delete(self, bucket: str, key: str) -> None:
        """Deletes an object; one that is gone already is fine."""
        await _run(self._control_threads, partial(self._control.delete_object, Bucket=bucket, Key=key), key)

    def sign_put(self, bucket: str, key: str, headers: Mapping[str, str], *, expires_in: timedelta) -> str:
        """A URL to PUT an object to, with exactly these headers (lower-case names). Asks nobody."""
        return self._presigner.sign("PUT", bucket, key, query={}, headers=headers, expires_in=expires_in)

    def sign_form(self, bucket: str, key: str, *, max_size_bytes: int, expires_in: timedelta) -> Form:
        """A form to POST an object with (an S3 POST policy), of one byte to a limit. Asks nobody."""
        fields = {"success_action_status": "201"}
        signed = self._public.generate_presigned_post(
            bucket,
            key,
            Fields=fields,
            Conditions=[fields, ["content-length-range", 1, max_size_bytes]],
            ExpiresIn=int(expires_in.total_seconds()),
        )
        return Form(signed["url"], signed["fields"])

    async def list(self, bucket: str, prefix: str) -> Sequence[Blob]:
        """Every object below a prefix, by key."""

        def pages() -> list[Blob]:
            paginator = self._control.get_paginator("list_objects_v2")
            return [
                Blob(item["Key"], item["ETag"].strip('"'), item["Size"])
                for page in paginator.paginate(Bucket=bucket, Prefix=prefix)
                for item in page.get("Contents", [])
            ]

        return await _run(self._control_threads, pages, prefix)

    # Multipart uploads

    async def create_multipart(
        self, bucket: str, key: str, *, content_type: str, algorithm: ChecksumAlgorithm | None = None
    ) -> str:
        """Begins a multipart upload; returns its identifier.

        Args:
            bucket: its name.
            key: of the object that it will make.
            content_type: of that object.
            algorithm: of the checksum that every part will carry.
        """
        headers = {"content-type": content_type}
        if algorithm:
            # Joined, CRCs of parts give the CRC of the whole; hashes do not.
            kind = "FULL_OBJECT" if algorithm == "CRC32C" else "COMPOSITE"
            headers |= {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
        with _tracer.start_as_current_span("S3.CreateMultipartUpload", kind=SpanKind.CLIENT):
            return await _run(self._control_threads, partial(self._starter.start, bucket, key, headers), key)

    def sign_parts(
        self, bucket: str, key: str, upload_id: str, parts: Mapping[int, Mapping[str, str]], *, expires_in: timedelta
    ) -> dict[int, str]:
        """URLs to PUT parts to, by part number, each with exactly these headers (lower-case names). Asks nobody."""
        return self._presigner.sign_parts(bucket, key, upload_id, parts, expires_in=expires_in)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[Part]:
        """The parts that storage holds, by number; of a part that was sent twice, the latest.

        Raises:
            NotFound: there is no such upload: it was completed, aborted, or never began.
        """

        def pages() -> list[Part]:
            paginator = self._control.get_paginator("list_parts")
            listed = (
                item
                for page in paginator.paginate(Bucket=bucket, Key=key, UploadId=upload_id)
                for item in page.get("Parts", [])
            )
            latest = {item["PartNumber"]: item for item in sorted(listed, key=lambda item: item["LastModified"])}
            return [Part(number, item["ETag"].strip('"'), item["Size"]) for number, item in sorted(latest.items())]

        return await _run(self._control_threads, pages, key)

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        algorithm: ChecksumAlgorithm | None = None,
    ) -> None:
        """Joins the parts into the object; their checksums are said again where they have any.

        Raises:
            NotFound: there is no such upload: ask `head` whether it was completed before.
            FailedPrecondition: storage refuses the parts, for instance for a wrong ETag.
        """
        joined: Any = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({f"Checksum{algorithm}": part.checksum} if part.checksum else {})
            for part in parts
        ]
        await _run(
            self._data_threads,
            partial(
                self._data.complete_multipart_upload,
                Bucket=bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": joined},
            ),
            key,
        )

    async def pending_multipart(
        self, bucket: str, *, after: tuple[str, str] = ("", "")
    ) -> tuple[Sequence[PendingUpload], tuple[str, str] | None]:
        """A page of multipart uploads that were neither completed nor aborted, and where the next one begins."""
        answer = await _run(
            self._control_threads,
            partial(self._control.list_multipart_uploads, Bucket=bucket, KeyMarker=after[0], UploadIdMarker=after[1]),
            bucket,
        )
        page = [PendingUpload(one["Key"], one["UploadId"], one["Initiated"]) for one in answer.get("Uploads", [])]
        if not answer.get("IsTruncated"):
            return page, None
        return page, (answer.get("NextKeyMarker", ""), answer.get("NextUploadIdMarker", ""))

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Gives a multipart upload and its parts up; one that is gone already is fine."""
        try:
            await _run(
                self._control_threads,
                partial(self._control.abort_multipart_upload, Bucket=bucket, Key=key, UploadId=upload_id),
                key,
            )
        except NotFound:
            return


async def _run(threads: Threads, call: Callable[[], _T], key: str) -> _T:
    """Runs a blocking call in a thread, within the current trace, and translates what it raises."""
    with _translated(key):
        return await threads.run(call)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        said = f"{error.operation_name} {key}: {code}"
        if code in _NOT_FOUND:
            raise NotFound(said, reason="OBJECT_NOT_FOUND") from error
        if code in _CONFLICT:
            raise AlreadyExists(said, reason="OBJECT_DIFFERS") from error
        if code in _REFUSED:
            raise FailedPrecondition(said, reason="STORAGE_REFUSED", details={"storage_code": code}) from error
        raise Unavailable(said, reason="STORAGE_UNAVAILABLE") from error
    except (BotoCoreError, urllib3.exceptions.HTTPError) as error:
        raise Unavailable(f"storage: {error}", reason="STORAGE_UNAVAILABLE") from error
