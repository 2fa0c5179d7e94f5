"""Progress of several files at once: live bars on a terminal, plain lines anywhere else.

Both write to standard error, so that standard output holds results and nothing else.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn
from rich.text import Text

from millrace.models import Status, Update

# Plain lines come at every tenth, but no faster than one a second; of a slow file, every five seconds.
_PLAIN_STEP = 0.1
_PLAIN_AT_MOST_EVERY_S = 1.0
_PLAIN_AT_LEAST_EVERY_S = 5.0


class Row(Protocol):
    """One file."""

    def sent(self, sent_bytes: int, total_bytes: int) -> None:
        """Bytes of the file that are on their way or stored."""

    def processed(self, update: Update) -> None:
        """How far the processing is."""

    def ended(self, word: str, *, ok: bool) -> None:
        """Nothing more will come of this file; the word says what came of it."""


class Board(Protocol):
    """All files of one command; a context manager."""

    def row(self, name: str) -> Row:
        """A row for one more file."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def board_for(console: Console) -> Board:
    """The board that suits where the console writes to."""
    return LiveBoard(console) if console.is_terminal else PlainBoard(console)


def printable(text: str) -> str:
    """Text from elsewhere without what could steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


class LiveBoard:
    """Bars that move, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            _Column("name"), BarColumn(), TaskProgressColumn(), _Column("phase"), _Facts(), console=console,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip

    def row(self, name: str) -> Row:
        """A bar for one more file."""
        task = self._progress.add_task("", total=None, name=printable(name), phase="waiting", facts="")
        return _LiveRow(self._progress, task)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


class _LiveRow:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._phase = "waiting"

    def sent(self, sent_bytes: int, total_bytes: int) -> None:
        self._enter("uploading", total_bytes)
        self._progress.update(self._task, completed=sent_bytes)

    def processed(self, update: Update) -> None:
        self._enter("processing", 1.0)
        self._progress.update(self._task, completed=update.fraction, facts=_tasks_text(update))

    def ended(self, word: str, *, ok: bool) -> None:
        if ok:
            self._enter(word, 1.0)
            self._progress.update(self._task, completed=1.0, facts="")
        else:
            self._progress.update(self._task, phase=word, facts="")
            self._progress.stop_task(self._task)

    def _enter(self, phase: str, total: float) -> None:
        """Starts the bar anew when another phase begins, so that rate and time left are the phase's own."""
        if phase != self._phase:
            self._phase = phase
            self._progress.update(self._task, phase=phase, facts="")
            self._progress.reset(self._task, total=total)


class _Column(ProgressColumn):
    """A field of the row as it is: file names must not be read as markup."""

    def __init__(self, field: str) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        return Text(str(task.fields[self._field]), overflow="ellipsis", no_wrap=True)


class _Facts(ProgressColumn):
    """While sending: bytes, rate and time left; while processing: each rendition."""

    def render(self, task: Task) -> Text:
        if task.fields["phase"] != "uploading" or task.total is None:
            return Text(str(task.fields["facts"]), style="dim", overflow="ellipsis", no_wrap=True)
        words = [f"{decimal(int(task.completed))} of {decimal(int(task.total))}"]
        if task.speed:
            words.append(f"{decimal(int(task.speed))}/s")
        if task.time_remaining:
            minutes, seconds = divmod(int(task.time_remaining), 60)
            words.append(f"{minutes}:{seconds:02} left")
        return Text(" · ".join(words), style="dim", overflow="ellipsis", no_wrap=True)


class PlainBoard:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock

    def row(self, name: str) -> Row:
        """Lines for one more file."""
        return _PlainRow(self._console, printable(name), self._clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is left open."""


class _PlainRow:
    def __init__(self, console: Console, name: str, clock: Callable[[], float]) -> None:
        self._console = console
        self._name = name
        self._clock = clock
        self._phase = ""
        self._began_s = self._printed_s = 0.0
        self._printed_fraction = 0.0

    def sent(self, sent_bytes: int, total_bytes: int) -> None:
        if self._is_due("uploading", sent_bytes / total_bytes):
            elapsed_s = self._clock() - self._began_s
            rate = f", {decimal(int(sent_bytes / elapsed_s))}/s" if elapsed_s > 0 and sent_bytes else ""
            self._print(f"sent {decimal(sent_bytes)} of {decimal(total_bytes)}{rate}")

    def processed(self, update: Update) -> None:
        if update.media.status is Status.PROCESSING and self._is_due("processing", update.fraction):
            tasks = _tasks_text(update)
            self._print(f"processing {update.fraction:.0%}" + (f" ({tasks})" if tasks else ""))

    def ended(self, word: str, *, ok: bool) -> None:
        self._print(word if ok else f"ended: {word}")

    def _is_due(self, phase: str, fraction: float) -> bool:
        now_s = self._clock()
        if phase != self._phase:
            self._phase, self._began_s = phase, now_s
        else:
            silent_s = now_s - self._printed_s
            is_step = fraction - self._printed_fraction >= _PLAIN_STEP and silent_s >= _PLAIN_AT_MOST_EVERY_S
            is_due = is_step or fraction >= 1.0 or silent_s >= _PLAIN_AT_LEAST_EVERY_S
            if fraction <= self._printed_fraction or not is_due:
                return False
        self._printed_s, self._printed_fraction = now_s, fraction
        return True

    def _print(self, text: str) -> None:
        self._console.print(f"{self._name}: {text}", markup=False, highlight=False, soft_wrap=True)


def _tasks_text(update: Update) -> str:
    return " · ".join(f"{printable(task.label)} {task.fraction:.0%}" for task in update.tasks)
