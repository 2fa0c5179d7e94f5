"""The upload page in a real browser: files survive what networks, people and servers do to them."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.async_api import (
    Browser,
    CDPSession,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    Response,
    Route,
    expect,
)

import millrace
from deploy.local.stack import Stack
from tests.env import Env
from tests.journey.browser import chromium, padded
from tests.journey.test_uppy import Originals, originals, sha256_of

__all__ = ["chromium", "originals"]

pytestmark = [pytest.mark.journey, pytest.mark.browser]

BIG_BYTES = 120_000_000
PART_BYTES = 10 * 1024 * 1024
BIG_PARTS = -(-BIG_BYTES // PART_BYTES)
UPLINK_BYTES_S = 12 * 1024 * 1024
"""Slow enough that the middle of the file is also the middle of its upload."""
SLOW_BYTES_S = 3 * 1024 * 1024
OFFLINE_S = 3.0
SOON_MS = 60_000
PUBLISHED_MS = 180_000

_WITHOUT_HANDLES = (
    "delete window.showOpenFilePicker; delete window.showDirectoryPicker;"
    "delete DataTransferItem.prototype.getAsFileSystemHandle"
)
"""Makes Chromium what Firefox and Safari are: without a way to keep a file over a reload."""

_REMEMBER = """
window.shown = [];
new MutationObserver(() => {
  for (const row of document.querySelectorAll("li.upload")) window.shown.push(`${row.dataset.state}: ${row.innerText}`);
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""
"""Keeps all that rows show: a wait of a quarter of a second is over before anybody asks whether it is there."""


@dataclass(slots=True)
class Visit:
    """An upload page that somebody has open, and what is seen of it from outside."""

    page: Page
    gateway_url: str
    storage_url: str
    token: str
    network: CDPSession
    stored: Counter[int] = field(default_factory=Counter)
    """How often storage confirmed each part."""
    under_way: int = 0
    """PUTs that have not ended."""
    media_ids: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    forgiven: re.Pattern[str] = re.compile(r"net::ERR_INTERNET_DISCONNECTED|net::ERR_FAILED")

    async def open(self) -> None:
        """Opens the page with a token."""
        await self.page.goto(f"{self.gateway_url}/upload#token={self.token}")
        await self.is_ready()

    async def is_ready(self) -> None:
        """Waits until files can go in and those of an earlier page are back."""
        await expect(self.page.locator("main")).to_have_attribute("data-state", "ready", timeout=SOON_MS)

    async def condition(self, *, offline: bool = False, uplink_bytes_s: int = -1) -> None:
        """Sets the browser's network."""
        await self.network.send(
            "Network.emulateNetworkConditions",
            {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": uplink_bytes_s},
        )

    async def give(self, *files: Path) -> None:
        """Chooses files as the file dialogue would."""
        await self.page.set_input_files("#files", list(files))

    async def drop(self, *files: Path) -> None:
        """Drags files from the desktop and drops them in the middle of nowhere in particular."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            await self.network.send("Input.dispatchDragEvent", {"type": kind, "x": 40, "y": 500, "data": data})

    def row(self, name: str) -> Locator:
        """The file's entry in the list."""
        return self.page.get_by_role("listitem").filter(has=self.page.get_by_role("heading", name=name, exact=True))

    def button(self, name: str) -> Locator:
        """A button by its name, all of it."""
        return self.page.get_by_role("button", name=name, exact=True)

    async def is_in_state(self, name: str, *states: str, within_ms: int = SOON_MS) -> None:
        """Waits until a file is in one of these states."""
        await expect(self.row(name)).to_have_attribute(
            "data-state", re.compile(f"^({'|'.join(states)})$"), timeout=within_ms
        )

    async def until_stored(self, count: int) -> None:
        """Waits until storage has confirmed so many parts."""
        async with asyncio.timeout(SOON_MS / 1_000):
            while True:
                if len(self.stored) >= count:
                    return
                await asyncio.sleep(0.02)

    async def call(self, method: str, path: str) -> Any:
        """Asks the API behind the page's back."""
        async with httpx.AsyncClient(base_url=self.gateway_url) as http:
            answer = await http.request(method, path, headers={"Authorization": f"Bearer {self.token}"})
        return answer.raise_for_status().json()

    async def held(self) -> set[int]:
        """The parts that storage holds of the latest upload, once that no longer changes."""
        latest: set[int] | None = None
        while True:
            answer = await self.call("GET", f"/v1/uploads/{self.media_ids[-1]}/parts")
            now = {part["part_number"] for part in answer["parts"]}
            if now == latest:
                return now
            latest = now
            await asyncio.sleep(0.5)


def _listen(visit: Visit) -> None:
    page = visit.page

    def is_put(request: Request) -> bool:
        return request.method == "PUT" and request.url.startswith(visit.storage_url)

    def begin(request: Request) -> None:
        visit.under_way += is_put(request)

    def end(request: Request) -> None:
        visit.under_way -= is_put(request)

    async def answer(response: Response) -> None:
        if is_put(response.request) and response.ok:
            visit.stored[int(parse_qs(urlsplit(response.url).query).get("partNumber", ["1"])[0])] += 1
        if response.url.endswith("/v1/initiate-upload") and response.ok:
            visit.media_ids.append((await response.json())["media_id"])

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not visit.forgiven.search(message.text):
            visit.complaints.append(message.text)

    async def confirm(dialogue: Dialog) -> None:
        await dialogue.accept()

    page.on("request", begin)
    page.on("requestfinished", end)
    page.on("requestfailed", end)
    page.on("response", answer)
    page.on("console", hear)
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("dialog", confirm)


@pytest.fixture
async def visit(suite: Stack, env: Env, chromium: Browser) -> AsyncIterator[Visit]:
    """A visitor with a token, who has chosen nothing yet; the page must not complain on its console."""
    context = await chromium.new_context(viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    network = await context.new_cdp_session(page)
    await network.send("Network.enable")
    visit = Visit(page, env["MILLRACE_GATEWAY_URL"], env["MILLRACE_S3_ENDPOINT_URL"], suite.token("alice"), network)
    _listen(visit)
    await visit.open()
    yield visit
    await context.close()
    assert not visit.complaints


@pytest.fixture(scope="module")
def big(samples_clip: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A playable clip of 120 MB."""
    return padded(samples_clip, tmp_path_factory.mktemp("big") / "holiday.mp4", BIG_BYTES)


@pytest.fixture(scope="module")
def middling(samples_clip: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A playable clip of three parts."""
    return padded(samples_clip, tmp_path_factory.mktemp("middling") / "walk.mp4", 2 * PART_BYTES + 1_000_000)


# -- what happens to networks and pages ---------------------------------------------------------------------------


async def test_a_big_file_survives_a_cut(
    client: millrace.Client, originals: Originals, big: Path, visit: Visit
) -> None:
    await visit.condition(uplink_bytes_s=UPLINK_BYTES_S)
    await visit.drop(big)
    await visit.until_stored(4)
    await visit.condition(offline=True)
    await visit.is_in_state("holiday.mp4", "offline")
    before = set(visit.stored)
    await expect(visit.row("holiday.mp4")).to_contain_text("goes on by itself")
    await asyncio.sleep(OFFLINE_S)
    assert len(before) < BIG_PARTS, "the cut came too late to be in the middle"
    assert set(visit.stored) == before

    await visit.condition()
    await visit.is_in_state("holiday.mp4", "processing", "published")
    assert sorted(visit.stored) == list(range(1, BIG_PARTS + 1))
    assert {number: visit.stored[number] for number in before} == dict.fromkeys(before, 1), "sent again"

    (media_id,) = visit.media_ids
    assert await asyncio.to_thread(originals.sha256, media_id) == sha256_of(big)
    await visit.is_in_state("holiday.mp4", "published", within_ms=PUBLISHED_MS)
    assert (await client.get(media_id)).status is millrace.Status.PUBLISHED


async def test_after_a_reload_the_same_file_sends_only_what_is_missing(
    originals: Originals, big: Path, samples: Path, visit: Visit
) -> None:
    await visit.page.add_init_script(_WITHOUT_HANDLES)
    await visit.page.reload()
    await visit.condition(uplink_bytes_s=UPLINK_BYTES_S)
    await visit.give(big)
    await visit.until_stored(4)
    await visit.page.reload()
    await visit.is_ready()
    await visit.is_in_state("holiday.mp4", "file")
    await expect(visit.row("holiday.mp4")).to_contain_text(re.compile(r"[4-9] of 12 parts stored"))
    held = await visit.held()
    assert 4 <= len(held) < BIG_PARTS

    await _choose_again(visit, "holiday.mp4", samples / "photo-4000.jpg")
    await expect(visit.row("holiday.mp4")).to_contain_text("That was another file: photo-4000.jpg.")
    await visit.is_in_state("holiday.mp4", "file")

    visit.stored.clear()
    await visit.condition()
    await _choose_again(visit, "holiday.mp4", big)
    await visit.is_in_state("holiday.mp4", "processing", "published")
    assert visit.stored == dict.fromkeys(set(range(1, BIG_PARTS + 1)) - held, 1)
    (media_id,) = visit.media_ids
    assert await asyncio.to_thread(originals.sha256, media_id) == sha256_of(big)


async def _choose_again(visit: Visit, name: str, file: Path) -> None:
    async with visit.page.expect_file_chooser() as choosing:
        await visit.button(f"Choose file {name}").click()
    await (await choosing.value).set_files(file)


async def test_a_dropped_file_goes_on_after_a_reload_without_being_chosen_again(
    originals: Originals, big: Path, visit: Visit
) -> None:
    await visit.condition(uplink_bytes_s=UPLINK_BYTES_S)
    await visit.drop(big)
    await visit.until_stored(2)
    await visit.page.reload()
    await visit.is_ready()
    await visit.condition()
    # Without a window to ask in, Chromium permits the handle at once; with one, it takes a click on Resume.
    if await visit.button("Resume holiday.mp4").is_visible():
        await visit.button("Resume holiday.mp4").click()
    await visit.is_in_state("holiday.mp4", "processing", "published")
    (media_id,) = visit.media_ids
    assert await asyncio.to_thread(originals.sha256, media_id) == sha256_of(big)


async def test_a_reload_keeps_what_is_done_and_a_paused_file_paused(
    samples: Path, middling: Path, visit: Visit
) -> None:
    await visit.give(samples / "photo-4000.jpg")
    await visit.is_in_state("photo-4000.jpg", "published", within_ms=PUBLISHED_MS)
    await visit.condition(uplink_bytes_s=SLOW_BYTES_S)
    await visit.drop(middling)
    await visit.is_in_state("walk.mp4", "sending")
    await visit.button("Pause walk.mp4").click()
    await visit.is_in_state("walk.mp4", "paused")
    await asyncio.sleep(0.5)  # until the page has written it down
    await visit.page.reload()
    await visit.is_ready()
    await visit.is_in_state("photo-4000.jpg", "published")
    await visit.is_in_state("walk.mp4", "file")
    await expect(visit.row("walk.mp4")).to_contain_text("Paused before this page was reloaded.")
    await asyncio.sleep(0.5)
    assert visit.under_way == 0
    await visit.condition()
    await visit.button("Resume walk.mp4").click()
    await visit.is_in_state("walk.mp4", "processing", "published")


# -- what people do -----------------------------------------------------------------------------------------------


async def test_everything_is_done_by_keyboard(middling: Path, visit: Visit) -> None:
    page = visit.page
    await visit.condition(uplink_bytes_s=SLOW_BYTES_S)
    await visit.give(middling)
    await visit.is_in_state("walk.mp4", "sending")
    await _tab_to(visit, "Pause walk.mp4")
    await page.keyboard.press("Enter")
    await visit.is_in_state("walk.mp4", "paused")
    await expect(visit.button("Resume walk.mp4")).to_be_focused()
    await asyncio.sleep(0.5)
    assert visit.under_way == 0, "a paused file is still sent"

    await _tab_to(visit, "Cancel walk.mp4")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Space")
    await visit.is_in_state("walk.mp4", "sending")
    await visit.until_stored(1)
    await _tab_to(visit, "Cancel walk.mp4")
    await page.keyboard.press("Enter")
    dialogue = page.get_by_role("dialog", name="Cancel this upload?")
    await expect(dialogue).to_contain_text("will be thrown away")
    await expect(visit.button("Keep uploading")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(dialogue).to_be_hidden()
    await expect(visit.button("Cancel walk.mp4")).to_be_focused()

    await visit.condition()
    await visit.is_in_state("walk.mp4", "processing", "published")
    await _tab_to(visit, "Watch walk.mp4 (opens a new tab)")
    async with page.context.expect_page() as opening:
        await page.keyboard.press("Enter")
    watching = await opening.value
    assert urlsplit(watching.url).path == f"/watch/{visit.media_ids[-1]}"
    assert "token" not in watching.url
    await expect(watching.locator("main")).to_have_attribute("data-state", "published", timeout=PUBLISHED_MS)
    await visit.is_in_state("walk.mp4", "published")
    await _tab_to(visit, "Remove walk.mp4")
    await page.keyboard.press("Enter")
    await expect(visit.row("walk.mp4")).to_have_count(0)
    await expect(visit.button("Choose files")).to_be_focused()


async def _tab_to(visit: Visit, name: str) -> None:
    """Presses Tab until something of this name has the focus, and sees to it that one can tell."""
    for _ in range(30):
        await visit.page.keyboard.press("Tab")
        focused = await visit.page.evaluate(
            """() => {
                const one = document.activeElement;
                return [one.getAttribute("aria-label") ?? one.textContent.trim(), getComputedStyle(one).outlineStyle];
            }"""
        )
        if focused[0] == name:
            assert focused[1] == "solid"
            return
    raise AssertionError(f"no way to {name} by keyboard")


async def test_a_cancelled_file_leaves_nothing_and_can_be_sent_after_all(
    client: millrace.Client, originals: Originals, middling: Path, visit: Visit
) -> None:
    await visit.condition(uplink_bytes_s=SLOW_BYTES_S)
    await visit.give(middling)
    await visit.until_stored(1)
    await visit.button("Cancel walk.mp4").click()
    await visit.button("Cancel upload").click()
    await visit.is_in_state("walk.mp4", "cancelled")
    (media_id,) = visit.media_ids
    async with asyncio.timeout(SOON_MS / 1_000):
        while True:
            media = await client.get(media_id)
            if media.status.is_final:
                break
            await asyncio.sleep(0.1)
    assert media.failure is not None
    assert media.failure.reason == "upload_aborted"
    async with asyncio.timeout(SOON_MS / 1_000):
        while True:
            if not await asyncio.to_thread(originals.open_uploads, media_id):
                break
            await asyncio.sleep(0.1)

    await visit.condition()
    await visit.button("Upload again walk.mp4").click()
    await visit.is_in_state("walk.mp4", "processing", "published")
    assert len(set(visit.media_ids)) == 2


async def test_many_files_and_folders_come_at_once(samples: Path, visit: Visit, tmp_path: Path) -> None:
    folder = tmp_path / "trip"
    (folder / "day 1").mkdir(parents=True)
    photo = (samples / "photo-4000.jpg").read_bytes()
    for index in range(6):
        (folder / "day 1" / f"photo {index}.jpg").write_bytes(photo)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.jpg").write_bytes(photo)
    alone = tmp_path / "alone.mp4"
    alone.write_bytes((samples / "clip-360p.mp4").read_bytes())
    await visit.drop(folder, alone)
    rows = visit.page.get_by_role("list", name="Files").get_by_role("listitem")
    await expect(rows).to_have_count(7)
    await expect(visit.row("photo 3.jpg")).to_contain_text("trip/day 1")
    await expect(visit.page.get_by_text("2 files left out, neither image nor video.").first).to_be_visible()
    await expect(visit.page.get_by_role("heading", name="7 files published")).to_be_visible(timeout=PUBLISHED_MS)
    assert await visit.row("alone.mp4").locator("canvas").count(), "no picture of the video"
    await visit.drop(alone)  # what is done may be uploaded once more
    await expect(rows).to_have_count(8)
    await visit.button("Clear finished").click()
    await expect(rows).to_have_count(1)


# -- what servers say ---------------------------------------------------------------------------------------------


async def test_a_refusal_says_why_and_offers_only_what_may_help(visit: Visit, tmp_path: Path) -> None:
    visit.forgiven = re.compile("422")
    song, empty = tmp_path / "song.mp3", tmp_path / "empty.png"
    song.write_bytes(b"ID3" * 1_000)
    empty.write_bytes(b"")
    await visit.give(song, empty)
    for name in ("song.mp3", "empty.png"):
        await visit.is_in_state(name, "failed")
        await expect(visit.button(f"Try again {name}")).to_be_hidden()
    await expect(visit.row("song.mp3")).to_contain_text(re.compile("image", re.IGNORECASE))
    await expect(visit.row("empty.png")).to_contain_text("The file is empty.")
    await expect(visit.page.get_by_role("status")).to_contain_text("song.mp3 failed")


async def test_storage_may_stumble_and_urls_may_expire(samples: Path, visit: Visit) -> None:
    visit.forgiven = re.compile("503|403")
    answers = [(503, "SlowDown"), (403, "AccessDenied"), (403, "AccessDenied")]
    urls: list[str] = []

    async def stumble(route: Route) -> None:
        urls.append(route.request.url)
        if not answers:
            return await route.continue_()
        status, code = answers.pop(0)
        await route.fulfill(
            status=status,
            headers={"Access-Control-Allow-Origin": "*"},
            content_type="application/xml",
            body=f"<Error><Code>{code}</Code></Error>",
        )

    await visit.page.route(re.compile("X-Amz-Signature"), stumble)
    await visit.page.evaluate(_REMEMBER)
    await visit.give(samples / "clip-360p.mp4")
    await visit.is_in_state("clip-360p.mp4", "processing", "published")
    shown = await visit.page.evaluate("window.shown")
    assert any(re.match("retrying:.*Object storage answered 503 SlowDown[.]", row, re.DOTALL) for row in shown), shown
    assert len(urls) == 4
    assert urls[0] == urls[1], "a URL was thrown away that was still good"
    assert len(visit.media_ids) == 1


async def test_a_lost_answer_of_storage_costs_no_second_copy(originals: Originals, samples: Path, visit: Visit) -> None:
    visit.forgiven = re.compile("net::ERR_FAILED|412")
    statuses: list[int] = []

    async def lose(route: Route) -> None:
        if statuses:
            return await route.continue_()
        statuses.append((await route.fetch()).status)
        await route.abort()

    await visit.page.route(re.compile("X-Amz-Signature"), lose)
    await visit.give(samples / "clip-360p.mp4")
    await visit.is_in_state("clip-360p.mp4", "processing", "published")
    assert statuses == [200]
    assert not visit.stored, "storage took the same bytes twice"
    (media_id,) = visit.media_ids
    assert await asyncio.to_thread(originals.sha256, media_id) == sha256_of(samples / "clip-360p.mp4")


async def test_what_the_server_gave_up_is_begun_anew(originals: Originals, middling: Path, visit: Visit) -> None:
    await visit.condition(uplink_bytes_s=SLOW_BYTES_S)
    await visit.give(middling)
    await visit.until_stored(1)
    await visit.button("Pause walk.mp4").click()
    await visit.call("DELETE", f"/v1/uploads/{visit.media_ids[0]}")
    visit.forgiven = re.compile("409|404")
    await visit.condition()
    await visit.button("Resume walk.mp4").click()
    await visit.is_in_state("walk.mp4", "processing", "published")
    await expect(visit.row("walk.mp4")).to_contain_text("It was begun anew.")
    assert len(set(visit.media_ids)) == 2
    assert await asyncio.to_thread(originals.sha256, visit.media_ids[-1]) == sha256_of(middling)


async def test_an_upload_that_was_completed_behind_the_pages_back_is_accepted(samples: Path, visit: Visit) -> None:
    """As after a lost answer: the page completes, never hears of it, and asks again."""
    visit.forgiven = re.compile("net::ERR_FAILED")
    lost = 0

    async def lose(route: Route) -> None:
        nonlocal lost
        if lost:
            return await route.continue_()
        lost += 1
        await route.fetch()
        await route.abort()

    await visit.page.route("**/v1/complete-upload", lose)
    await visit.give(samples / "clip-360p.mp4")
    await visit.is_in_state("clip-360p.mp4", "published", within_ms=PUBLISHED_MS)
    assert lost == 1
    assert visit.stored == {1: 1}


async def test_a_refused_token_is_asked_for_and_uploads_wait_for_it(samples: Path, visit: Visit) -> None:
    visit.forgiven = re.compile("401")
    page, token = visit.page, visit.token
    await page.evaluate("sessionStorage.setItem('millrace-token', 'worn-out')")
    await page.reload()
    await visit.is_ready()
    await visit.give(samples / "clip-360p.mp4")
    await expect(page.locator("main")).to_have_attribute("data-state", "token", timeout=SOON_MS)
    await visit.is_in_state("clip-360p.mp4", "waiting")
    await page.get_by_label("Access token").fill(token)
    await page.keyboard.press("Enter")
    await visit.is_in_state("clip-360p.mp4", "processing", "published")


async def test_nobody_sees_another_persons_list(suite: Stack, samples: Path, visit: Visit) -> None:
    await visit.give(samples / "photo-4000.jpg")
    await visit.is_in_state("photo-4000.jpg", "processing", "published")
    visit.token = suite.token("mallory")
    await visit.open()
    await expect(visit.row("photo-4000.jpg")).to_have_count(0)
    await visit.page.reload()
    await visit.is_ready()
    await expect(visit.row("photo-4000.jpg")).to_have_count(0)


# -- how it looks and reads ---------------------------------------------------------------------------------------


async def test_every_control_has_a_name_and_progress_is_told_in_words(middling: Path, visit: Visit) -> None:
    page = visit.page
    await expect(page.get_by_role("heading", level=1, name="Upload")).to_be_visible()
    await expect(page.get_by_role("navigation", name="Site").get_by_role("link", name="Upload")).to_have_attribute(
        "aria-current", "page"
    )
    await visit.condition(uplink_bytes_s=SLOW_BYTES_S)
    await visit.give(middling)
    await expect(page.get_by_role("status")).to_contain_text("1 file added.")
    bar = page.get_by_role("progressbar", name="walk.mp4")
    await visit.until_stored(1)
    await expect(bar).to_have_attribute(
        "aria-valuetext", re.compile(r"Uploading, \d+ % sent, [1-3] of 3 parts stored"), timeout=SOON_MS
    )
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, [role=progressbar], progress")]
            .filter(one => one.checkVisibility())
            .filter(one => !(one.ariaLabel || one.textContent.trim() || one.labels?.length
                || document.getElementById(one.getAttribute("aria-labelledby"))?.textContent))
            .map(one => one.outerHTML)"""
    )
    assert nameless == []
    assert await page.locator(".upload *").count() < 60, "a node for each part would be thousands"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_small_phone(samples: Path, visit: Visit, scheme: Any) -> None:
    page = visit.page
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await visit.give(samples / "photo-4000.jpg", samples / "clip-360p.mp4")
    await visit.is_in_state("clip-360p.mp4", "published", within_ms=PUBLISHED_MS)
    for element in ("html", "#uploads", ".upload"):
        overflow = await page.evaluate(
            "name => { const one = document.querySelector(name); return one.scrollWidth - one.clientWidth }", element
        )
        assert overflow <= 0, element


# -- what is decided without anybody ------------------------------------------------------------------------------


async def test_decisions_about_files_parts_and_answers(visit: Visit) -> None:
    decided = await visit.page.evaluate(
        """async () => {
            const plan = await import("/static/uploads/plan.js");
            const retry = await import("/static/uploads/retry.js");
            const { Board } = await import("/static/uploads/board.js");
            const { Rate } = await import("/static/uploads/rate.js");
            const board = new Board(25, 10);
            board.store(1, "a"); board.send(2, 5); board.send(3, 5); board.drop(2);
            const rate = new Rate();
            for (let s = 0; s <= 20; s += 1) rate.add(1000, s * 1000);
            return {
                types: ["a.MOV", "b.heic", "c.txt", "d"].map(name => plan.contentTypeOf(name, "")),
                claimed: plan.contentTypeOf("x.bin", "video/mp4"),
                ranges: [1, 2, 3].map(n => plan.rangeOf(n, 10, 25)),
                usable: [...plan.usable([{part_number: 1, etag: "a", size_bytes: 10},
                    {part_number: 2, etag: "b", size_bytes: 9}, {part_number: 3, etag: "c", size_bytes: 5}], 10, 25)],
                hashed: [plan.isHashed(1e9, {}), plan.isHashed(5e12, {}), plan.isHashed(1, undefined)],
                meanings: [[200, ""], [0, ""], [503, ""], [400, "RequestTimeout"], [403, "AccessDenied"],
                    [404, "NoSuchUpload"], [412, ""], [400, "BadDigest"], [400, "EntityTooLarge"]]
                    .map(([status, code]) => retry.meaningOf(status, code)),
                delays: [retry.delayMs(1, 0), retry.delayMs(2, 1), retry.delayMs(60, 1)],
                sent: board.sentBytes, missing: board.missing(), cells: board.cells(2),
                rate: rate.at(20_000), settled: new Rate().at(0), late: rate.at(60_000),
            };
        }"""
    )
    assert decided["types"] == ["video/quicktime", "image/heic", "application/octet-stream", "application/octet-stream"]
    assert decided["claimed"] == "video/mp4"
    assert decided["ranges"] == [{"begin": 0, "end": 10}, {"begin": 10, "end": 20}, {"begin": 20, "end": 25}]
    assert decided["usable"] == [[1, "a"], [3, "c"]]
    assert decided["hashed"] == [True, False, True], "the browser has crypto.subtle where none is named"
    assert decided["meanings"] == ["taken", "again", "again", "again", "sign", "lost", "there", "digest", "refused"]
    assert decided["delays"] == [250, 1_000, 20_000]
    assert (decided["sent"], decided["missing"]) == (15, [2, 3])
    assert decided["cells"] == [{"stored": 0.5, "underWay": 0}, {"stored": 0, "underWay": 1}]
    assert decided["rate"] == pytest.approx(1_000, rel=0.2)
    assert (decided["settled"], decided["late"]) == (0, 0)
