"""The whole way once, on a stack that is up: ``python -m deploy.demo [FILE…]``.

Uploads the samples (or the given files) through the client as any user would, waits until they are published, and
prints where to look, after having asked every one of those addresses whether it answers.
"""

import asyncio
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urljoin

import httpx
import typer
from rich.console import Console

from millrace import Client, Media, MillraceError, upload, wait_until_published
from millrace.board import Board, board_for
from millrace.report import sentence, word_for

CHECKOUT = Path(__file__).resolve().parents[1]
SAMPLES = (CHECKOUT / "samples" / "millrace-1080p30.mp4", CHECKOUT / "samples" / "photo-4000.jpg")

PLAYLIST_TYPES = ("application/vnd.apple.mpegurl", "application/x-mpegurl")

_WITHIN_S = 300.0  # a guard, no promise: a machine that is busy otherwise takes its time
_TRACE_LOOKS, _TRACE_PAUSE_S = 8, 0.5
_STAGE = re.compile(r"probe|plan|encode \S+|publish \S+")
_QUOTED_URI = re.compile(r'URI="([^"]+)"')

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class DemoFailed(Exception):
    """The demonstration did not come to its end; the text says why."""


@dataclass(frozen=True, slots=True)
class Published:
    """A file that came out at the other end, and how long its uploader waited for what, in seconds."""

    media: Media
    uploading_s: float
    processing_s: float


@app.command()
def demo(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]…", help="Instead of the samples.")] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Data folder of the stack.")] = CHECKOUT / ".local",
) -> None:
    """Upload the samples the real way, wait until they are published, and show where they are."""
    try:
        settings, token = read_stack(directory)
        chosen = files or make_samples()
        asyncio.run(_demonstrate(chosen, settings, token))
    except (DemoFailed, MillraceError) as error:
        text = sentence(error) if isinstance(error, MillraceError) else str(error)
        typer.echo(f"demo: {text}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def read_stack(directory: Path) -> tuple[dict[str, str], str]:
    """The settings and the developer's token of a stack.

    Raises:
        DemoFailed: there is none.
    """
    try:
        lines = (directory / "env").read_text().splitlines()
        token = (directory / "token").read_text().strip()
    except FileNotFoundError as error:
        raise DemoFailed(f"{error.filename} is missing: start the stack with `make up` first") from error
    return dict(line.split("=", 1) for line in lines if "=" in line), token


def make_samples() -> list[Path]:
    """The sample files, made now unless they are there.

    Raises:
        DemoFailed: they cannot be made.
    """
    if not all(sample.exists() for sample in SAMPLES):
        typer.echo("making the samples…")
        if subprocess.run([sys.executable, "-m", "deploy.samples"], cwd=CHECKOUT, check=False).returncode:
            raise DemoFailed("the samples could not be made; `python -m deploy.samples` says why")
    if missing := [sample.name for sample in SAMPLES if not sample.exists()]:
        raise DemoFailed(f"`python -m deploy.samples` did not make {', '.join(missing)}")
    return [*SAMPLES]


async def _demonstrate(files: Sequence[Path], settings: dict[str, str], token: str) -> None:
    began_s = time.monotonic()
    async with Client(settings["MILLRACE_GATEWAY_URL"], token) as client:
        try:
            async with asyncio.timeout(_WITHIN_S):
                with board_for(Console()) as board:
                    published = await _publish_all(client, files, board)
        except TimeoutError as error:
            raise DemoFailed(
                f"not published within {_WITHIN_S:.0f} s; `make status` and `make logs` say more"
            ) from error
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as viewer:
        answered = [url for one in published for url in await check(viewer, one.media)]
        for one in published:
            _print_summary(one, token, await _stages(viewer, one.media))
    typer.echo(f"\n{len(answered)} addresses asked, every one answers; {time.monotonic() - began_s:.1f} s in all")


async def _publish_all(client: Client, files: Sequence[Path], board: Board) -> list[Published]:
    """Uploads the files one after the other; each is processed while the next one is on its way."""
    one_at_a_time = asyncio.Lock()

    async def one(path: Path) -> Published:
        row = board.row(path.name)
        try:
            async with one_at_a_time:
                began_s = time.monotonic()
                media = await upload(client, path, on_progress=row.sent)
                uploaded_s = time.monotonic()
            media = await wait_until_published(client, media.media_id, on_update=row.processed)
        except MillraceError as error:
            row.ended(word_for(error), ok=False)
            raise
        row.ended("published", ok=True)
        return Published(media, uploaded_s - began_s, time.monotonic() - uploaded_s)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(path)) for path in files]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


# -- does it answer? ---------------------------------------------------------------------------------------


async def check(viewer: httpx.AsyncClient, media: Media) -> list[str]:
    """Asks every address of a published media, as a viewer without a token would.

    Returns:
        What was asked: watch page, trace page, thumbnails, playlists, and the beginning of each track.

    Raises:
        DemoFailed: one does not answer, or with something else than it should.
    """
    if media.playback is None or not media.playback.thumbnails:
        raise DemoFailed(f"{media.filename} is published without thumbnails")
    if media.type == "video" and not media.playback.manifest_url:
        raise DemoFailed(f"{media.filename} is published without a playlist")
    pages = [url for url in (media.watch_url, media.trace_url) if url]
    for page in pages:
        await _get(viewer, page, "text/html")
    for still in media.playback.thumbnails:
        await _get(viewer, still.url, still.content_type)
    stills = [still.url for still in media.playback.thumbnails]
    return [*pages, *stills, *await _check_playlists(viewer, media.playback.manifest_url)]


async def _check_playlists(viewer: httpx.AsyncClient, manifest_url: str) -> list[str]:
    """The multivariant playlist, every playlist it names, and the first files that each of those names."""
    if not manifest_url:
        return []
    asked = [manifest_url]
    manifest = await _get(viewer, manifest_url, *PLAYLIST_TYPES)
    for playlist_url in references(manifest.text, manifest_url):
        playlist = await _get(viewer, playlist_url, *PLAYLIST_TYPES)
        beginning = references(playlist.text, playlist_url)[:2]  # its initialisation section and its first segment
        if not beginning:
            raise DemoFailed(f"{playlist_url} names no segment")
        for url in beginning:
            await _get(viewer, url)
        asked += [playlist_url, *beginning]
    if len(asked) == 1:
        raise DemoFailed(f"{manifest_url} names no playlist")
    return asked


def references(playlist: str, base_url: str) -> list[str]:
    """What an HLS playlist refers to (RFC 8216 §4.1), as absolute URLs in order, each once."""
    found: dict[str, None] = {}
    for line in playlist.splitlines():
        if line.startswith("#EXT"):
            found |= dict.fromkeys(urljoin(base_url, uri) for uri in _QUOTED_URI.findall(line))
        elif line and not line.startswith("#"):
            found[urljoin(base_url, line)] = None
    return [*found]


async def _get(viewer: httpx.AsyncClient, url: str, *content_types: str) -> httpx.Response:
    try:
        response = await viewer.get(url)
    except httpx.HTTPError as error:
        raise DemoFailed(f"{url} does not answer: {error!r}") from error
    if response.status_code != 200 or not response.content:
        raise DemoFailed(f"{url} answers with {response.status_code} and {len(response.content)} bytes")
    found = response.headers.get("content-type", "").partition(";")[0].lower()
    if content_types and found not in content_types:
        raise DemoFailed(f"{url} is of type {found or 'unknown'}, not {' or '.join(content_types)}")
    return response


# -- what came of it ---------------------------------------------------------------------------------------


async def _stages(viewer: httpx.AsyncClient, media: Media) -> list[str]:
    """How long each stage took, as the embedded trace store knows it; empty where traces go elsewhere.

    Spans reach the store a moment after they end, so the last one is waited for, but not for long.
    """
    url = media.trace_url.replace("/traces/", "/api/traces/")
    for _ in range(_TRACE_LOOKS if url else 0):
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
            stages = stage_durations((await viewer.get(url)).json()["spans"])
            if any(stage.startswith("publish") for stage in stages):
                return [f"{stage} {duration_s:.1f} s" for stage, duration_s in stages.items()]
        await asyncio.sleep(_TRACE_PAUSE_S)
    return []


def stage_durations(spans: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds by stage, in the order in which they began: probing, planning, every encode, publishing."""
    stages = (span for span in spans if _STAGE.fullmatch(span["name"]))
    return {
        span["name"]: (span["end_ns"] - span["start_ns"]) / 1e9
        for span in sorted(stages, key=lambda span: int(span["start_ns"]))
    }


def _print_summary(published: Published, token: str, stages: Sequence[str]) -> None:
    media = published.media
    assert media.playback is not None
    typer.secho(f"\n{media.filename}", bold=True)
    _print_fact("watch", f"{media.watch_url}#token={token}")
    if media.playback.manifest_url:
        levels = ", ".join(one.resolution for one in media.playback.renditions)
        _print_fact("playlist", f"{media.playback.manifest_url} ({levels})")
    for still in media.playback.thumbnails:
        _print_fact(f"{still.size_px} px", still.url)
    if media.trace_url:
        _print_fact("trace", media.trace_url)
    _print_fact("took", f"upload {published.uploading_s:.1f} s, then {published.processing_s:.1f} s until published")
    if stages:
        _print_fact("of which", ", ".join(stages))


def _print_fact(name: str, value: str) -> None:
    typer.echo(f"  {name:<9} {value}")


if __name__ == "__main__":
    app()
