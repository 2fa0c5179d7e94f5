"""Uploads under attack, cut off, and in haste: what storage and the service make of it together, on real servers."""

import asyncio
import base64
import hashlib
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import urlsplit

import asyncpg
import boto3
import google_crc32c
import httpx
import pytest

from media.v1 import media_pb2
from media.v1 import upload_service_pb2 as pb
from services.runtime.blobs import Blobs
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable
from services.runtime.presign import Credentials, Presigner
from tests.env import Env
from tests.integration.upload.calls import FORM, MULTIPART, PART_BYTES, PATIENCE_S, PUT, Uploader, key_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from media.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

BUCKET = "originals"
NONE = media_pb2.CHECKSUM_ALGORITHM_UNSPECIFIED
CRC32C = media_pb2.CHECKSUM_ALGORITHM_CRC32C
SHA256 = media_pb2.CHECKSUM_ALGORITHM_SHA256
PROCESSING = media_pb2.MEDIA_STATUS_PROCESSING
FAILED = media_pb2.MEDIA_STATUS_FAILED

RACES = 200
HEAD_STARTS_S = (0.0, 0.003, 0.01, 0.03, 0.1, 1.0)
"""Of the first of two racing calls: from none at all to all that it needs, however busy the machine is."""
SOON_S = 30.0

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_T = TypeVar("_T")

# -- what the tests need ------------------------------------------------------------------------------------------


@pytest.fixture
def alice(stub: "UploadServiceAsyncStub") -> Uploader:
    return Uploader(stub)


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """Straight to storage."""
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=16)) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Evidence:
    """What storage and the database hold, asked directly."""

    s3: "S3Client"
    storage: Blobs
    sql: Sql

    async def original(self, media_id: str) -> bytes:
        """The bytes of the original."""
        return await self.storage.get(BUCKET, key_of(media_id))

    async def keys(self, media_id: str) -> list[str]:
        """The last components of all keys of a media."""
        blobs = await self.storage.list(BUCKET, key_of(media_id).removesuffix("original"))
        return [blob.key.rpartition("/")[2] for blob in blobs]

    def stored(self, media_ids: Collection[str]) -> set[str]:
        """Those media for which storage holds an object."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {item["Key"].split("/")[1] for page in pages for item in page.get("Contents", [])} & set(media_ids)

    def pending(self, media_ids: Collection[str]) -> set[str]:
        """Those media for which storage holds a multipart upload."""
        pages = self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)
        return {item["Key"].split("/")[1] for page in pages for item in page.get("Uploads", [])} & set(media_ids)

    def arrivals(self, media_id: str, upload_id: str) -> Counter[int]:
        """How often each part arrived: this storage lists a part that was sent again as often as it came."""
        pages = self.s3.get_paginator("list_parts").paginate(Bucket=BUCKET, Key=key_of(media_id), UploadId=upload_id)
        return Counter(part["PartNumber"] for page in pages for part in page["Parts"])

    async def announced(self, media_ids: Collection[str]) -> Counter[str]:
        """How many messages say of each media that it was uploaded."""
        rows = await self.sql.fetch(
            "SELECT media_id::text FROM outbox WHERE kind = 'media.uploaded' AND media_id = ANY ($1::uuid[])",
            list(media_ids),
        )
        return Counter(row["media_id"] for row in rows)

    async def state(self, media_id: str) -> str:
        """Where an upload stands."""
        return str(await self.sql.fetchval("SELECT state FROM uploads WHERE media_id = $1", media_id))

    async def pass_time(self, media_id: str) -> None:
        """Lets every URL of an upload die."""
        await self.sql.execute(
            "UPDATE uploads SET state_since = state_since - interval '2 h', sweep_at = sweep_at - interval '2 h' "
            "WHERE media_id = $1",
            media_id,
        )


@pytest.fixture
async def evidence(env: Env, storage: Blobs) -> AsyncIterator[Evidence]:
    """Of storage and of this module's database."""
    s3 = boto3.client(
        "s3",
        endpoint_url=env["MILLRACE_S3_ENDPOINT_URL"],
        region_name=env["MILLRACE_S3_REGION"],
        aws_access_key_id=env["MILLRACE_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=env["MILLRACE_S3_SECRET_ACCESS_KEY"],
    )
    sql = await asyncpg.connect(env["MILLRACE_DATABASE_URL"])
    yield Evidence(s3, storage, sql)
    await sql.close()


@pytest.fixture(scope="module")
def presigner(env: Env) -> Presigner:
    """Signs as the service does, but for as long as a test likes."""
    credentials = Credentials(env["MILLRACE_S3_ACCESS_KEY_ID"], env["MILLRACE_S3_SECRET_ACCESS_KEY"])
    return Presigner(
        endpoint_url=env["MILLRACE_S3_ENDPOINT_URL"],
        region=env["MILLRACE_S3_REGION"],
        credentials=lambda: credentials,
    )


def checksum_of(algorithm: media_pb2.ChecksumAlgorithm.ValueType, data: bytes) -> str:
    """As S3 writes it; empty for no algorithm."""
    match algorithm:
        case media_pb2.CHECKSUM_ALGORITHM_CRC32C:
            return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        case media_pb2.CHECKSUM_ALGORITHM_SHA256:
            return base64.b64encode(hashlib.sha256(data).digest()).decode()
        case _:
            return ""


async def send(http: httpx.AsyncClient, part: pb.PresignedPart, data: bytes) -> httpx.Response:
    """PUTs a part as it was signed."""
    return await http.put(part.url, content=data, headers=dict(part.headers))


async def sent(http: httpx.AsyncClient, part: pb.PresignedPart, data: bytes) -> pb.CompletedPart:
    """PUTs a part, which storage takes."""
    answer = await send(http, part, data)
    assert answer.status_code == 200, answer.text
    given = next((value for name, value in part.headers.items() if name.startswith("x-amz-checksum")), "")
    return pb.CompletedPart(part_number=part.part_number, etag=answer.headers["etag"], checksum=given)


async def cut_off(part: pb.PresignedPart, data: bytes, sent_bytes: int) -> None:
    """PUTs a part over a connection that is gone when so many bytes have been sent."""
    url = urlsplit(part.url)
    assert url.hostname
    assert url.port
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    headers = {"host": url.netloc, "content-length": str(len(data)), **part.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"PUT {url.path}?{url.query} HTTP/1.1\r\n{lines}\r\n".encode() + data[:sent_bytes])
    await writer.drain()
    writer.transport.abort()


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits until a condition holds."""
    try:
        async with asyncio.timeout(SOON_S):
            while True:
                if await condition():
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not within {SOON_S} s: {what}")


# -- a cut connection ---------------------------------------------------------------------------------------------


async def test_an_upload_goes_on_with_part_34_of_50(
    alice: Uploader, http: httpx.AsyncClient, evidence: Evidence
) -> None:
    """The parts that storage has are not sent again: storage, which lists each arrival, has every part once."""
    count, cut_at = 50, 34
    block = random.Random(34).randbytes(PART_BYTES + count)

    def data_of_part(number: int) -> bytes:
        return block[number : number + (PART_BYTES if number < count else 999)]

    begun = await alice.initiate((count - 1) * PART_BYTES + 999)
    assert begun.part_count == count
    puts: Counter[int] = Counter()
    for part in begun.parts[: cut_at - 1]:
        puts[part.part_number] += 1
        await sent(http, part, data_of_part(part.part_number))
    await cut_off(begun.parts[cut_at - 1], data_of_part(cut_at), PART_BYTES // 2)

    # A client that was started anew knows the media's id, and asks for the rest.
    held = await alice.held(begun.media_id)
    assert [part.part_number for part in held] == list(range(1, cut_at))
    missing = sorted(set(range(1, count + 1)) - {part.part_number for part in held})
    for part in await alice.sign(begun.media_id, missing):
        puts[part.part_number] += 1
        await sent(http, part, data_of_part(part.part_number))

    arrivals = evidence.arrivals(begun.media_id, begun.upload_id)
    assert arrivals == puts == Counter(range(1, count + 1))
    held = await alice.held(begun.media_id)
    media = await alice.complete(
        begun.media_id, [pb.CompletedPart(part_number=part.part_number, etag=part.etag) for part in held]
    )
    assert media.status == PROCESSING
    source, stored = hashlib.sha256(), hashlib.sha256()
    for number in range(1, count + 1):
        source.update(data_of_part(number))
    for piece in evidence.s3.get_object(Bucket=BUCKET, Key=key_of(begun.media_id))["Body"].iter_chunks(1024 * 1024):
        stored.update(piece)
    assert stored.digest() == source.digest()


# -- attacks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attack:
    """A request that was not agreed."""

    name: str
    url: str
    content: bytes | AsyncIterator[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "PUT"


def other_bytes(data: bytes) -> bytes:
    """As many, but one differs."""
    return data[:-1] + bytes([data[-1] ^ 1])


async def in_chunks(data: bytes) -> AsyncIterator[bytes]:
    """A body whose length is not said."""
    yield data


def attacks(part: pb.PresignedPart, data: bytes, other_url: str) -> Iterator[Attack]:
    """Everything but what was signed: other bytes, other lengths, another request.

    Args:
        part: as it was signed.
        data: what belongs there.
        other_url: signed for a part of the same kind and number, of another media.
    """
    url, headers = part.url, dict(part.headers)
    path, _, query = url.partition("?")
    signature = query.partition("X-Amz-Signature=")[2]
    flipped = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    yield Attack("truncated", url, data[:-1], headers)
    yield Attack("empty", url, b"", headers)
    yield Attack("oversize", url, data + b"x", headers)
    yield Attack("length not said", url, in_chunks(data), headers)
    yield Attack("another signature", url.replace(signature, flipped), data, headers)
    yield Attack("no signature", url.replace(f"&X-Amz-Signature={signature}", ""), data, headers)
    yield Attack("a longer life", url.replace("X-Amz-Expires=3600", "X-Amz-Expires=86400"), data, headers)
    yield Attack("fewer signed headers", url.replace("content-length%3B", ""), data, headers)
    yield Attack("another key", f"{other_url.partition('?')[0]}?{query}", data, headers)
    yield Attack("a key beside it", f"{path}2?{query}", data, headers)
    yield Attack("one more parameter", f"{url}&acl=", data, headers)
    for method in ("GET", "DELETE", "POST"):
        yield Attack(method, url, b"", {}, method)
    if "partNumber=2&" in url:
        yield Attack("another part", url.replace("partNumber=2&", "partNumber=3&"), data, headers)
        other_upload = other_url.partition("uploadId=")[2].partition("&")[0]
        upload = url.partition("uploadId=")[2].partition("&")[0]
        yield Attack("another upload", url.replace(upload, other_upload), data, headers)
        whole = query.replace("partNumber=2&", "").replace(f"uploadId={upload}&", "")
        yield Attack("not a part", f"{path}?{whole}", data, headers)
    for name, value in headers.items():
        yield Attack(f"without {name}", url, data, {kept: headers[kept] for kept in headers if kept != name})
        if name.startswith("x-amz-checksum"):
            theirs = checksum_of(CRC32C if name.endswith("crc32c") else SHA256, other_bytes(data))
            yield Attack("other bytes", url, other_bytes(data), headers)
            yield Attack("other bytes with their checksum", url, other_bytes(data), headers | {name: theirs})
            yield Attack("another checksum", url, data, headers | {name: theirs})
        else:
            yield Attack(f"another {name}", url, data, headers | {name: f'"{value}"'})


async def refuse(http: httpx.AsyncClient, attack: Attack) -> None:
    """Storage refuses an attack."""
    answer = await http.request(attack.method, attack.url, content=attack.content, headers=attack.headers)
    assert 400 <= answer.status_code < 500, f"{attack.name}: {answer.status_code} {answer.text}"


def data_of(kind: media_pb2.UploadKind.ValueType) -> tuple[bytes, list[bytes]]:
    """A file of that kind, and its parts; the last one is short."""
    last = random.Random(kind).randbytes(999)
    pieces = [last] if kind == PUT else [bytes(PART_BYTES), last]
    return b"".join(pieces), pieces


@dataclass(frozen=True, slots=True)
class Manner:
    """How a file comes."""

    kind: media_pb2.UploadKind.ValueType
    algorithm: media_pb2.ChecksumAlgorithm.ValueType

    def __str__(self) -> str:
        kind, algorithm = media_pb2.UploadKind.Name(self.kind), media_pb2.ChecksumAlgorithm.Name(self.algorithm)
        return f"{kind.removeprefix('UPLOAD_KIND_')}-{algorithm.removeprefix('CHECKSUM_ALGORITHM_')}".lower()


def agreed_headers(manner: Manner, data: bytes) -> dict[str, str]:
    """What the signature binds beside the length."""
    headers = {"if-none-match": "*"} if manner.kind == PUT else {}
    if manner.algorithm:
        name = media_pb2.ChecksumAlgorithm.Name(manner.algorithm).removeprefix("CHECKSUM_ALGORITHM_").lower()
        headers[f"x-amz-checksum-{name}"] = checksum_of(manner.algorithm, data)
    return headers


@pytest.mark.parametrize(
    "manner", [Manner(kind, algorithm) for kind in (PUT, MULTIPART) for algorithm in (NONE, CRC32C, SHA256)], ids=str
)
async def test_nothing_but_the_agreed_bytes_gets_in(
    alice: Uploader, http: httpx.AsyncClient, evidence: Evidence, presigner: Presigner, manner: Manner
) -> None:
    kind, algorithm = manner.kind, manner.algorithm
    data, pieces = data_of(kind)
    number, last = len(pieces), pieces[-1]
    given = [checksum_of(algorithm, piece) for piece in pieces] if algorithm else []
    begun, other = [await alice.initiate(len(data), kind, algorithm) for _ in range(2)]
    media_id, key = begun.media_id, key_of(begun.media_id)
    parts = await alice.sign(media_id, range(1, number + 1), given)
    (others,) = await alice.sign(other.media_id, [number], given[-1:])
    part = parts[-1]
    assert part.size_bytes == len(last)
    assert dict(part.headers) == agreed_headers(manner, last)

    bound = dict(part.headers) | {"content-length": str(len(last))}
    life = timedelta(seconds=1)
    short_lived = (
        presigner.sign("PUT", BUCKET, key, query={}, headers=bound, expires_in=life)
        if kind == PUT
        else presigner.sign_parts(BUCKET, key, begun.upload_id, {number: bound}, expires_in=life)[number]
    )
    for attack in attacks(part, last, others.url):
        await refuse(http, attack)
        assert not await alice.held(media_id), attack.name
        assert not await alice.held(other.media_id), attack.name
    await cut_off(part, last, len(last) // 2)
    await asyncio.sleep(2.1)  # a life of one second is over, whatever the second's fraction was
    await refuse(http, Attack("expired", short_lived, last, dict(part.headers)))
    assert not await alice.held(media_id)
    assert not await evidence.keys(media_id)

    # None of it was in the way of its owner.
    claimed = [await sent(http, part, piece) for part, piece in zip(parts, pieces, strict=True)]
    assert (await alice.complete(media_id, claimed)).status == PROCESSING
    pinned = await evidence.storage.head(BUCKET, key)
    assert await evidence.original(media_id) == data

    # Nor does what was agreed work a second time.
    for again, piece in zip(parts, pieces, strict=True):
        for replayed in (piece, other_bytes(piece)):
            answer = await send(http, again, replayed)
            assert answer.status_code in ({412, 400} if kind == PUT else {404, 400}), answer.text
    for attack in attacks(part, last, others.url):
        await refuse(http, attack)
    assert await evidence.storage.head(BUCKET, key) == pinned
    assert await evidence.original(media_id) == data
    assert (await alice.complete(media_id, claimed)).status == PROCESSING
    with pytest.raises(FailedPrecondition):
        await alice.abort(media_id)
    assert await evidence.announced([media_id]) == {media_id: 1}


async def test_a_url_is_good_until_it_expires(
    alice: Uploader, http: httpx.AsyncClient, evidence: Evidence, presigner: Presigner
) -> None:
    """So that what is refused above is refused for its age, and not for how it was signed."""
    data, _ = data_of(PUT)
    begun = await alice.initiate(len(data), PUT)
    (part,) = begun.parts
    bound = dict(part.headers) | {"content-length": str(len(data))}
    key, life = key_of(begun.media_id), timedelta(seconds=30)
    url = presigner.sign("PUT", BUCKET, key, query={}, headers=bound, expires_in=life)
    assert (await http.put(url, content=data, headers=dict(part.headers))).status_code == 200
    assert await evidence.original(begun.media_id) == data


@pytest.mark.parametrize("later_s", [0, 1.1], ids=["at-once", "later"])
async def test_a_part_that_was_overwritten_is_noticed_or_kept_out(
    alice: Uploader, http: httpx.AsyncClient, evidence: Evidence, later_s: float
) -> None:
    """What is joined is what its owner named. This storage keeps both, and its clock of parts counts whole seconds."""
    data, pieces = data_of(MULTIPART)
    begun = await alice.initiate(len(data), MULTIPART)
    claimed = [await sent(http, part, piece) for part, piece in zip(begun.parts, pieces, strict=True)]
    await asyncio.sleep(later_s)
    theirs = await sent(http, begun.parts[1], other_bytes(pieces[1]))
    refusal: InvalidArgument | None = None
    try:
        await alice.complete(begun.media_id, claimed)
    except InvalidArgument as error:
        refusal = error
    if refusal:
        assert refusal.reason == "PARTS_DIFFER"
        assert refusal.details["different_parts"] == "2"
        assert (await alice.held(begun.media_id))[1].etag == theirs.etag.strip('"')
        await asyncio.sleep(1.1)
        claimed[1] = await sent(http, (await alice.sign(begun.media_id, [2]))[0], pieces[1])
        assert (await alice.complete(begun.media_id, claimed)).status == PROCESSING
    assert refusal or not later_s, "what came last is what counts"
    assert await evidence.original(begun.media_id) == data


async def test_the_announced_checksum_keeps_another_whole_out(alice: Uploader, http: httpx.AsyncClient) -> None:
    data, _ = data_of(PUT)
    begun = await alice.initiate(len(data), PUT, CRC32C, checksum_of(CRC32C, b"another file"))
    (part,) = begun.parts
    assert (await send(http, part, data)).status_code == 400
    assert not await alice.held(begun.media_id)


async def test_parts_of_another_file_fail_the_media_and_do_not_stay(
    alice: Uploader, http: httpx.AsyncClient, evidence: Evidence
) -> None:
    """Every part carries its own checksum, but the whole is not what was announced."""
    data, pieces = data_of(MULTIPART)
    begun = await alice.initiate(len(data), MULTIPART, CRC32C, checksum_of(CRC32C, b"another file"))
    parts = await alice.sign(begun.media_id, [1, 2], [checksum_of(CRC32C, piece) for piece in pieces])
    claimed = [await sent(http, part, piece) for part, piece in zip(parts, pieces, strict=True)]
    with pytest.raises(FailedPrecondition) as caught:
        await alice.complete(begun.media_id, claimed)
    assert caught.value.reason == "CHECKSUM_MISMATCH"
    assert (await alice.abort(begun.media_id)).failure.reason == "checksum_mismatch"
    assert not await evidence.announced([begun.media_id])

    async def is_gone() -> bool:
        return not await evidence.keys(begun.media_id)

    await eventually(is_gone, "the bytes of the failed media are removed")


async def test_a_form_that_is_sent_again_changes_nothing(
    alice: Uploader, http: httpx.AsyncClient, evidence: Evidence
) -> None:
    data = random.Random(5).randbytes(4_096)
    begun = await alice.initiate(0, FORM)
    media_id, key = begun.media_id, key_of(begun.media_id)

    async def post(content: bytes, **changed: str) -> int:
        fields = dict(begun.form.fields) | changed
        return (await http.post(begun.form.url, data=fields, files={"file": content})).status_code

    assert await post(data, key=key) == 403
    assert await post(data, policy=base64.b64encode(b"{}").decode()) == 403
    assert await post(b"") in {400, 403}
    assert not await evidence.keys(media_id)
    assert await post(data) == 201

    async def is_taken_in() -> bool:
        return await evidence.state(media_id) == "completed"

    await eventually(is_taken_in, "the form is taken in")
    pinned = await evidence.storage.head(BUCKET, key)
    assert await post(other_bytes(data)) == 201
    assert await evidence.storage.head(BUCKET, key) == pinned
    assert await evidence.original(media_id) == data
    await evidence.pass_time(media_id)

    async def is_alone() -> bool:
        return await evidence.keys(media_id) == ["original"]

    await eventually(is_alone, "what the form brought later is removed")
    assert await evidence.original(media_id) == data
    assert await evidence.announced([media_id]) == {media_id: 1}


async def test_what_a_living_url_brings_after_an_abort_does_not_stay(
    alice: Uploader, http: httpx.AsyncClient, evidence: Evidence
) -> None:
    data, _ = data_of(PUT)
    begun = await alice.initiate(len(data), PUT)
    assert (await alice.abort(begun.media_id)).status == FAILED
    late = await sent(http, begun.parts[0], data)
    with pytest.raises(FailedPrecondition):
        await alice.complete(begun.media_id, [late])
    await evidence.pass_time(begun.media_id)

    async def is_gone() -> bool:
        return not await evidence.keys(begun.media_id)

    await eventually(is_gone, "the late bytes are removed")


@pytest.mark.parametrize("kind", [pytest.param(PUT, id="put"), pytest.param(MULTIPART, id="multipart")])
async def test_whoever_completes_what_was_aborted_is_told_so(
    alice: Uploader, http: httpx.AsyncClient, kind: media_pb2.UploadKind.ValueType
) -> None:
    data, pieces = data_of(kind)
    begun = await alice.initiate(len(data), kind)
    claimed = [await sent(http, part, piece) for part, piece in zip(begun.parts, pieces, strict=True)]
    await alice.abort(begun.media_id)
    with pytest.raises(FailedPrecondition):
        await alice.complete(begun.media_id, claimed)


# -- haste --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Runner:
    """An upload that is ready to be completed."""

    uploader: Uploader
    media_id: str
    data: bytes
    parts: Sequence[pb.CompletedPart]

    async def complete(self) -> media_pb2.Media:
        """Completes it, as a client does: until there is an answer."""
        return await insist(lambda: self.uploader.complete(self.media_id, self.parts))

    async def abort(self) -> media_pb2.Media:
        """Gives it up likewise."""
        return await insist(lambda: self.uploader.abort(self.media_id))


async def insist(call: Callable[[], Awaitable[_T]]) -> _T:
    """Calls until there is an answer: hundreds of calls at once are more than a small machine answers in time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await call()
            except (DeadlineExceeded, Unavailable):
                await asyncio.sleep(random.uniform(0.5, 2))


async def runners(
    stub: "UploadServiceAsyncStub", http: httpx.AsyncClient, kind: media_pb2.UploadKind.ValueType
) -> list[Runner]:
    """Uploads of one small part, each by another user."""
    slots = asyncio.Semaphore(16)

    async def ready(number: int) -> Runner:
        uploader = Uploader(stub, f"runner-{secrets.token_hex(4)}")
        data = random.Random(number).randbytes(512)
        async with slots:
            begun = await insist(lambda: uploader.initiate(len(data), kind))
            assert begun.kind == kind
            (part,) = begun.parts
            return Runner(uploader, begun.media_id, data, [await sent(http, part, data)])

    return await asyncio.gather(*(ready(number) for number in range(RACES)))


@pytest.mark.parametrize("kind", [PUT, MULTIPART], ids=["put", "multipart"])
async def test_200_double_completes_at_once_have_one_outcome_each(
    stub: "UploadServiceAsyncStub",
    http: httpx.AsyncClient,
    evidence: Evidence,
    kind: media_pb2.UploadKind.ValueType,
) -> None:
    ready = await runners(stub, http, kind)
    answers = await asyncio.gather(*(runner.complete() for runner in ready for _ in range(2)))
    assert {answer.status for answer in answers} == {PROCESSING}
    media_ids = {runner.media_id for runner in ready}
    assert await evidence.announced(media_ids) == Counter(media_ids)
    assert not evidence.pending(media_ids)
    for runner in ready:
        assert await evidence.original(runner.media_id) == runner.data


@pytest.mark.parametrize("kind", [PUT, MULTIPART], ids=["put", "multipart"])
async def test_200_races_of_complete_and_abort_have_one_outcome_each(
    stub: "UploadServiceAsyncStub",
    http: httpx.AsyncClient,
    evidence: Evidence,
    kind: media_pb2.UploadKind.ValueType,
) -> None:
    ready = await runners(stub, http, kind)
    slots = asyncio.Semaphore(16)

    async def has_completed(runner: Runner) -> bool:
        """Whether its completion won; the other call is told that it lost."""
        first, second = (runner.complete, runner.abort) if random.random() < 0.5 else (runner.abort, runner.complete)

        async def later() -> media_pb2.Media:
            await asyncio.sleep(random.choice(HEAD_STARTS_S))
            return await second()

        async with slots:
            outcomes = await asyncio.gather(first(), later(), return_exceptions=True)
        (lost,) = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        (won,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert isinstance(lost, FailedPrecondition), lost
        assert won.status in {PROCESSING, FAILED}
        assert won.failure.reason == ("upload_aborted" if won.status == FAILED else "")
        return won.status == PROCESSING

    outcomes = await asyncio.gather(*map(has_completed, ready))
    completed = {runner.media_id: runner for runner, has in zip(ready, outcomes, strict=True) if has}
    aborted = {runner.media_id: runner for runner, has in zip(ready, outcomes, strict=True) if not has}
    assert completed, "no race: completing never won"
    assert aborted, "no race: aborting never won"
    assert await evidence.announced({*completed, *aborted}) == Counter(completed.keys())

    async def is_clean() -> bool:
        return not evidence.pending({*completed, *aborted}) and not evidence.stored(aborted)

    await eventually(is_clean, "no bytes are left of what was aborted")
    for runner in completed.values():
        assert await evidence.original(runner.media_id) == runner.data
    for runner in [*completed.values()][:10]:
        assert (await runner.complete()).status == PROCESSING
    for runner in [*aborted.values()][:10]:
        assert (await runner.abort()).status == FAILED
