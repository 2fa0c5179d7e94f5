"""The `millrace` command.

Results go to standard output, progress and errors to standard error. Exit codes:

    0  done
    1  a defect of this command
    2  usage: an option or a file that cannot be used
    3  not authenticated
    4  refused by the gateway or by object storage
    5  the media failed
    6  network, or the service does not work
    130  interrupted

With several files it is the code of the first that did not succeed; the others are done all the same.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from millrace import report
from millrace.api import Client
from millrace.board import Row, board_for, printable
from millrace.errors import (
    FileUnusable,
    MediaFailed,
    MillraceError,
    NotAuthenticated,
    Refused,
    StorageRefused,
)
from millrace.models import Media, Status
from millrace.upload import DEFAULT_PARALLEL, upload, wait_until_published

DEFECT, USAGE, NOT_AUTHENTICATED, REFUSED, MEDIA_FAILED, NETWORK, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

app = typer.Typer(
    help="Upload images and videos to Millrace, and see what becomes of them.",
    epilog="Exit codes: 0 done, 2 usage, 3 not authenticated, 4 refused, 5 the media failed, 6 network or service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Url = Annotated[str, typer.Option("--url", envvar=["MILLRACE_URL", "MILLRACE_GATEWAY_URL"], help="The gateway.")]
Token = Annotated[str, typer.Option("--token", envvar="MILLRACE_TOKEN", help="Bearer token.", show_envvar=True)]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="MILLRACE_TOKEN_FILE", help="File that holds the token; --token wins."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
MediaId = Annotated[str, typer.Argument(metavar="ID", help="The media, as `upload` printed it.")]


@app.command("upload")
def upload_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Images and videos.")],
    *,
    url: Url,
    token: Token = "",
    token_file: TokenFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each is published, and say where.")] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Parts in flight at once.")] = DEFAULT_PARALLEL,
    content_type: Annotated[str | None, typer.Option("--type", help="Content type; else the name tells.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload files, several parts at a time, straight to object storage."""

    async def work(client: Client) -> int:
        one_at_a_time = asyncio.Lock()  # the parts of one file fill the link; processing goes on beside it

        async def one(path: Path, row: Row) -> Media | MillraceError:
            try:
                async with one_at_a_time:
                    media = await upload(
                        client, path, content_type=content_type, parallel=parallel, on_progress=row.sent
                    )
                if wait:
                    media = await wait_until_published(client, media.media_id, on_update=row.processed)
            except MillraceError as error:
                row.ended(report.word_for(error), ok=False)
                return error
            row.ended(media.status.value, ok=True)
            return media

        with board_for(Console(stderr=True)) as board:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(path, board.row(path.name))) for path in files]
        codes = []
        for path, task in zip(files, tasks, strict=True):
            outcome = task.result()
            _print_outcome(path, outcome, as_json=as_json)
            codes.append(0 if isinstance(outcome, Media) else code_for(outcome))
        return next((code for code in codes if code), 0)

    _run(url, token, token_file, work)


@app.command("status")
def status_command(
    media_id: MediaId, *, url: Url, token: Token = "", token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """Show one media; exits with 0 whatever its state."""

    async def work(client: Client) -> int:
        _print_media(await client.get(media_id), as_json=as_json)
        return 0

    _run(url, token, token_file, work)


@app.command("list")
def list_command(
    *,
    url: Url,
    token: Token = "",
    token_file: TokenFile = None,
    status: Annotated[Status | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List your media, newest first."""

    async def work(client: Client) -> int:
        left = limit
        async with contextlib.aclosing(client.list(status=status, page_size=min(limit, 100))) as found:
            async for media in found:
                typer.echo(report.json_line(media.document) if as_json else report.row(media))
                left -= 1
                if not left:
                    break
        return 0

    _run(url, token, token_file, work)


@app.command("watch")
def watch_command(
    media_id: MediaId, *, url: Url, token: Token = "", token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """Follow one media until it is published (0) or failed (5)."""

    async def work(client: Client) -> int:
        name = printable((await client.get(media_id)).filename)
        with board_for(Console(stderr=True)) as board:
            row = board.row(name)
            try:
                media = await wait_until_published(client, media_id, on_update=row.processed)
            except MillraceError as error:
                row.ended(report.word_for(error), ok=False)
                raise
            row.ended(media.status.value, ok=True)
        _print_media(media, as_json=as_json)
        return 0

    _run(url, token, token_file, work)


def code_for(error: MillraceError) -> int:
    """The exit code that says what kind of error it was."""
    match error:
        case FileUnusable():
            return USAGE
        case NotAuthenticated():
            return NOT_AUTHENTICATED
        case Refused() | StorageRefused():
            return REFUSED
        case MediaFailed():
            return MEDIA_FAILED
        case _:
            return NETWORK


def main() -> None:
    """Runs one command and exits."""
    app()


def _run(url: str, token: str, token_file: Path | None, work: Callable[[Client], Awaitable[int]]) -> None:
    """Runs a command's work with a client; whatever goes wrong becomes one line and an exit code."""
    _check(url)
    token = _checked_token(token.strip() or _read_token(token_file))

    async def with_client() -> int:
        async with Client(url, token) as client:
            return await work(client)

    try:
        code = asyncio.run(with_client())
    except MillraceError as error:
        typer.echo(f"millrace: {report.sentence(error)}", err=True)
        code = code_for(error)
    except KeyboardInterrupt:
        typer.echo("millrace: interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        raise  # the reader has had enough, as with `| head`: the framework ends in silence
    except Exception as error:  # a defect: still one line, since whoever reads it cannot mend it
        typer.echo(f"millrace: this is a defect of the command: {error!r}", err=True)
        code = DEFECT
    raise typer.Exit(code)


def _check(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise typer.BadParameter(f"{url!r}: {error}", param_hint="--url") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise typer.BadParameter(f"{url!r} is not an http or https URL", param_hint="--url")


def _checked_token(token: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise typer.BadParameter("it holds what no token can hold", param_hint="--token")
    return token


def _read_token(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--token-file") from error


def _print_outcome(path: Path, outcome: Media | MillraceError, *, as_json: bool) -> None:
    if as_json:
        typer.echo(report.json_line({"file": str(path), **report.outcome_json(outcome)}))
    elif isinstance(outcome, Media):
        typer.echo(report.details(outcome))
    else:
        # What is wrong with a file already begins with its name.
        name = "" if isinstance(outcome, FileUnusable) else f"{printable(path.name)}: "
        typer.echo(f"millrace: {name}{report.sentence(outcome)}", err=True)


def _print_media(media: Media, *, as_json: bool) -> None:
    typer.echo(report.json_line(media.document) if as_json else report.details(media))
