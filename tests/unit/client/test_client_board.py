import io
import re

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
    file, now_s = io.StringIO(), 0.0
    row = PlainBoard(Console(file=file, width=20), clock=lambda: now_s).row("a.mp4")
    for sent_bytes in range(1001):
        row.sent(sent_bytes, 1000)
        now_s += takes_s / 1000
        row.sent(sent_bytes, 1000)
    assert abs(len(file.getvalue().splitlines()) - lines) <= 1


def of_many(file_count: int, *, terminal: bool) -> str:
    """What many files leave on the screen, of which the third fails; each second brings one, of 10 MB."""
    file, now_s = io.StringIO(), 0.0
    console = Console(file=file, force_terminal=terminal, width=140, height=30, color_system=None)
    kind = LiveBoard if terminal else PlainBoard
    with kind(console, clock=lambda: now_s) as board:
        board.expect(file_count, file_count * 10_000_000)
        for number in range(1, file_count + 1):
            row = board.row(f"{number}.jpg")
            row.sent(0, 10_000_000)
            now_s += 1.0
            row.sent(10_000_000, 10_000_000)
            row.ended("refused" if number == 3 else "processing", ok=number != 3)
    return file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_of_very_many_files_the_whole_is_shown_and_what_failed(terminal: bool) -> None:
    text = of_many(200, terminal=terminal)
    assert "3.jpg: ended: refused" in text
    assert "200 of 200 files" in text.splitlines()[-2 if terminal else -1]
    assert re.search(r"10\.\d MB/s", text)
    assert len(text.splitlines()) < 200 / 5 + 10 or terminal


def test_a_terminal_shows_no_more_rows_than_are_under_way() -> None:
    last_frame = of_many(200, terminal=True).splitlines()[-2:]
    assert not any(".jpg" in line for line in last_frame)


def test_of_a_few_files_each_keeps_its_row_below_the_whole() -> None:
    frame = of_many(3, terminal=True).splitlines()[-5:-1]
    assert "3 of 3 files" in frame[0]
    assert [line.split()[0] for line in frame[1:]] == ["1.jpg", "2.jpg", "3.jpg"]


def test_what_was_there_before_is_neither_speed_nor_time() -> None:
    file, now_s = io.StringIO(), 0.0
    row = PlainBoard(Console(file=file, width=200), clock=lambda: now_s).row("a.mp4")
    row.sent(900_000_000, 1_000_000_000)
    now_s = 10.0
    row.sent(950_000_000, 1_000_000_000)
    assert file.getvalue().splitlines() == [
        "a.mp4: sent 900.0 MB of 1.0 GB",
        "a.mp4: sent 950.0 MB of 1.0 GB, 7.9 MB/s, 0:06 left",
    ]


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveBoard), (False, PlainBoard)])
def test_the_console_chooses_the_board(terminal: bool, kind: type) -> None:
    assert isinstance(board_for(Console(file=io.StringIO(), force_terminal=terminal)), kind)


def test_nothing_from_elsewhere_steers_the_terminal() -> None:
    assert "\x1b" not in printable("a\x1b[2Jb\r\n")
    assert printable("Ferien - Größe 3.mp4") == "Ferien - Größe 3.mp4"
