"""The stack from a shell: ``python -m deploy.local up | down | status | logs | token | env``."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from deploy.local import identity
from deploy.local.errors import NotRunningError, StackError
from deploy.local.home import CHECKOUT
from deploy.local.stack import ALL, Stack

app = typer.Typer(
    help="Millrace's servers on this machine, for development and demonstration.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Directory = Annotated[Path, typer.Option("--dir", help="The data folder.")]
Services = Annotated[str, typer.Option(help="Which of our own services to start: names with commas, or none.")]

_DEFAULT_DIRECTORY = CHECKOUT / ".local"
_ALL_SERVICES = ",".join(ALL)
_FOLLOW_POLL_S = 0.3


@app.command()
def up(directory: Directory = _DEFAULT_DIRECTORY, services: Services = _ALL_SERVICES) -> None:
    """Start everything, wait until it is ready, and print every address."""
    began = time.monotonic()
    stack = _stack(directory, services)
    stack.up()
    _print_programs(stack)
    typer.echo(f"ready after {time.monotonic() - began:.1f} s; settings: {directory}/env, token: {directory}/token")


@app.command()
def down(directory: Directory = _DEFAULT_DIRECTORY) -> None:
    """End every process; the data stays."""
    _stack(directory).down()
    typer.echo("down")


@app.command()
def status(directory: Directory = _DEFAULT_DIRECTORY) -> None:
    """Show every program, whether it answers, and where; exits with 1 when one does not."""
    if not _print_programs(_stack(directory)):
        raise typer.Exit(1)


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="One program; all when left out.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on printing.")] = False,
    lines: Annotated[int, typer.Option("-n", min=0, help="How many lines of the past.")] = 50,
    directory: Directory = _DEFAULT_DIRECTORY,
) -> None:
    """Print what programs logged."""
    folder = directory / "log"
    paths = [folder / f"{name}.log"] if name else sorted(folder.glob("*.log"))
    if not all(path.exists() for path in paths) or not paths:
        raise NotRunningError(f"no log of {name or 'anything'} in {folder}")
    positions = {}
    for path in paths:
        text = path.read_text(errors="replace")
        positions[path] = path.stat().st_size
        _print_log(path, text.splitlines()[-lines:] if lines else [], named=len(paths) > 1)
    while follow:
        time.sleep(_FOLLOW_POLL_S)
        for path in paths:
            positions[path] = _print_new(path, positions[path], named=len(paths) > 1)


@app.command()
def token(
    user: Annotated[str, typer.Argument(help="The user the token speaks for.")] = identity.DEVELOPER,
    directory: Directory = _DEFAULT_DIRECTORY,
) -> None:
    """Print a bearer token, valid for 12 hours."""
    try:
        typer.echo(_stack(directory).token(user))
    except FileNotFoundError as error:
        raise NotRunningError("there is no key yet; start the stack once") from error


@app.command()
def env(directory: Directory = _DEFAULT_DIRECTORY) -> None:
    """Print every setting as NAME=value lines."""
    for name, value in sorted(_stack(directory).settings.items()):
        typer.echo(f"{name}={value}")


def _stack(directory: Path, services: str = _ALL_SERVICES) -> Stack:
    chosen = [name for name in services.split(",") if name and name != "none"]
    # The one place that reads the shell's settings: what the user set there wins over the stack's own.
    given = {name: value for name, value in os.environ.items() if name.startswith("MILLRACE_") and value}
    return Stack(directory, chosen, given)


def _print_programs(stack: Stack) -> bool:
    """Print the table of programs; True when all of them answer."""
    states = {state.name: state for state in stack.states()}
    all_ready = True
    for program in stack.programs:
        if (state := states.get(program.name)) is None:
            continue  # left out of `up` by --services
        ready = bool(state.pid) and program.ready()
        all_ready &= ready
        word = typer.style("ready".ljust(9), "green") if ready else typer.style(state.state.lower().ljust(9), "red")
        typer.echo(f"{program.name:<11}{word}{state.pid or '':>8}  {program.address}")
    for part in stack.replaced:
        typer.echo(f"{part.name:<11}{'yours':<9}{'':>8}  {part.replaced_by}")
    return all_ready


def _print_log(path: Path, lines: list[str], *, named: bool) -> None:
    for line in lines:
        typer.echo(f"{path.stem:>11} | {line}" if named else line)


def _print_new(path: Path, position: int, *, named: bool) -> int:
    """Print what was written since ``position``; returns the new position. Starts anew after a rotation."""
    size = path.stat().st_size
    if size < position:
        position = 0
    if size > position:
        with path.open("rb") as file:
            file.seek(position)
            _print_log(path, file.read(size - position).decode(errors="replace").splitlines(), named=named)
    return size


def main() -> int:
    """Run one command; expected failures are one message on stderr and exit code 1."""
    try:
        app(standalone_mode=True)
    except StackError as error:
        typer.echo(str(error), err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
