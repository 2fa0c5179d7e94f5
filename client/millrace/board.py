"""Progress of several files at once: live bars on a terminal, plain lines anywhere else.

Both write to standard error, so that standard output holds results and nothing else.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn
from rich.text import Text

from millrace.models import Status, Update
from millrace.pace import Sending

# Plain lines come at every tenth, but no faster than one a second; of a slow file, every five seconds.
_PLAIN_STEP = 0.1
_PLAIN_AT_MOST_EVERY_S = 1.0
_PLAIN_AT_LEAST_EVERY_S = 5.0

_CROWD_FILES = 12  # of more than these, a screen shows those alone that are being sent


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

    def expect(self, file_count: int, total_bytes: int) -> None:
        """Says how much there will be, before the first row: it is shown as a whole, too.

        Of very many files, those alone are shown that are being sent or failed.
        """

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


class _Whole:
    """All files together."""

    def __init__(self, clock: Callable[[], float], file_count: int, total_bytes: int) -> None:
        self.sending = Sending(clock, total_bytes)
        self.file_count = file_count
        self.ended_count = 0

    @property
    def is_crowd(self) -> bool:
        return self.file_count > _CROWD_FILES

    @property
    def name(self) -> str:
        return f"{self.ended_count:,} of {self.file_count:,} files"


class _Count:
    """The bytes of one file, counted in the whole as well."""

    def __init__(self, clock: Callable[[], float], whole: _Whole | None) -> None:
        self._clock = clock
        self._whole = whole
        self.sending: Sending | None = None

    def sent(self, sent_bytes: int, total_bytes: int) -> Sending:
        """Counts up to here; what the first call says was stored before, and is not counted as speed."""
        if self.sending is None:
            self.sending = Sending(self._clock, total_bytes)
            self.sending.skip(sent_bytes)
            if self._whole:
                self._whole.sending.skip(sent_bytes)
        elif more_bytes := sent_bytes - self.sending.done_bytes:
            self.sending.add(more_bytes)
            if self._whole:
                self._whole.sending.add(more_bytes)
        return self.sending

    def ended(self) -> None:
        if self._whole:
            self._whole.ended_count += 1


class LiveBoard:
    """Bars that move, for a terminal."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = Progress(
            _Column("name"), BarColumn(), TaskProgressColumn(), _Column("phase"), _Facts(), console=console,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._clock = clock
        self._whole: _Whole | None = None
        self._whole_task: TaskID | None = None
        self._spare_tasks: list[TaskID] = []

    def expect(self, file_count: int, total_bytes: int) -> None:
        """A bar for all of them above the others, where there are several."""
        if file_count > 1:
            self._whole = _Whole(self._clock, file_count, total_bytes)
            self._whole_task = self._progress.add_task(
                "", total=total_bytes, name=self._whole.name, phase="", facts="", sending=self._whole.sending
            )

    def row(self, name: str) -> Row:
        """A bar for one more file."""
        return _LiveRow(self, printable(name))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _show_whole(self) -> None:
        if self._whole and self._whole_task is not None:
            self._progress.update(self._whole_task, completed=self._whole.sending.done_bytes, name=self._whole.name)


class _LiveRow:
    def __init__(self, board: LiveBoard, name: str) -> None:
        self._board = board
        self._progress = board._progress
        self._name = name
        self._phase = "waiting"
        self._count = _Count(board._clock, board._whole)
        self._is_brief = board._whole is not None and board._whole.is_crowd
        self._task = None if self._is_brief else self._added()

    def sent(self, sent_bytes: int, total_bytes: int) -> None:
        sending = self._count.sent(sent_bytes, total_bytes)
        self._enter("uploading", total_bytes, sending)
        if self._task is not None:
            self._progress.update(self._task, completed=sent_bytes)
        self._board._show_whole()

    def processed(self, update: Update) -> None:
        self._leave_crowd()
        self._enter("processing", 1.0)
        if self._task is not None:
            self._progress.update(self._task, completed=update.fraction, facts=_tasks_text(update))

    def ended(self, word: str, *, ok: bool) -> None:
        self._leave_crowd()
        if ok:
            self._enter(word, 1.0)
            if self._task is not None:
                self._progress.update(self._task, completed=1.0, facts="")
        elif self._task is not None:
            self._progress.update(self._task, phase=word, facts="", sending=None)
            self._progress.stop_task(self._task)
        else:
            _print(self._progress.console, f"{self._name}: ended: {word}")
        self._count.ended()
        self._board._show_whole()

    def _added(self) -> TaskID:
        if self._board._spare_tasks:  # adding one draws the whole board, which thousands of files would wait for
            task = self._board._spare_tasks.pop()
            self._progress.update(task, visible=True, name=self._name)
            return task
        return self._progress.add_task("", total=None, name=self._name, phase="waiting", facts="", sending=None)

    def _enter(self, phase: str, total: float, sending: Sending | None = None) -> None:
        """Starts the bar anew when another phase begins."""
        if phase == self._phase:
            return
        self._phase = phase
        if self._is_brief and sending:
            self._task = self._added()
        if self._task is not None:
            self._progress.update(self._task, phase=phase, facts="", sending=sending, total=total, completed=0)

    def _leave_crowd(self) -> None:
        if self._is_brief and self._task is not None:
            self._progress.update(self._task, visible=False, sending=None)
            self._board._spare_tasks.append(self._task)
            self._task = None


class _Column(ProgressColumn):
    """A field of the row as it is: file names must not be read as markup."""

    def __init__(self, field: str) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        return Text(str(task.fields[self._field]), overflow="ellipsis", no_wrap=True)


class _Facts(ProgressColumn):
    """While sending: bytes, rate and time left; while processing: each kind of work."""

    def render(self, task: Task) -> Text:
        sending = task.fields["sending"]
        text = " · ".join(sending.words()) if sending else str(task.fields["facts"])
        return Text(text, style="dim", overflow="ellipsis", no_wrap=True)


class PlainBoard:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._whole: _Whole | None = None
        self._printed_s = clock()

    def expect(self, file_count: int, total_bytes: int) -> None:
        """Lines for all of them together, where there are very many."""
        self._whole = _Whole(self._clock, file_count, total_bytes)

    def row(self, name: str) -> Row:
        """Lines for one more file."""
        return _PlainRow(self, printable(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Says how far all of them came, where only some have lines of their own."""
        self._tell(at_once=True)

    def _tell(self, *, at_once: bool = False) -> None:
        now_s = self._clock()
        if self._whole and self._whole.is_crowd and (at_once or now_s - self._printed_s >= _PLAIN_AT_LEAST_EVERY_S):
            self._printed_s = now_s
            _print(self._console, ", ".join([self._whole.name, *self._whole.sending.words()]))


class _PlainRow:
    def __init__(self, board: PlainBoard, name: str) -> None:
        self._board = board
        self._name = name
        self._clock = board._clock
        self._count = _Count(board._clock, board._whole)
        self._is_brief = board._whole is not None and board._whole.is_crowd
        self._phase = ""
        self._printed_s = 0.0
        self._printed_fraction = 0.0

    def sent(self, sent_bytes: int, total_bytes: int) -> None:
        sending = self._count.sent(sent_bytes, total_bytes)
        if self._is_due("uploading", sent_bytes / total_bytes):
            self._print(f"sent {', '.join(sending.words())}")
        self._board._tell()

    def processed(self, update: Update) -> None:
        if update.media.status is Status.PROCESSING and self._is_due("processing", update.fraction):
            tasks = _tasks_text(update)
            self._print(f"processing {update.fraction:.0%}" + (f" ({tasks})" if tasks else ""))

    def ended(self, word: str, *, ok: bool) -> None:
        if not (ok and self._is_brief):
            self._print(word if ok else f"ended: {word}")
        self._count.ended()
        self._board._tell()

    def _is_due(self, phase: str, fraction: float) -> bool:
        if self._is_brief:
            return False
        now_s = self._clock()
        if phase != self._phase:
            self._phase = phase
        else:
            silent_s = now_s - self._printed_s
            is_step = fraction - self._printed_fraction >= _PLAIN_STEP and silent_s >= _PLAIN_AT_MOST_EVERY_S
            is_due = is_step or fraction >= 1.0 or silent_s >= _PLAIN_AT_LEAST_EVERY_S
            if fraction <= self._printed_fraction or not is_due:
                return False
        self._printed_s, self._printed_fraction = now_s, fraction
        return True

    def _print(self, text: str) -> None:
        _print(self._board._console, f"{self._name}: {text}")


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _tasks_text(update: Update) -> str:
    return " · ".join(f"{printable(task.label)} {task.fraction:.0%}" for task in update.tasks)
