"""A real browser opens the pages that people see."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect

import millrace
from deploy.local.stack import Stack
from tests.env import Env
from tests.journey import films
from tests.journey.browser import chromium
from tests.journey.conftest import Journey, travel
from tests.journey.films import DURATION_S, FILMS, Film

__all__ = ["chromium"]

pytestmark = [pytest.mark.journey, pytest.mark.browser]

SOON_MS = 60_000


@pytest.fixture
async def context(chromium: Browser) -> AsyncIterator[BrowserContext]:
    context = await chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A page that must neither complain on its console nor fetch from anywhere but this machine."""
    complaints: list[str] = []
    strangers: list[str] = []
    page = await context.new_page()

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and "404" not in message.text:
            complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: strangers.append(request.url) if "127.0.0.1" not in request.url else None)
    yield page
    assert not complaints
    assert not [url for url in strangers if not url.startswith(("blob:", "data:", "about:"))]


async def until(page: Page, condition: str, argument: object = None) -> None:
    """Waits for a condition in the page; `wait_for_function` would need eval, which the page's policy forbids."""
    async with asyncio.timeout(SOON_MS / 1_000):
        while True:
            if await page.evaluate(condition, argument):
                return
            await asyncio.sleep(0.1)


_LISTEN_TO = """number => {
    const video = document.querySelector('video');
    if (!window.listener) {
        const context = new AudioContext(), source = context.createMediaElementSource(video);
        window.listener = context.createAnalyser();
        window.listener.fftSize = 8192;
        source.connect(window.listener);
    }
    window.millracePlayer.audioTrack = number;
    video.loop = true; video.currentTime = 1; video.play();
}"""

_HEARS = """toneHz => {
    const bins = new Float32Array(window.listener.frequencyBinCount);
    window.listener.getFloatFrequencyData(bins);
    const loudest = bins.indexOf(Math.max(...bins)) * window.listener.context.sampleRate / window.listener.fftSize;
    return Math.abs(loudest - toneHz) < 20;
}"""


def watch_url(env: Env, media_id: str, token: str = "") -> str:
    return f"{env['MILLRACE_GATEWAY_URL']}/watch/{media_id}" + (f"#token={token}" if token else "")


async def test_the_sample_video_plays_with_every_level(suite: Stack, env: Env, video: Journey, page: Page) -> None:
    await page.goto(watch_url(env, video.media.media_id, suite.token("alice")))
    await expect(page.locator("main")).to_have_attribute("data-state", "published", timeout=SOON_MS)
    await expect(page.locator("main")).to_have_attribute("data-levels", "4", timeout=SOON_MS)
    assert "token" not in page.url, "the token stays in the address bar"
    options = await page.locator("select option").all_text_contents()
    assert len(options) == 5, options
    await page.evaluate("document.querySelector('video').muted = true; document.querySelector('video').play()")
    await until(page, "() => document.querySelector('video').currentTime > 1.5")
    heights = await page.evaluate("window.millracePlayer.levels.map(level => level.height)")
    assert sorted(heights) == [360, 480, 720, 1080]


@pytest.mark.parametrize("height_px", [1080, 720, 480, 360])
async def test_each_level_decodes(suite: Stack, env: Env, video: Journey, page: Page, height_px: int) -> None:
    await page.goto(watch_url(env, video.media.media_id, suite.token("alice")))
    await expect(page.locator("main")).to_have_attribute("data-levels", "4", timeout=SOON_MS)
    await page.evaluate(
        """height => {
            const player = window.millracePlayer, video = document.querySelector('video');
            player.currentLevel = player.levels.findIndex(level => level.height === height);
            video.muted = true; video.play();
        }""",
        height_px,
    )
    await until(page, "height => document.querySelector('video').videoHeight === height", height_px)
    await until(page, "() => document.querySelector('video').currentTime > 0.5")


@pytest.fixture(scope="module")
async def shown_films(
    client: millrace.Client, env: Env, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, millrace.Media]:
    """All films, sent at once and published."""
    folder = tmp_path_factory.mktemp("films")

    async def publish(film: Film) -> millrace.Media:
        await asyncio.to_thread(films.write, film, folder / film.name)
        return (await travel(client, env, folder / film.name)).media

    return dict(zip(map(str, FILMS), await asyncio.gather(*map(publish, FILMS)), strict=True))


@pytest.mark.parametrize("film", FILMS, ids=str)
async def test_films_as_people_have_them_play_over_their_borders(
    suite: Stack, env: Env, shown_films: dict[str, millrace.Media], page: Page, film: Film
) -> None:
    """Segments are four seconds long: whoever is past the tenth has crossed two borders."""
    await page.goto(watch_url(env, shown_films[film.name].media_id, suite.token("alice")))
    await expect(page.locator("main")).to_have_attribute("data-levels", "1", timeout=SOON_MS)
    await page.evaluate(
        """() => {
            const video = document.querySelector('video');
            window.troubles = [];
            window.millracePlayer.on('hlsError', (_, { details }) => window.troubles.push(details));
            video.addEventListener('error', () => window.troubles.push(video.error.message));
            video.volume = 0; video.playbackRate = 4; video.play();
        }"""
    )
    await until(page, "() => document.querySelector('video').currentTime > 10 || window.troubles.length")
    assert await page.evaluate("window.troubles") == []
    size = "[document.querySelector('video').videoWidth, document.querySelector('video').videoHeight]"
    assert await page.evaluate(size) == list(film.shown)
    assert await page.evaluate("document.querySelector('video').duration") == pytest.approx(DURATION_S, abs=0.1)
    decoded = "document.querySelector('video')."
    assert await page.evaluate(f"{decoded}webkitVideoDecodedByteCount") > 0
    assert await page.evaluate(f"{decoded}webkitAudioDecodedByteCount") > 0
    assert await page.evaluate(f"{decoded}getVideoPlaybackQuality().corruptedVideoFrames") == 0


async def test_both_languages_are_offered_and_heard(
    suite: Stack, env: Env, shown_films: dict[str, millrace.Media], page: Page
) -> None:
    await page.goto(watch_url(env, shown_films["surround.mkv"].media_id, suite.token("alice")))
    await expect(page.locator("main")).to_have_attribute("data-levels", "1", timeout=SOON_MS)
    await until(page, "() => window.millracePlayer.audioTracks.length === 2")
    assert await page.evaluate("window.millracePlayer.audioTracks.map(track => track.lang)") == ["en", "de"]
    # What the segments hold is told apart by the tone, where the browser mixes it.
    for number, tone_hz in enumerate(
        sound.tone_hz for sound in next(film for film in FILMS if film.name == "surround.mkv").sounds
    ):
        await page.evaluate(_LISTEN_TO, number)
        await until(page, _HEARS, tone_hz)


async def test_progress_is_shown_until_it_plays(
    suite: Stack, env: Env, client: millrace.Client, samples_clip: bytes, page: Page
) -> None:
    session = await client.initiate(
        filename="slow.mp4", content_type="video/mp4", size_bytes=len(samples_clip), idempotency_key="browser-progress"
    )
    await page.goto(watch_url(env, session.media_id, suite.token("alice")))
    await expect(page.locator("main")).to_have_attribute("data-state", "uploading", timeout=SOON_MS)
    (part,) = session.first_window.parts
    async with httpx.AsyncClient() as http:
        etag = (await http.put(part.url, content=samples_clip, headers=part.headers)).headers["etag"]
    await client.complete(session.media_id, [millrace.UploadedPart(1, etag, len(samples_clip))])
    await expect(page.locator("main")).to_have_attribute("data-state", "processing", timeout=SOON_MS)
    await expect(page.get_by_role("progressbar").first).to_be_visible()
    await expect(page.locator("main")).to_have_attribute("data-state", "published", timeout=SOON_MS)


async def test_the_image_page_shows_three_renditions(suite: Stack, env: Env, image: Journey, page: Page) -> None:
    await page.goto(watch_url(env, image.media.media_id, suite.token("alice")))
    await expect(page.locator("main")).to_have_attribute("data-state", "published", timeout=SOON_MS)
    await until(
        page,
        """() => [...document.querySelectorAll('#thumbnails img')]
            .filter(image => image.complete && image.naturalWidth).length === 3""",
    )


@pytest.mark.parametrize("user", ["mallory", ""])
async def test_another_persons_media_is_not_shown(
    suite: Stack, env: Env, video: Journey, page: Page, user: str
) -> None:
    await page.goto(watch_url(env, video.media.media_id, suite.token(user) if user else ""))
    await expect(page.locator("main")).to_have_attribute("data-state", "unknown" if user else "token", timeout=SOON_MS)
    assert "millrace-1080p30" not in await page.content()


async def test_the_trace_page_shows_the_way(env: Env, video: Journey, page: Page) -> None:
    await page.goto(f"{env['MILLRACE_TRACES_URL']}/{millrace.trace_id_of(video.traceparent)}")
    for text in ("encode video-001", "publish video", "POST /v1/complete-upload"):
        await expect(page.get_by_text(text, exact=True).first).to_be_attached(timeout=SOON_MS)


@pytest.mark.parametrize("path", ["/", "/docs", "/upload"])
async def test_the_other_pages_load(env: Env, page: Page, path: str) -> None:
    answer = await page.goto(f"{env['MILLRACE_GATEWAY_URL']}{path}")
    assert answer is not None
    assert answer.status == 200
    await expect(page.locator("h1")).to_be_visible()
