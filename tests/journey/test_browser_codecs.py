"""Chromium plays what the engine makes, through hls.js, from a plain web server: each codec, each packaging, and
sources as people have them.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

import gateway
from media.v1 import media_pb2
from services.manifest.metadata_client import track_from_pb
from services.manifest.playlists import render
from services.manifest.publication import MediaKind, Publication
from services.metadata.joining import joined
from services.transcode.engine.run import probe
from services.transcode.engine.video import tonemap
from services.transcode.formats import SOFTWARE, Codec, Packaging
from services.transcode.ladder import Step
from services.transcode.metadata_client import result_to_pb
from services.transcode.plan import Fleet, Output, plan
from services.transcode.specs import AudioSpec, ChunkSpec, PassThroughSpec, TaskSpec
from services.transcode.tasks import Result, Stored
from tests.journey.browser import chromium
from tests.unit.transcode import sources, test_engine_hdr, test_engine_matrix, test_engine_pass_through

__all__ = ["chromium"]

pytestmark = pytest.mark.browser

PREFIX = "p/m/1/t"
LADDER = tuple(
    Step(f"180p{'' if codec is Codec.H264 else f'-{codec}'}", 180, 28, 800_000, 1_200_000, codec, SOFTWARE[codec])
    for codec in Codec
)
PAGE = """<!doctype html><link rel="icon" href="data:,"><video muted></video><script type="module">
import Hls from "./hls.min.mjs";
const video = document.querySelector("video"), errors = [], wanted = location.hash.slice(1);
const player = new Hls({startLevel: 0, enableWorker: false});
Object.assign(window, {video, errors, player});
player.on(Hls.Events.ERROR, (_, data) => errors.push(data.details + " " + (data.error || "")));
player.on(Hls.Events.MANIFEST_PARSED, () => {
  player.currentLevel = player.levels.findIndex(
    level => level.videoCodec.startsWith(wanted) || level.height === Number(wanted)
  );
  video.play();
});
player.attachMedia(video);
player.loadSource(location.pathname.replace("player.html", "p/m/1/t/main.m3u8"));
</script>"""


async def published(data: bytes, folder: Path, ladder: tuple[Step, ...], packaging: Packaging) -> tuple[TaskSpec, ...]:
    """Makes a video and writes it down as it would lie at the edge: by way of the messages between the services.

    Returns the plan.
    """
    source = await probe(sources.BytesSource(data), sources.LIMITS)
    results = []
    specs = plan(source, output=Output(ladder, packaging), fleet=Fleet(1))
    for spec in specs:
        if not isinstance(spec, ChunkSpec | PassThroughSpec | AudioSpec):
            continue
        made = await sources.run(spec, data)
        stored = {}
        for artifact in made.shelf.artifacts.values():
            key = f"{PREFIX}/{spec.label}/a1/{artifact.name}"
            stored[artifact.name] = Stored(key, len(artifact.data), bytes.fromhex(artifact.sha256))
            write(folder, key, artifact.data)
        results.append(result_to_pb(Result(spec.label, "", made.outcome, stored)))
    tracks = [*joined(results), *(result.track for result in results if result.HasField("track"))]
    publication = Publication(
        "m", 1, MediaKind.VIDEO, PREFIX, tuple(map(track_from_pb, tracks)), (), published=True, task_traceparents=()
    )
    for playlist in render(publication).in_order:
        write(folder, playlist.s3_key, playlist.data)
    assert {type(track) for track in tracks} == {media_pb2.Track}
    return specs


def write(folder: Path, key: str, data: bytes) -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def with_player(folder: Path) -> None:
    """Makes a folder with a page that plays what is published into it."""
    folder.mkdir()
    script = Path(gateway.__file__).parent / "web" / "static" / "vendor" / "hls.js" / "hls.min.mjs"
    (folder / "hls.min.mjs").write_bytes(script.read_bytes())
    (folder / "player.html").write_text(PAGE)


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A web server's address, and its folder."""
    folder = tmp_path_factory.mktemp("site")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
async def players(site: tuple[str, Path], sample: bytes) -> dict[Packaging, str]:
    """The address of a page that plays the sample, by packaging."""
    address, folder = site
    for packaging, ladder in ((Packaging.CMAF, LADDER), (Packaging.TS, LADDER[:1])):
        with_player(folder / packaging)
        await published(sample, folder / packaging, ladder, packaging)
    return {packaging: f"{address}/{packaging}/player.html" for packaging in Packaging}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Five seconds with sound, in two segments."""
    return sources.sample_clip(tmp_path_factory.mktemp("sample"), frame_count=125)


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    page = await chromium.new_page()
    yield page
    await page.close()


@pytest.mark.parametrize(
    ("packaging", "codec"),
    [(Packaging.CMAF, "avc1"), (Packaging.CMAF, "av01"), (Packaging.CMAF, "hvc1"), (Packaging.TS, "avc1")],
)
async def test_it_plays_through(players: dict[Packaging, str], page: Page, packaging: Packaging, codec: str) -> None:
    await page.goto(f"{players[packaging]}#{codec}")
    full = {"avc1": "avc1.64000d", "av01": "av01.0.00M.08", "hvc1": "hvc1.1.6.L60.90"}[codec]
    known = await page.evaluate(f"MediaSource.isTypeSupported('video/mp4; codecs=\"{full}\"')")
    if not known:
        pytest.skip(f"THIS BROWSER CANNOT PLAY {full}: nothing has shown that it plays.")
    async with asyncio.timeout(60):
        while not await page.evaluate("window.video?.ended"):
            assert not await page.evaluate("window.errors ?? []"), "hls.js complains"
            await asyncio.sleep(0.1)
    assert await page.evaluate("player.levels[player.currentLevel].videoCodec") == await page.evaluate(
        f"player.levels.find(level => level.videoCodec.startsWith('{codec}')).videoCodec"
    )
    quality = await page.evaluate(
        "(q => [q.totalVideoFrames, q.corruptedVideoFrames])(video.getVideoPlaybackQuality())"
    )
    assert quality[0] >= 120
    assert quality[1] == 0
    # In MPEG-TS the priming of the sound is a part of it, and hls.js guesses how long the last frame is.
    tolerance_s = 0.12 if packaging is Packaging.TS else 0.05
    assert await page.evaluate("video.duration") == pytest.approx(5, abs=tolerance_s)
    assert await page.evaluate("[video.videoWidth, video.videoHeight]") == [320, 180]
    assert await page.evaluate("video.webkitAudioDecodedByteCount") > 10_000


def of_the_matrix(name: str) -> bytes:
    return test_engine_matrix.made_file(next(made for made in test_engine_matrix.MADE if made.name == name))


def hdr_clip() -> bytes:
    """Two seconds that grow brighter, up to what no SDR screen shows."""
    return test_engine_hdr.hdr_clip(tonemap.PQ, [(number / 50,) * 3 for number in range(50)])


def variable_clip() -> bytes:
    """Every other frame comes late, and some not at all."""
    rate = Fraction(25)
    times = [(number + Fraction(number % 2, 3)) / rate for number in range(60) if number % 7 != 3]
    return sources.clip(times, rate=rate, size_px=(160, 90))


def passing_clip() -> bytes:
    """What already is as its step shall be, of five seconds: two segments."""
    return test_engine_pass_through.fit(125)


SOURCES: dict[str, tuple[Callable[[], bytes], int, tuple[int, int]]] = {
    "quarter-turn": (lambda: of_the_matrix("a quarter turn"), 108, (108, 192)),
    "variable-rate": (variable_clip, 90, (160, 90)),
    "hdr": (hdr_clip, 180, (320, 180)),
    "59.94": (lambda: of_the_matrix("h264 at 59.94"), 108, (192, 108)),
    "mono-8-khz": (lambda: of_the_matrix("mono at 8 kHz"), 108, (192, 108)),
    "pass-through": (passing_clip, 96, (192, 96)),
}
"""How each is made, the shorter side of its one step, and what is to be seen of it."""


@pytest.mark.parametrize("name", SOURCES)
async def test_sources_as_people_have_them_play(name: str, site: tuple[str, Path], page: Page) -> None:
    address, folder = site
    make, side_px, shown = SOURCES[name]
    data = make()
    with_player(folder / name)
    ladder = tuple(Step(f"{side}p", side, 21, 800_000, 1_200_000) for side in (side_px, side_px // 4 * 2))
    specs = await published(data, folder / name, ladder, Packaging.CMAF)
    assert any(isinstance(spec, PassThroughSpec) for spec in specs) == (name == "pass-through")
    await page.goto(f"{address}/{name}/player.html#{shown[1]}")
    async with asyncio.timeout(30):
        moments: list[float] = []
        while not await page.evaluate("window.video?.ended"):
            assert not await page.evaluate("window.errors ?? []"), "hls.js complains"
            await asyncio.sleep(0.1)
            moments.append(await page.evaluate("window.video?.currentTime ?? 0"))
    assert moments == sorted(moments)
    assert len(set(moments)) > 5, "it stood still"
    assert await page.evaluate("video.duration") == pytest.approx(duration_of(data), abs=0.1)
    assert await page.evaluate("[video.videoWidth, video.videoHeight]") == list(shown)
    level = await page.evaluate("[player.levels[player.currentLevel].width, player.levels[player.currentLevel].height]")
    assert level == list(shown), "another level was shown"
    quality = await page.evaluate(
        "(q => [q.totalVideoFrames, q.corruptedVideoFrames])(video.getVideoPlaybackQuality())"
    )
    assert quality[0] > 40
    assert quality[1] == 0
    has_sound = any(isinstance(spec, AudioSpec) for spec in specs)
    assert has_sound == (await page.evaluate("video.webkitAudioDecodedByteCount") > 0)


def duration_of(data: bytes) -> float:
    """Of the pictures of a file, in seconds, by decoding."""
    times = sources.frame_times(sources.decoded(data))
    return float(times[-1] - times[0]) * len(times) / (len(times) - 1)
