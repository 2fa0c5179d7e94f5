import io

import pytest
from rich.console import Console

from millrace import Media, TaskProgress, Update
from millrace.board import LiveBoard, PlainBoard, board_for, printable
from tests.unit.client.fakes import media_json

NAME = "clip [red].mp4"  # would be markup, were it read as such


def update(fraction: float) -> Update:
    return Update(Media.from_json(media_json()), fraction, (TaskProgress("720p", fraction),))


def shown(*, terminal: bool) -> str:
    """What a whole life of one file, and a short one of another, leave on the screen."""
    file = io.StringIO()
    with board_for(Console(file=file, force_terminal=terminal, width=140, color_system=None)) as board:
        row, other = board.row(NAME), board.row("bad.mov")
        row.sent(0, 100_000_000)
        row.sent(40_000_000, 100_000_000)
        row.sent(100_000_000, 100_000_000)
        row.processed(update(0.5))
        row.ended("published", ok=True)
        other.ended("failed", ok=False)
    return file.getvalue()


def test_a_terminal_gets_bars_that_end_with_what_came_of_each_file() -> None:
    # each frame begins in the middle of a line, after the codes that go back to where the last one began
    first, second, _show_cursor = shown(terminal=True).splitlines()[-3:]
    assert NAME in first
    assert first.split()[-2:] == ["100%", "published"]
    assert second.split()[-1] == "failed"


def test_anything_else_gets_plain_lines() -> None:
    lines = shown(terminal=False).splitlines()
    assert lines[0] == f"{NAME}: sent 0 bytes of 100.0 MB"
    assert lines[1].startswith(f"{NAME}: sent 100.0 MB of 100.0 MB, ")
    assert lines[2:] == [f"{NAME}: processing 50% (720p 50%)", f"{NAME}: published", "bad.mov: ended: failed"]


@pytest.mark.parametrize(
    ("takes_s", "lines"),
    [(0.5, 2), (3.0, 4), (20.0, 11), (100.0, 21)],
    ids=["first and last of a quick file", "one a second", "every tenth", "a slow file every five seconds"],
)
def test_plain_lines_are_neither_too_many_nor_too_few(takes_s: float, lines: int) -> None:
    file, now = io.StringIO(), iter(takes_s * step / 2000 for step in range(10_000))
    row = PlainBoard(Console(file=file, width=20), clock=lambda: next(now)).row("a.mp4")
    for sent_bytes in range(1001):
        row.sent(sent_bytes, 1000)
        row.sent(sent_bytes, 1000)
    assert abs(len(file.getvalue().splitlines()) - lines) <= 1


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveBoard), (False, PlainBoard)])
def test_the_console_chooses_the_board(terminal: bool, kind: type) -> None:
    assert isinstance(board_for(Console(file=io.StringIO(), force_terminal=terminal)), kind)


def test_nothing_from_elsewhere_steers_the_terminal() -> None:
    assert "\x1b" not in printable("a\x1b[2Jb\r\n")
    assert printable("Ferien - Größe 3.mp4") == "Ferien - Größe 3.mp4"
