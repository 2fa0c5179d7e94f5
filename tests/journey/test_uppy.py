"""Uppy as npm gives it, in a real browser: its S3 plugin in two versions, with our endpoint as its setting."""

import asyncio
import hashlib
import os
import subprocess
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from playwright.async_api import Browser, CDPSession, ConsoleMessage, Page, Request

import millrace
from deploy.local.stack import Stack
from tests.env import Env
from tests.journey.browser import chromium, padded
from tests.journey.uppy import bundle

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["chromium"]

pytestmark = [pytest.mark.journey, pytest.mark.browser]

BIG_BYTES = 120_000_000
CHUNK_BYTES = 5 * 1024 * 1024
"""Uppy's own: files over 100 MiB go in parts of 5 MiB."""
BIG_PARTS = -(-BIG_BYTES // CHUNK_BYTES)
CUT_IN_PART = 9
UPLINK_BYTES_S = 10 * 1024 * 1024
"""Slow enough to be in the middle of that part when the cut comes."""
OFFLINE_S = 3.0
SOON_S = 60.0
PUBLISHED_WITHIN_S = 150.0

Auth = Literal["token", "bearer", "cookie"]


@dataclass(frozen=True, slots=True)
class Door:
    """A version of the plugin, and how its calls say who asks."""

    version: str
    auth: Auth

    def __str__(self) -> str:
        return f"{self.version}-{self.auth}"


@dataclass(slots=True)
class Visit:
    """A page with an Uppy, and what was seen of it from outside."""

    door: Door
    page: Page
    settings: dict[str, object]
    network: CDPSession
    complaints: list[str] = field(default_factory=list)
    stored: Counter[int] = field(default_factory=Counter)
    """How often each part was sent to storage in full."""
    broken: int = 0
    """Requests that the network broke."""
    begun: dict[int, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    """Set once a part is on its way to storage."""

    async def begin(self, file: Path) -> None:
        """Gives Uppy its settings and one file."""
        await self.page.set_input_files("input", file)
        await self.page.evaluate("settings => window.begin(settings)", self.settings)

    async def seen(self) -> dict[str, Any]:
        """What Uppy has said so far."""
        seen: dict[str, Any] = await self.page.evaluate("window.seen")
        return seen

    async def until_parts(self, count: int) -> dict[str, Any]:
        """Waits until so many parts are uploaded, as Uppy says."""
        async with asyncio.timeout(SOON_S):
            while True:
                seen = await self.seen()
                assert not seen["error"], seen
                if len(seen["parts"]) >= count:
                    return seen
                await asyncio.sleep(0.02)

    async def until_done(self) -> dict[str, Any]:
        """Waits until the upload succeeded; where Uppy shows an error, presses its button to try again."""
        async with asyncio.timeout(SOON_S):
            while not (seen := await self.seen())["done"]:
                if seen["error"]:
                    await self.page.evaluate("window.seen.error = ''; window.uppy.retryAll()")
                await asyncio.sleep(0.1)
        return seen

    async def condition(self, *, offline: bool = False, uplink_bytes_s: int = -1) -> None:
        """Sets the browser's network."""
        await self.network.send(
            "Network.emulateNetworkConditions",
            {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": uplink_bytes_s},
        )


# -- what the tests need ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both bundles and the page."""
    folder = tmp_path_factory.mktemp("uppy")
    try:
        bundle.bundle(folder)
    except (bundle.NodeMissing, subprocess.SubprocessError) as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"UPPY CANNOT BE HAD FROM NPM: nothing has shown that it works with us. {error}")
    return folder


@dataclass(frozen=True, slots=True)
class Site:
    """A page for each Uppy, and the folder in which they are."""

    origin: str
    folder: Path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere(bundles: Path) -> Iterator[Site]:
    """Somebody else's site: another origin than the gateway's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(bundles)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Site(f"http://127.0.0.1:{server.server_port}", bundles)
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True, slots=True)
class Originals:
    """What storage holds, seen with the services' own credentials."""

    s3: "S3Client"
    bucket: str

    def sha256(self, media_id: str) -> str | None:
        """Of the bytes that are stored for a media; None where there are none."""
        shard = media_id.replace("-", "")[13:16]
        stored = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{shard}/{media_id}/").get("Contents", [])
        if not stored:
            return None
        (one,) = stored
        digest = hashlib.sha256()
        for piece in self.s3.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].iter_chunks(1024 * 1024):
            digest.update(piece)
        return digest.hexdigest()

    def open_uploads(self, media_id: str) -> list[str]:
        """Multipart uploads that are still held for a media."""
        uploads = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [upload["UploadId"] for upload in uploads if media_id in upload["Key"]]


@pytest.fixture(scope="module")
def originals(env: Env) -> Originals:
    """The bucket of originals."""
    s3 = boto3.client(
        "s3",
        endpoint_url=env["MILLRACE_S3_ENDPOINT_URL"],
        region_name=env["MILLRACE_S3_REGION"],
        aws_access_key_id=env["MILLRACE_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=env["MILLRACE_S3_SECRET_ACCESS_KEY"],
    )
    return Originals(s3, env["MILLRACE_S3_ORIGINALS_BUCKET"])


@pytest.fixture(scope="module")
def big(samples_clip: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A playable clip of 120 MB."""
    return padded(samples_clip, tmp_path_factory.mktemp("big") / "holiday.mp4", BIG_BYTES)


@pytest.fixture(scope="module")
def small(samples: Path) -> Path:
    """A file that Uppy sends in one request."""
    return samples / "clip-360p.mp4"


@pytest.fixture
def door(request: pytest.FixtureRequest) -> Door:
    """Which Uppy comes, and how it says who asks."""
    assert isinstance(request.param, Door)
    return request.param


@pytest.fixture
async def visit(suite: Stack, env: Env, chromium: Browser, elsewhere: Site, door: Door) -> AsyncIterator[Visit]:
    """A page where a user of ours has chosen nothing yet; it reaches nothing but this machine."""
    gateway, token = env["MILLRACE_GATEWAY_URL"], suite.token("alice")
    context = await chromium.new_context(bypass_csp=door.auth == "cookie")
    page = await context.new_page()
    network = await context.new_cdp_session(page)
    await network.send("Network.enable")
    visit = Visit(door, page, {}, network)
    strangers: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            visit.complaints.append(message.text)

    def part_number(request: Request) -> int | None:
        numbers = parse_qs(urlsplit(request.url).query).get("partNumber")
        return int(numbers[0]) if request.method == "PUT" and numbers else None

    def meet(request: Request) -> None:
        if number := part_number(request):
            visit.begun[number].set()
        if "127.0.0.1" not in request.url and not request.url.startswith(("data:", "blob:")):
            strangers.append(request.url)

    def count(request: Request) -> None:
        if number := part_number(request):
            visit.stored[number] += 1

    def lose(request: Request) -> None:
        visit.broken += 1

    page.on("console", hear)
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("request", meet)
    page.on("requestfinished", count)
    page.on("requestfailed", lose)

    if door.auth == "cookie":
        # A page of the gateway's own site. What stands at this address has no script, and its policy is not Uppy's.
        await page.goto(f"{gateway}/healthz")
        await page.set_content(_page(elsewhere))
        await page.add_script_tag(path=elsewhere.folder / f"{door.version}.js")
    else:
        await page.goto(f"{elsewhere.origin}/page.html")
        await page.add_script_tag(url=f"{elsewhere.origin}/{door.version}.js")

    name = "endpoint" if door.version == "v5" else "companionEndpoint"
    match door.auth:
        case "token":
            visit.settings = {name: await _token_endpoint(gateway, token)}
        case "bearer":
            visit.settings = {name: f"{gateway}/uppy", "headers": {"Authorization": f"Bearer {token}"}}
        case "cookie":
            visit.settings = {name: await page.evaluate(_TAKE_COOKIE, token)}
            assert visit.settings[name] == f"{gateway}/uppy"
    visit.complaints.clear()  # that there is no icon
    yield visit
    await context.close()
    assert not strangers


def _page(site: Site) -> str:
    return (site.folder / "page.html").read_text()


_TAKE_COOKIE = """async token => {
    const answer = await fetch("/v1/upload-tokens", {
        method: "POST",
        headers: {"Authorization": `Bearer ${token}`, "Content-Type": "application/json"},
        body: JSON.stringify({cookie: true}),
    });
    return (await answer.json()).endpoint;
}"""


async def _token_endpoint(gateway: str, token: str) -> str:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{gateway}/v1/upload-tokens", json={}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["endpoint"])


def doors(*chosen: Door) -> pytest.MarkDecorator:
    """Runs a test once for each of these."""
    return pytest.mark.parametrize("door", chosen, indirect=True, ids=str)


def media_id_of(key: str) -> str:
    """Of an object's key."""
    return key.split("/")[1]


async def until_final(client: millrace.Client, media_id: str) -> millrace.Media:
    """Waits until nothing more happens to a media, and checks that it did not skip its processing."""
    met = []
    async with asyncio.timeout(PUBLISHED_WITHIN_S):
        while True:
            media = await client.get(media_id)
            if media.status not in met:
                met.append(media.status)
            if media.status.is_final:
                order = list(millrace.Status)
                assert met == sorted(met, key=order.index)
                return media
            await asyncio.sleep(0.05)


def sha256_of(file: Path) -> str:
    """Of a file here."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


# -- the tests ----------------------------------------------------------------------------------------------------


@doors(Door("v5", "token"), Door("v6", "token"))
async def test_a_big_file_survives_a_cut(
    env: Env, client: millrace.Client, originals: Originals, big: Path, visit: Visit
) -> None:
    await visit.condition(uplink_bytes_s=UPLINK_BYTES_S)
    await visit.begin(big)
    async with asyncio.timeout(SOON_S):
        await visit.begun[CUT_IN_PART].wait()
    await asyncio.sleep(0.05)
    await visit.condition(offline=True)
    before = await visit.seen()
    assert await visit.page.evaluate("navigator.onLine") is False
    await asyncio.sleep(OFFLINE_S)
    during = await visit.seen()
    assert not during["done"], "the cut came too late to be in the middle"
    assert len(during["parts"]) < BIG_PARTS
    assert visit.broken, "nothing was under way when the cut came"
    assert (await client.get(media_id_of(before["key"]))).status is millrace.Status.UPLOADING

    await visit.condition()
    done = await visit.until_done()
    assert done["version"] == bundle.VERSIONS[visit.door.version]
    media_id = media_id_of(done["key"])
    assert done["location"].startswith(f"{env['MILLRACE_GATEWAY_URL']}/watch/{media_id}")
    assert sorted(visit.stored) == list(range(1, BIG_PARTS + 1))
    again = {number: times for number, times in visit.stored.items() if times > 1 and number in before["parts"]}
    assert not again, "parts that storage had confirmed were sent again"

    media = await until_final(client, media_id)
    assert media.status is millrace.Status.PUBLISHED, media.failure
    assert originals.sha256(media_id) == sha256_of(big)
    assert not originals.open_uploads(media_id)


@doors(*(Door("v5", auth) for auth in ("token", "bearer", "cookie")), Door("v6", "token"), Door("v6", "cookie"))
async def test_a_small_file_needs_no_further_call(
    client: millrace.Client, originals: Originals, small: Path, visit: Visit
) -> None:
    await visit.begin(small)
    done = await visit.until_done()
    # SeaweedFS answers a form without the Location that S3 sends, which Uppy v5 mentions and does without.
    assert not [complaint for complaint in visit.complaints if "Could not read the Location header" not in complaint]
    media_id = media_id_of(done["key"])
    media = await until_final(client, media_id)
    assert media.status is millrace.Status.PUBLISHED, media.failure
    assert originals.sha256(media_id) == sha256_of(small)


@doors(Door("v5", "bearer"), Door("v6", "cookie"))
@pytest.mark.parametrize("button", ["cancelAll", "removeFile"])
async def test_an_abort_leaves_nothing(
    client: millrace.Client, originals: Originals, big: Path, visit: Visit, button: str
) -> None:
    await visit.condition(uplink_bytes_s=UPLINK_BYTES_S)
    await visit.begin(big)
    seen = await visit.until_parts(2)
    media_id = media_id_of(seen["key"])
    assert originals.open_uploads(media_id)
    await visit.page.evaluate(
        "button => button === 'cancelAll' ? uppy.cancelAll() : uppy.removeFile(uppy.getFiles()[0].id)", button
    )
    media = await until_final(client, media_id)
    assert media.status is millrace.Status.FAILED
    assert media.failure is not None
    assert media.failure.reason == "upload_aborted"
    async with asyncio.timeout(SOON_S):  # first the record, then storage
        while True:
            if not originals.open_uploads(media_id):
                break
            await asyncio.sleep(0.1)
    assert not (await visit.seen())["done"]
    assert originals.sha256(media_id) is None
