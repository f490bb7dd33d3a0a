"""What is seen while syncs run: on a terminal, played back by a small one, and anywhere else."""

import asyncio
import errno
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async.cli.board import Board, Row
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.table import table
from codat_commerce_async.cli.text import cells, fit, one_line
from codat_commerce_async.cli.view import LiveView, PlainView, view_of, watched
from codat_commerce_async.errors import RequestTimeoutError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus


class Terminal(io.StringIO):
    """A terminal that obeys the few sequences that the view uses, and knows no others."""

    SEQUENCE = re.compile(r"\x1b\[(?P<given>\??[\d;]*)(?P<final>[A-Za-z])")

    def __init__(self) -> None:
        super().__init__()
        self.lines = [""]
        self.at = 0
        self.cursor_shown = True
        self.colors = False
        self.blanked = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        rest = text
        while rest:
            if rest[0] == "\n":
                self.at += 1
                self.lines += [""] * (self.at + 1 - len(self.lines))
                self.column, rest = 0, rest[1:]
            elif rest[0] == "\r":
                self.column, rest = 0, rest[1:]
            elif rest[0] == "\x1b":
                match = self.SEQUENCE.match(rest)
                assert match is not None, f"unknown sequence {rest[:8]!r}"
                self.obey(match["given"], match["final"])
                rest = rest[match.end() :]
            else:
                line = self.lines[self.at]
                self.lines[self.at] = line[: self.column] + rest[0] + line[self.column + 1 :]
                self.column, rest = self.column + 1, rest[1:]
        return len(text)

    column = 0

    def obey(self, given: str, final: str) -> None:
        match given, final:
            case "?25", "l" | "h":
                self.cursor_shown = final == "h"
            case _, "m":
                self.colors = True
            case lines, "A":
                self.at -= int(lines)
                assert self.at >= 0, "above the top"
            case "", "K":
                self.lines[self.at] = self.lines[self.at][: self.column]
            case "", "J":
                self.lines[self.at :] = [self.lines[self.at][: self.column]]
            case _:
                raise AssertionError(f"unknown sequence {given}{final}")

    @property
    def seen(self) -> list[str]:
        return [line.rstrip() for line in self.lines[: self.at]]


@pytest.fixture
def size(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def set_size(columns: int, lines: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))

    set_size(80, 24)
    return set_size


@pytest.fixture
def terminal(size: Callable[[int, int], None]) -> Terminal:
    del size
    return Terminal()


def screen_of(terminal: Terminal, **environ: str) -> Screen:
    return Screen.of(terminal, {"TERM": "xterm", **environ}, platform="linux")


def rows_of(*names: str) -> list[Row]:
    return [Row(name, name) for name in names]


def board_of(rows: list[Row], now: float = 0.0) -> Board:
    times = iter([0.0])
    return Board(rows, lambda: next(times, now))


def end(row: Row, code: int) -> None:
    row.began, row.ended, row.handle = 0.0, 2.0, SyncHandle(company_id=row.company_id)
    row.status = SyncStatus(company_id=row.company_id, sync_status_code=code)


def test_the_picture_is_redrawn_where_it_stands(terminal: Terminal) -> None:
    rows = rows_of("Alder", "Birch")
    terminal.write("before\n")
    view = LiveView(board_of(rows), screen_of(terminal))
    view.draw()
    end(rows[0], 2000)
    rows[1].began = 0.0
    view.draw()
    heading, alder, birch, counts = terminal.seen[1:]
    assert terminal.seen[0] == "before"
    assert heading.split() == ["company", "outcome", "duration", "requests"]
    assert alder.split() == ["Alder", "succeeded", "2.0", "s"]
    assert birch.split() == ["Birch", "starting", "0.0", "s"]
    assert counts.startswith("1 under way, 1 done, 0 failed of 2;")


def test_remarks_scroll_away_above_the_picture(terminal: Terminal) -> None:
    board = board_of(rows_of("Alder"))
    view = LiveView(board, screen_of(terminal))
    view.draw()
    for remark in ("the first", "and\nthe second"):
        board.remark(remark)
        view.draw()
    assert terminal.seen[:2] == ["the first", "and the second"]
    assert len(terminal.seen) == 5


def test_nothing_is_written_while_nothing_changes(terminal: Terminal) -> None:
    view = LiveView(board_of(rows_of("Alder")), screen_of(terminal))
    view.draw()
    before = (terminal.seen, terminal.at)
    terminal.write = None  # type: ignore[method-assign, assignment]
    view.draw()
    assert (terminal.seen, terminal.at) == before


@pytest.mark.parametrize("keep", [True, False])
def test_the_cursor_comes_back(terminal: Terminal, *, keep: bool) -> None:
    view = LiveView(board_of(rows_of("Alder")), screen_of(terminal))
    view.draw()
    assert not terminal.cursor_shown
    view.close(keep=keep)
    assert terminal.cursor_shown
    assert bool(terminal.seen) is keep


def test_a_terminal_that_was_made_narrower_is_not_littered(size: Callable[[int, int], None]) -> None:
    size(80, 24)
    terminal = Terminal()
    view = LiveView(board_of(rows_of("a company with a rather long name indeed")), screen_of(terminal))
    view.draw()
    size(60, 24)
    terminal.lines = [line[at : at + 60] for line in terminal.lines for at in range(0, max(1, len(line)), 60)]
    terminal.at, terminal.column = len(terminal.lines) - 1, 0
    view.draw()
    assert len(terminal.seen) == 3


@given(st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=40), st.integers(60, 130), st.integers(6, 50))
def test_a_picture_fits_any_terminal(names: list[str], columns: int, lines: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("LINES", str(lines))
        terminal = Terminal()
        LiveView(board_of(rows_of(*names)), screen_of(terminal)).draw()
    assert len(terminal.seen) < lines
    assert max(map(cells, terminal.seen)) < columns


def test_of_too_many_rows_those_under_way_are_seen(size: Callable[[int, int], None]) -> None:
    size(80, 10)
    rows = rows_of(*(f"company {number}" for number in range(100)))
    for row in rows[:90]:
        end(row, 2000)
    rows[50].error = RequestTimeoutError("too long")
    for row in rows[97:]:
        row.began = 0.0
    terminal = Terminal()
    LiveView(board_of(rows), screen_of(terminal)).draw()
    assert [line.partition("  ")[0] for line in terminal.seen[1:-2]] == [
        *("company 50", "company 90", "company 91", "company 97", "company 98", "company 99")
    ]
    assert terminal.seen[-2] == "... and 94 more"


@pytest.mark.parametrize(("environ", "colors"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_no_color_takes_the_colors_away_and_nothing_else(
    terminal: Terminal, environ: dict[str, str], *, colors: bool
) -> None:
    view = view_of(board_of(rows_of("Alder")), screen_of(terminal, **environ))
    assert isinstance(view, LiveView)
    view.draw()
    assert terminal.colors is colors


def test_a_dumb_terminal_and_a_file_get_plain_lines(terminal: Terminal) -> None:
    board = board_of(rows_of("Alder"))
    assert isinstance(view_of(board, screen_of(terminal, TERM="dumb")), PlainView)
    assert isinstance(view_of(board, Screen.of(io.StringIO(), {}, platform="linux")), PlainView)


def test_plain_lines_tell_each_change_once() -> None:
    rows, stream = rows_of("Alder", "Birch"), io.StringIO()
    board = board_of(rows, now=1.5)
    view = PlainView(board, Screen(stream))
    view.draw()
    board.remark("it rains")
    end(rows[1], 5130)
    view.draw()
    view.draw()
    assert stream.getvalue().splitlines() == ["    1.5 s  it rains", "    1.5 s  Birch: data write error"]


@pytest.mark.virtual_time
async def test_a_stream_that_breaks_ends_the_work() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, text)

    rows = rows_of("Alder")
    end(rows[0], 2000)
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def begin() -> None:
        await asyncio.sleep(0)
        await work()

    board = board_of(rows_of("Alder"))
    view = PlainView(board, Screen(Broken()))
    task = asyncio.create_task(watched(begin(), view, 1.0))
    await asyncio.sleep(10)
    board.remark("nobody reads this")
    with pytest.raises(BrokenPipeError):
        await task
    assert ended.is_set()


@pytest.mark.virtual_time
async def test_what_the_work_raises_is_raised_and_the_last_picture_stays(terminal: Terminal) -> None:
    async def work() -> None:
        await asyncio.sleep(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await watched(work(), LiveView(board_of(rows_of("Alder")), screen_of(terminal)), 1.0)
    assert terminal.cursor_shown
    assert len(terminal.seen) == 3


def test_a_table_without_bounds_cuts_nothing() -> None:
    name = "company " * 20
    heading, line = table(rows_of(name), 0.0, Screen(io.StringIO()))
    assert line.startswith(f"{name}  queued")
    assert len(heading) == len(line)


@given(st.text(), st.integers(1, 80))
def test_a_text_is_made_to_fit_exactly(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert cells(fitted) == width
    assert fitted.rstrip() == text.rstrip() if cells(text) <= width else "~" in fitted


@given(st.text())
def test_one_line_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert one_line(text).isprintable()


@pytest.mark.parametrize(("text", "width"), [("", 0), ("abc", 3), ("会社", 4), ("e\u0301", 1)])
def test_text_is_as_wide_as_terminals_draw_it(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals as POSIX has them")
@pytest.mark.parametrize("interrupted", [True, False])
def test_a_real_terminal_gets_its_cursor_back(*, interrupted: bool) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(  # noqa: S603 - this interpreter, and what stands in this file
        [sys.executable, "-m", "codat_commerce_async", "demo", "--speed", "5" if interrupted else "1000000"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(theirs)
    output = b""
    with process, os.fdopen(ours, "rb", buffering=0) as terminal:
        while chunk := read(terminal):
            output += chunk
            if interrupted and b"under way" in output:
                process.send_signal(signal.SIGINT)
                interrupted = False
    assert process.returncode in {0, 130}
    assert output.count(b"\x1b[?25l") > 0
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")


def read(terminal: io.RawIOBase) -> bytes:
    """What comes from a pseudo-terminal; nothing when the other side is gone, which Linux calls an error."""
    try:
        return terminal.read(4096) or b""
    except OSError:
        return b""
