"""Companion's S3 contract, call by call as the two versions of Uppy's plugin send them, and who may make them."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from gateway import companion
from gateway.dependencies import Parts
from gateway.middleware import without_token
from media.v1 import media_pb2
from media.v1 import upload_service_pb2 as pb
from services.runtime import errors, ids
from services.runtime.ids import UserId
from tests.unit.gateway.application import TOKENS, Answers, client_of, parts

MEDIA_ID = str(ids.new_media_id("alice"))
SHARD = ids.shard_prefix(ids.shard_of_user(UserId("alice")))
KEY = f"{SHARD}/{MEDIA_ID}/original"
UPLOAD_ID = "2~Ab_c-1.x"
TOKEN = TOKENS.mint("alice").text
AT_KEY = f"?key={quote(KEY, safe='')}"
WATCH = f"https://gateway.example/watch/{MEDIA_ID}"


def expiring(message: Any) -> Any:
    message.expires_at.FromSeconds(int(time.time()) + 900)
    return message


def media() -> media_pb2.Media:
    return media_pb2.Media(media_id=MEDIA_ID, type=media_pb2.MEDIA_TYPE_VIDEO, status=media_pb2.MEDIA_STATUS_PROCESSING)


def storage() -> Answers:
    """An upload service that takes everything."""
    form = pb.PresignedForm(
        url="https://s3.example/originals", fields={"key": f"{SHARD}/{MEDIA_ID}/incoming", "p": "q"}
    )
    begun = pb.InitiateUploadResponse(media_id=MEDIA_ID, upload_id=UPLOAD_ID, s3_key=KEY, form=form)
    held = [
        pb.UploadedPart(part_number=1, etag="e1", size_bytes=5),
        pb.UploadedPart(part_number=3, etag="e3", size_bytes=2),
    ]

    def sign(request: pb.SignPartsRequest) -> pb.SignPartsResponse:
        signed = [pb.PresignedPart(part_number=one, url=f"https://s3.example/{one}") for one in request.part_numbers]
        return expiring(pb.SignPartsResponse(parts=signed))  # type: ignore[no-any-return]

    return Answers(
        {
            "InitiateUpload": lambda _: expiring(begun),
            "SignParts": sign,
            "ListParts": lambda _: pb.ListPartsResponse(parts=held, upload_id=UPLOAD_ID),
            "CompleteUpload": lambda _: pb.CompleteUploadResponse(media=media()),
            "AbortUpload": lambda _: pb.AbortUploadResponse(media=media()),
        }
    )


def uppy(made: Parts, **headers: str) -> httpx.AsyncClient:
    """A client that sends these headers and no bearer token."""
    client = client_of(made)
    client.headers = httpx.Headers(headers)
    return client


@pytest.fixture(params=["in the path", "in a header", "in a cookie"])
def way(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """Each base, with what is sent along with every call."""
    if request.param == "in the path":
        return f"/uppy/{TOKEN}/s3", {}
    if request.param == "in a header":
        return "/uppy/s3", {"Authorization": client_of(parts()).headers["Authorization"]}
    return "/uppy/s3", {"Cookie": f"millrace_upload={TOKEN}", "Sec-Fetch-Site": "same-origin"}


async def test_every_call_of_the_contract(way: tuple[str, dict[str, str]]) -> None:
    base, headers = way
    upload = storage()
    async with uppy(parts(upload=upload), **headers) as client:
        query = urlencode({"filename": "a b.jpg", "type": "image/jpeg", "metadata[name]": "x", "metadata[k]": "v"})
        params = await client.get(f"{base}/params?{query}")
        body = {"filename": "a.mp4", "type": "video/mp4", "metadata": {"name": "a.mp4", "n": 1}}
        created = await client.post(f"{base}/multipart", json=body)
        listed = await client.get(f"{base}/multipart/{UPLOAD_ID}{AT_KEY}")
        signed = await client.get(f"{base}/multipart/{UPLOAD_ID}/7{AT_KEY}")
        batch = await client.get(f"{base}/multipart/{UPLOAD_ID}/batch{AT_KEY}&partNumbers=1,2")
        sent = {"parts": [{"PartNumber": 1, "ETag": '"e1"'}, {"PartNumber": 2, "ETag": "e2"}]}
        completed = await client.post(f"{base}/multipart/{UPLOAD_ID}/complete{AT_KEY}", json=sent)
        aborted = await client.delete(f"{base}/multipart/{UPLOAD_ID}{AT_KEY}")
    answers = (params, created, listed, signed, batch, completed, aborted)
    assert [answer.status_code for answer in answers] == [200] * 7

    form = params.json()
    assert 890 < form.pop("expires") <= 900
    assert form == {
        "method": "POST",
        "url": "https://s3.example/originals",
        "fields": {"key": f"{SHARD}/{MEDIA_ID}/incoming", "p": "q"},
        "media_id": MEDIA_ID,
    }
    assert created.json() == {"key": KEY, "uploadId": UPLOAD_ID, "bucket": "originals"}
    assert listed.json() == [
        {"PartNumber": 1, "ETag": '"e1"', "Size": 5},
        {"PartNumber": 3, "ETag": '"e3"', "Size": 2},
    ]
    assert signed.json()["url"] == "https://s3.example/7"
    assert 890 < signed.json()["expires"] <= 900
    assert batch.json() == {"presignedUrls": {"1": "https://s3.example/1", "2": "https://s3.example/2"}}
    assert completed.json() == {"location": WATCH, "key": KEY, "bucket": "originals"}
    assert aborted.json() == {}

    begun_form, begun_parts, *rest = upload.asked
    assert (begun_form.filename, begun_form.content_type, begun_form.size_bytes) == ("a b.jpg", "image/jpeg", 0)
    assert (begun_form.kind, begun_parts.kind) == (media_pb2.UPLOAD_KIND_FORM, media_pb2.UPLOAD_KIND_MULTIPART)
    assert len(begun_form.request_id) == len(begun_parts.request_id) == 32
    assert begun_form.request_id != begun_parts.request_id
    assert {asked.user_id for asked in upload.asked} == {"alice"}
    assert {(asked.media_id, asked.upload_id) for asked in rest} == {(MEDIA_ID, UPLOAD_ID)}
    assert [(part.part_number, part.etag) for part in rest[3].parts] == [(1, '"e1"'), (2, "e2")]


@pytest.mark.parametrize("said", [{}, {"type": ""}, {"type": None}, {"type": "application/octet-stream"}], ids=str)
async def test_a_type_that_the_browser_does_not_know_is_unknown_bytes(said: dict[str, Any]) -> None:
    upload = storage()
    async with uppy(parts(upload=upload)) as client:
        response = await client.post(f"/uppy/{TOKEN}/s3/multipart", json={"filename": "a", **said})
    assert response.status_code == 200
    assert upload.asked[0].content_type == "application/octet-stream"


async def test_odd_names_and_types_are_the_services_to_refuse() -> None:
    upload = storage()
    async with uppy(parts(upload=upload)) as client:
        for name in ("x" * 300, "a\nb", "", "日本.mp4", "../../etc", '"><script>'):
            await client.post(f"/uppy/{TOKEN}/s3/multipart", json={"filename": name, "type": "Video/MP4; codecs=avc1"})
            await client.get(f"/uppy/{TOKEN}/s3/params", params={"filename": name, "type": "text/html"})
    assert [asked.filename for asked in upload.asked[::2]] == [asked.filename for asked in upload.asked[1::2]]
    assert {asked.content_type for asked in upload.asked} == {"video/mp4", "text/html"}


@given(st.uuids(version=4).map(lambda one: one.int), st.integers(0, 4_095))
def test_the_key_of_a_media_is_known_by_its_shard_and_nothing_else(random: int, shard: int) -> None:
    media_id = UUID(int=random & ~(0xFFFF << 64) | 0x7 << 76 | shard << 64)
    key = f"{shard:03x}/{media_id}/original"
    assert companion.media_id_of(key) == str(media_id)
    for other in (
        f"{(shard + 1) % 4_096:03x}/{media_id}/original",
        f"{shard:04x}/{media_id}/original",
        f"{shard:03x}/{str(media_id).upper()}/original" if str(media_id) != str(media_id).upper() else "",
        f"/{key}",
        f"{key}/",
        f"{key}/../original",
        f"{shard:03x}/{media_id}/incoming",
        f"{shard:03x}/{media_id}",
        f"{shard:03x}/{media_id.hex}/original",
        f"{shard:03x}//{media_id}/original",
        key.replace("/", "%2F"),
        f"{key}\n",
    ):
        with pytest.raises(errors.NotFound):
            companion.media_id_of(other)


@given(st.text())
def test_no_text_makes_reading_a_key_fail_otherwise(text: str) -> None:
    with pytest.raises(errors.NotFound):
        companion.media_id_of(text)


@pytest.mark.parametrize(
    "key", ["", "a/b/original", f"fff/{MEDIA_ID}/original", f"{SHARD}/{MEDIA_ID}/incoming", "../x"]
)
async def test_a_key_that_is_no_medias_is_like_no_media_at_all(key: str) -> None:
    upload = storage()
    async with uppy(parts(upload=upload)) as client:
        base, query = f"/uppy/{TOKEN}/s3/multipart/{UPLOAD_ID}", {"key": key}
        sent = {"parts": [{"PartNumber": 1, "ETag": "e"}]}
        answers = [
            await client.get(base, params=query),
            await client.get(f"{base}/1", params=query),
            await client.get(f"{base}/batch", params={**query, "partNumbers": "1"}),
            await client.post(f"{base}/complete", params=query, json=sent),
            await client.delete(base, params=query),
        ]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.json()["type"].endswith("/media-not-found")
    assert upload.asked == []


@given(st.lists(st.integers(0, 99_999), min_size=1, max_size=1_000))
def test_part_numbers_are_read_as_they_were_written(numbers: list[int]) -> None:
    assert companion.part_numbers_of(",".join(map(str, numbers))) == numbers


@pytest.mark.parametrize("text", ["", ",", "1,", "1,,2", "1, 2", "-1", "a", "1.0", "٣", "100000", "1," * 1_000 + "1"])
def test_other_part_numbers_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        companion.part_numbers_of(text)


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x"])
async def test_a_part_has_a_number_from_1_to_10000(number: str) -> None:
    async with uppy(parts(upload=storage())) as client:
        response = await client.get(f"/uppy/{TOKEN}/s3/multipart/{UPLOAD_ID}/{number}{AT_KEY}")
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("path", "headers", "slug"),
    [
        ("/uppy/s3/params", {}, "token-missing"),
        ("/uppy/nonsense/s3/params", {}, "token-invalid"),
        ("/uppy/s3/params", {"Cookie": "millrace_upload=nonsense"}, "token-invalid"),
        ("/uppy/s3/params", {"Authorization": "Bearer nonsense"}, "token-invalid"),
        ("/uppy/s3/params", {"Cookie": f"millrace_upload={TOKEN}", "Sec-Fetch-Site": "same-site"}, "cookie-cross-site"),
        (
            "/uppy/s3/params",
            {"Cookie": f"millrace_upload={TOKEN}", "Origin": "https://evil.example"},
            "cookie-cross-site",
        ),
        # What is nearer to the call decides alone, so that a bad token is never outdone by a good cookie.
        ("/uppy/nonsense/s3/params", {"Cookie": f"millrace_upload={TOKEN}"}, "token-invalid"),
        (
            "/uppy/s3/params",
            {"Authorization": "Bearer nonsense", "Cookie": f"millrace_upload={TOKEN}"},
            "token-invalid",
        ),
    ],
)
async def test_who_uploads_must_be_known(path: str, headers: dict[str, str], slug: str) -> None:
    upload = storage()
    async with uppy(parts(upload=upload), **headers) as client:
        response = await client.get(path)
    assert response.status_code == 401
    assert response.json()["type"].endswith(f"/{slug}")
    assert upload.asked == []


async def test_strangers_hear_401_whatever_the_key_looks_like() -> None:
    async with uppy(parts()) as client:
        for query in ("", "?key=nonsense"):
            assert (await client.get(f"/uppy/s3/multipart/u{query}")).status_code == 401


async def test_a_token_in_the_path_works_on_pages_of_any_origin() -> None:
    headers = {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}
    async with uppy(parts(upload=storage()), **headers) as client:
        response = await client.get(f"/uppy/{TOKEN}/s3/params?filename=a")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers


async def test_what_version_5_shows_people_is_the_problems_detail() -> None:
    def refuse(_: Any) -> Any:
        raise errors.InvalidArgument("only image/* and video/* files are taken", reason="CONTENT_TYPE_UNSUPPORTED")

    async with uppy(parts(upload=Answers({"InitiateUpload": refuse}))) as client:
        refused = await client.get(f"/uppy/{TOKEN}/s3/params?filename=a&type=text/plain")
        missing = await client.get(f"/uppy/{TOKEN}/s3/sts")
        malformed = await client.post(f"/uppy/{TOKEN}/s3/multipart", json=[])
    for answer in (refused, missing, malformed):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["message"] == answer.json()["detail"]
    assert refused.json()["message"] == "Only image/* and video/* files are taken."


async def test_the_api_has_no_such_member() -> None:
    async with client_of(parts()) as client:
        assert "message" not in (await client.get("/v1/media/nonsense")).json()


async def test_ten_thousand_parts_fit_into_complete_and_only_there() -> None:
    upload = storage()
    sent = {"parts": [{"PartNumber": number, "ETag": f'"{"f" * 64}"'} for number in range(1, 10_001)]}
    async with uppy(parts(upload=upload)) as client:
        base = f"/uppy/{TOKEN}/s3/multipart"
        completed = await client.post(f"{base}/{UPLOAD_ID}/complete{AT_KEY}", json=sent)
        too_large = await client.post(base, content=json.dumps(sent))
    assert completed.status_code == 200
    assert len(upload.asked[0].parts) == 10_000
    assert too_large.status_code == 413


@pytest.mark.parametrize(
    ("path", "shown", "token"),
    [
        ("/uppy/abc/s3/params", "/uppy/s3/params", "abc"),
        ("/uppy/abc", "/uppy", "abc"),
        ("/uppy/abc/", "/uppy/", "abc"),
        ("/uppy/abc//s3/params", "/uppy//s3/params", "abc"),
        ("//uppy//abc/s3", "/uppy/s3", "abc"),
        ("/uppy/s3abc/s3", "/uppy/s3", "s3abc"),
        ("/uppy/s3/params", "/uppy/s3/params", None),
        ("/uppy/s3", "/uppy/s3", None),
        ("/uppy", "/uppy", None),
        ("/uppy/", "/uppy/", None),
        ("/v1/media", "/v1/media", None),
        ("/upy/eyJhbGc.eyJzdWI.c2ln/s3", "/upy/-/s3", None),
        ("/uppy/s3/eyJhbGc.eyJzdWI.c2ln", "/uppy/s3/-", None),
    ],
)
def test_a_path_is_shown_without_its_token(path: str, shown: str, token: str | None) -> None:
    assert without_token(path) == (shown, token)


@pytest.fixture(scope="module")
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


@pytest.mark.parametrize(
    "path",
    [
        f"/uppy/{TOKEN}/s3/params?filename=a",
        f"/uppy/{TOKEN}/s3/nowhere",
        f"/uppy/{TOKEN}/s3/multipart/u?key=nonsense",
        f"/uppy/{TOKEN}x/s3/params",
        f"/uppy/{TOKEN}",
        f"/uppy/{TOKEN}//s3/params",
        f"/upy/{TOKEN}/s3/params",
        f"/uppy/{TOKEN}/s3/multipart/broken{AT_KEY}",
    ],
)
async def test_no_token_is_kept_anywhere(path: str, spans: InMemorySpanExporter) -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    upload = storage()
    upload.by_rpc["ListParts"] = broken
    spans.clear()
    with capture_logs() as logged:
        async with uppy(parts(upload=upload)) as client:
            response = await client.get(path)
    assert logged[-1]["event"] == "request"
    (span,) = spans.get_finished_spans()
    told = [repr(logged), response.text, span.to_json(), repr(response.headers)]
    for one in told:
        assert TOKEN not in one
        assert TOKEN.rpartition(".")[2] not in one
    assert span.attributes is not None
    assert str(span.attributes["url.path"]).startswith(("/uppy", "/upy/-/"))
