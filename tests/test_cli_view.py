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

from codat_commerce_async._text import one_line
from codat_commerce_async.cli.board import Board, Row
from codat_commerce_async.cli.gauge import bar, counts, pace
from codat_commerce_async.cli.result import Result
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.table import table
from codat_commerce_async.cli.text import cells, fit, span
from codat_commerce_async.cli.view import LiveView, PlainView, view_of, watched
from codat_commerce_async.hooks import RequestStarted


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


class Clock:
    """Seconds that go on when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def board_of(rows: list[Row], clock: Callable[[], float] | None = None) -> Board:
    return Board(rows, clock or Clock())


WELL = Result(good=True, word="succeeded")
BADLY = Result(good=False, word="data write error", why="5130")


def test_the_picture_is_redrawn_where_it_stands(terminal: Terminal) -> None:
    rows = rows_of("Alder", "Birch")
    terminal.write("before\n")
    board = board_of(rows)
    view = LiveView(board, screen_of(terminal))
    view.draw()
    board.end(rows[0], WELL, took=2.0, looks=3)
    board.begin(rows[1])
    view.draw()
    heading, alder, birch, gauge, counted, _ = terminal.seen[1:]
    assert terminal.seen[0] == "before"
    assert heading.split() == ["company", "outcome", "duration", "looks"]
    assert alder.split() == ["Alder", "succeeded", "2.0", "s", "3"]
    assert birch.split() == ["Birch", "starting", "0.0", "s"]
    assert gauge.endswith("50 %")
    assert counted == "1 of 2 ended, 0 under way"


@pytest.mark.parametrize("width", [40, 79, 200])
@pytest.mark.parametrize(
    ("good", "bad", "under_way", "total"), [(0, 0, 0, 1), (3, 1, 2, 10), (299, 1, 0, 300), (1, 1, 9, 3)]
)
def test_a_bar_shows_each_share(width: int, good: int, bad: int, under_way: int, total: int) -> None:
    board = board_of(rows_of(*map(str, range(total))))
    for number, row in enumerate(board.rows[: good + bad]):
        board.end(row, WELL if number < good else BADLY)
    board.under_way = under_way
    drawn = bar(board, Screen(io.StringIO()), width)
    assert len(drawn) == width
    assert re.fullmatch(r"\[#*!*=*\.*\] +\d+ %", drawn)
    room = width - len("[] 100 %")
    assert abs(drawn.count("#") - room * good / total) <= 1
    assert abs(drawn.count("!") - room * bad / total) <= 1


def test_the_pace_is_that_of_the_last_minute_and_the_end_is_told_when_enough_is_known() -> None:
    clock = Clock()
    board = Board(rows_of(*map(str, range(100))), clock, simulated=True)
    assert board.hooks.on_request is not None
    for second in range(90):
        clock.now = second
        board.hooks.on_request(RequestStarted(second, "list-syncs", 1, 0.0, {}, 0.0))
    assert pace(board) == "60 of 900 requests/min; 1 min 29 s so far"
    board.seconds_left_by_run = 245.0
    assert board.seconds_left is None, "nothing has ended yet"
    for row in board.rows[:5]:
        board.end(row, WELL)
    assert pace(board) == "60 of 900 requests/min; 1 min 29 s so far; about 4 min left"
    assert counts(board) == "5 of 100 ended, 0 under way"
    for row in board.rows[5:]:
        board.end(row, BADLY)
    assert board.seconds_left is None, "nothing is left"
    assert counts(board) == "100 of 100 ended (95 failed), 0 under way"


def test_the_end_is_told_by_the_clock_too_when_it_is_not_near() -> None:
    board = board_of(rows_of(*map(str, range(100))))
    for row in board.rows[:5]:
        board.end(row, WELL)
    board.seconds_left_by_run = 245.0
    assert re.fullmatch(r"0 of 900 requests/min; 0 s so far; about 4 min left, till \d\d:\d\d", pace(board))
    board.seconds_left_by_run = 42.0
    assert pace(board).endswith("about 42 s left")


@pytest.mark.parametrize(
    ("seconds", "said", "roughly"),
    [(0.4, "0 s", "0 s"), (59, "59 s", "59 s"), (95, "1 min 35 s", "1 min"), (7500, "2 h 5 min", "2 h 5 min")],
)
def test_seconds_are_told_in_their_two_largest_units(seconds: float, said: str, roughly: str) -> None:
    assert (span(seconds), span(seconds, rough=True)) == (said, roughly)


def test_remarks_scroll_away_above_the_picture(terminal: Terminal) -> None:
    board = board_of(rows_of("Alder"))
    view = LiveView(board, screen_of(terminal))
    view.draw()
    for remark in ("the first", "and\nthe second"):
        board.remark(remark)
        view.draw()
    assert terminal.seen[:2] == ["the first", "and the second"]
    assert len(terminal.seen) == 2 + 5  # headings, a row, and the gauge's three lines


def test_where_there_are_many_remarks_are_rationed() -> None:
    clock, stream = Clock(), io.StringIO()
    board = Board(rows_of(*map(str, range(100))), clock)
    view = PlainView(board, Screen(stream))
    for number in range(1000):
        board.remark(f"remark {number}")
    view.draw()
    clock.now = 11
    board.remark("another")
    view.draw()
    assert stream.getvalue().splitlines()[:-1] == [
        *(f"    0.0 s  remark {number}" for number in range(3)),
        *("   11.0 s  ... and 997 more like these", "   11.0 s  another"),
    ]


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
    assert len(terminal.seen) == 5


@given(st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=40), st.integers(60, 130), st.integers(8, 50))
def test_a_picture_fits_any_terminal(names: list[str], columns: int, lines: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("LINES", str(lines))
        terminal = Terminal()
        LiveView(board_of(rows_of(*names)), screen_of(terminal)).draw()
    assert len(terminal.seen) < lines
    assert max(map(cells, terminal.seen)) < columns


@pytest.mark.parametrize(("number", "lines"), [(100, 24), (30, 24), (100, 120)])
def test_instead_of_too_many_rows_the_latest_failures_are_seen(
    size: Callable[[int, int], None], number: int, lines: int
) -> None:
    size(80, lines)
    rows = rows_of(*(f"company {each}" for each in range(number)))
    board, terminal = board_of(rows), Terminal()
    for row in rows[:8]:
        board.end(row, BADLY)
    LiveView(board, screen_of(terminal)).draw()
    assert terminal.seen[0] == "the latest failures:"
    assert terminal.seen[1:6] == [f"company {each}: data write error" for each in range(3, 8)]
    assert len(terminal.seen) == 9


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
    rows, stream, clock = rows_of("Alder", "Birch"), io.StringIO(), Clock()
    board = board_of(rows, clock)
    clock.now = 1.5
    view = PlainView(board, Screen(stream))
    view.draw()
    board.remark("it rains")
    board.end(rows[1], BADLY)
    view.draw()
    view.draw()
    assert stream.getvalue().splitlines() == ["    1.5 s  it rains", "    1.5 s  Birch: data write error"]


@pytest.mark.virtual_time
async def test_a_stream_that_breaks_ends_the_work() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, text)

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
    assert len(terminal.seen) == 5


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
def test_a_real_terminal_gets_its_cursor_back() -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "codat_commerce_async", "demo"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(theirs)
    output = b""
    with process, os.fdopen(ours, "rb", buffering=0) as terminal:
        while chunk := read(terminal):
            if b"under way" in chunk and b"under way" not in output:
                process.send_signal(signal.SIGINT)
            output += chunk
    assert process.returncode == 130
    assert output.count(b"\x1b[?25l") > 0
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")


def read(terminal: io.RawIOBase) -> bytes:
    """What comes from a pseudo-terminal; nothing when the other side is gone, which Linux calls an error."""
    try:
        return terminal.read(4096) or b""
    except OSError:
        return b""
