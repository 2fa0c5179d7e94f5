"""The `millrace` command.

Results go to standard output, progress and errors to standard error. Exit codes:

    0  done
    1  a defect of this command
    2  usage: an option or a file that cannot be used
    3  not authenticated
    4  refused by the gateway or by object storage
    5  the media failed
    6  network, or the service does not work
    7  another process uploads the file just now
    8  a quota or a limit is reached
    130  interrupted

With several files it is the code of the first that did not succeed; the others are done all the same. After 3, 6, 7,
8, 130 or a kill, `upload` goes on when the same command is given again: files that were accepted are not sent again,
nor is what storage holds of the others. Once nothing is left that another run could mend, all of it is forgotten, and
the same command uploads the same files once more.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from millrace import report
from millrace.api import Client
from millrace.batch import Options, Outcome, upload_each
from millrace.board import board_for, printable
from millrace.checksums import ChecksumAlgorithm
from millrace.errors import (
    AlreadyUploading,
    FileUnusable,
    LimitReached,
    MediaFailed,
    MillraceError,
    NotAuthenticated,
    QuotaExceeded,
    Refused,
    StateUnusable,
    StorageRefused,
)
from millrace.folders import find
from millrace.models import Media, Status
from millrace.upload import DEFAULT_PARALLEL, wait_until_published

DEFECT, USAGE, NOT_AUTHENTICATED, REFUSED, MEDIA_FAILED, NETWORK, BUSY, LIMIT, INTERRUPTED = 1, 2, 3, 4, 5, 6, 7, 8, 130

app = typer.Typer(
    help="Upload images and videos to Millrace, and see what becomes of them.",
    epilog="Exit codes: 0 done, 2 usage, 3 not authenticated, 4 refused, 5 the media failed, 6 network or service, "
    "7 being uploaded by another process, 8 quota or limit reached, 130 interrupted.",
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


class Checksum(StrEnum):
    """What `--checksum` takes."""

    CRC32C = "crc32c"
    SHA256 = "sha256"
    NONE = "none"

    @property
    def algorithm(self) -> ChecksumAlgorithm | None:
        """As uploads take it."""
        return None if self is Checksum.NONE else ChecksumAlgorithm[self.name]


def _default_state_dir() -> Path:
    """Where the XDG base directory specification wants what a program remembers between runs."""
    home = os.environ.get("XDG_STATE_HOME", "")
    return Path(home if Path(home).is_absolute() else Path.home() / ".local" / "state") / "millrace"


@app.command("upload")
def upload_command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Images and videos; of a folder, all that are in or below it.")
    ],
    *,
    url: Url,
    token: Token = "",
    token_file: TokenFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each is published, and say where.")] = False,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Parts in flight at once; of small files, as many files.")
    ] = DEFAULT_PARALLEL,
    content_type: Annotated[str | None, typer.Option("--type", help="Content type; else the name tells.")] = None,
    checksum: Annotated[Checksum, typer.Option(help="What storage verifies every part by.")] = Checksum.CRC32C,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Names to pass over in folders, for instance '*.gif'.")
    ] = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Begin anew what was interrupted, instead of going on.")
    ] = False,
    state_dir: Annotated[
        Path,
        typer.Option(
            envvar="MILLRACE_STATE_DIR",
            default_factory=_default_state_dir,
            show_default=False,
            help="Where unfinished uploads are remembered; left out, `millrace` in $XDG_STATE_HOME.",
        ),
    ],
    no_state: Annotated[bool, typer.Option("--no-state", help="Remember nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload files, several parts at a time, straight to object storage.

    What was interrupted goes on when the same command is given again: parts that storage holds are not sent again.
    """
    options = Options(
        content_type=content_type,
        parallel=parallel,
        checksum=checksum.algorithm,
        state_dir=None if no_state else state_dir,
        resume=not no_resume,
        wait=wait,
    )

    async def work(client: Client) -> int:
        found = await asyncio.to_thread(find, files, exclude=exclude or (), any_type=content_type is not None)
        if found.skipped:
            typer.echo(f"millrace: skipped {found.skipped}", err=True)
        results = _Results(as_json=as_json)
        console = Console(stderr=True)
        # Bars that move and lines on one screen would overwrite each other: there, results come after the bars.
        is_shared = console.is_terminal and sys.stdout.isatty()
        with results.held_back() if is_shared else contextlib.nullcontext(), board_for(console) as board:
            board.expect(len(found.sizes), sum(found.sizes.values()))
            await upload_each(client, found.sizes, options, board, results.take)
        for path, error in found.unusable.items():
            results.take(path, error)
        return results.code

    _run(url, token, token_file, work, resumable=not no_state)


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
        case FileUnusable() | StateUnusable():
            return USAGE
        case AlreadyUploading():
            return BUSY
        case QuotaExceeded() | LimitReached():
            return LIMIT
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


def _run(
    url: str,
    token: str,
    token_file: Path | None,
    work: Callable[[Client], Awaitable[int]],
    *,
    resumable: bool = False,
) -> None:
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
        typer.echo("millrace: interrupted" + ("; the same command goes on from here" if resumable else ""), err=True)
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


class _Results:
    """What came of each file, printed at once unless it is held back; `code` is that of the first that failed."""

    def __init__(self, *, as_json: bool) -> None:
        self.code = 0
        self._as_json = as_json
        self._held: list[tuple[Path, Outcome]] | None = None

    def take(self, path: Path, outcome: Outcome) -> None:
        if not isinstance(outcome, Media):
            self.code = self.code or code_for(outcome)
        if self._held is None:
            _print_outcome(path, outcome, as_json=self._as_json)
        else:
            self._held.append((path, outcome))

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Prints nothing before the end of the block, and then all of it."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            for path, outcome in held:
                _print_outcome(path, outcome, as_json=self._as_json)


def _print_outcome(path: Path, outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        file = os.fsencode(path).decode("utf-8", "replace")
        typer.echo(report.json_line({"file": file, **report.outcome_json(outcome)}))
    elif isinstance(outcome, Media):
        typer.echo(report.details(outcome))
    else:
        # What is wrong with a file itself already begins with its name.
        name = "" if isinstance(outcome, FileUnusable | AlreadyUploading) else f"{printable(path.name)}: "
        typer.echo(f"millrace: {name}{report.sentence(outcome)}", err=True)


def _print_media(media: Media, *, as_json: bool) -> None:
    typer.echo(report.json_line(media.document) if as_json else report.details(media))
