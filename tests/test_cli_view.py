"""What is shown while syncs run: on a terminal of any size, and anywhere else."""

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
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from codat_commerce_async._core.text import format_count, format_duration, one_line
from codat_commerce_async.cli._state import DisplayState, Result, Row
from codat_commerce_async.cli._view import (
    LiveView,
    Output,
    PlainView,
    progress_text,
    run_with_view,
    throughput_text,
    view_for,
)
from codat_commerce_async.hooks import RequestStarted
from tests.support.cases import all_cases


class Terminal:
    """An output of a fixed size, and what was written to it since the last time."""

    def __init__(self, width: int = 80, height: int = 24, **environ: str) -> None:
        self.stream = io.StringIO()
        self.output = Output(
            Console(
                file=self.stream,
                force_terminal=True,
                width=width,
                height=height,
                legacy_windows=False,
                _environ={"TERM": "xterm-256color", **environ},
            )
        )

    def raw(self) -> str:
        written = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return written

    def lines(self) -> list[str]:
        """The text of what was written, without colors and cursor movements."""
        return [line.rstrip() for line in Text.from_ansi(self.raw()).plain.splitlines()]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def rows_of(*names: str) -> list[Row]:
    return [Row(name, name) for name in names]


class Clock:
    """A clock that the test advances."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def state_of(rows: list[Row], clock: Callable[[], float] | None = None) -> DisplayState:
    return DisplayState(rows, clock or Clock())


GOOD = Result(succeeded=True, label="succeeded")
BAD = Result(succeeded=False, label="data write error", reason="5130")


def test_the_picture_is_redrawn_in_place(terminal: Terminal) -> None:
    rows = rows_of("Alder", "Birch")
    state = state_of(rows)
    view = LiveView(state, terminal.output)
    view.draw()
    terminal.raw()
    state.end(rows[0], GOOD, elapsed=2.0, polls=3)
    state.begin(rows[1])
    view.draw()
    redrawn = terminal.raw()
    assert redrawn.count("\x1b[1A") == 5, "back to the first of the six lines, and all of them again"
    heading, alder, birch, bar, progress, throughput = Text.from_ansi(redrawn).plain.splitlines()
    assert heading.split() == ["company", "outcome", "duration", "polls"]
    assert alder.split() == ["Alder", "succeeded", "2.0", "s", "3"]
    assert birch.split() == ["Birch", "starting", "0.0", "s"]
    assert bar.endswith("50 %")
    assert progress.rstrip() == "1 of 2 ended, 0 running"
    assert throughput.rstrip() == "0 of 900 requests/min; 0 s so far"


@all_cases("width", [40, 79, 200])
@all_cases(("good", "bad", "total"), [(0, 0, 1), (3, 1, 10), (299, 1, 300), (1, 1, 3)])
def test_the_bar_shows_the_share_of_what_has_ended(width: int, good: int, bad: int, total: int) -> None:
    state, terminal = state_of(rows_of(*map(str, range(total)))), Terminal(width, 400, NO_COLOR="1")
    for number, row in enumerate(state.rows[: good + bad]):
        state.end(row, GOOD if number < good else BAD)
    LiveView(state, terminal.output).draw()
    bar = next(line for line in terminal.lines() if line.endswith(" %"))
    assert cell_len(bar) == width
    assert bar.endswith(f" {100 * (good + bad) // total} %")
    room = width - len(" 100 %")
    assert abs(bar.count("\u2501") - room * (good + bad) / total) <= 1


def test_the_throughput_is_that_of_the_last_minute_and_the_end_is_estimated_when_enough_is_known() -> None:
    clock = Clock()
    state = DisplayState(rows_of(*map(str, range(100))), clock, simulated=True)
    assert state.hooks.on_request_started is not None
    for second in range(90):
        clock.now = second
        state.hooks.on_request_started(RequestStarted(second, "list-syncs", 1, 0.0, {}, 0.0))
    assert throughput_text(state) == "60 of 900 requests/min; 1 min 29 s so far"
    state.seconds_left_by_run = 245.0
    for row in state.rows[:5]:
        state.end(row, GOOD)
    assert throughput_text(state) == "60 of 900 requests/min; 1 min 29 s so far; about 4 min left"
    assert progress_text(state) == "5 of 100 ended, 0 running"
    for row in state.rows[5:]:
        state.end(row, BAD)
    assert state.seconds_left is None, "nothing is left"
    assert progress_text(state) == "100 of 100 ended (95 failed), 0 running"


def test_the_end_is_given_by_the_clock_too_when_it_is_not_near() -> None:
    state = state_of(rows_of(*map(str, range(100))))
    for row in state.rows[:5]:
        state.end(row, GOOD)
    state.seconds_left_by_run = 245.0
    assert re.fullmatch(r"0 of 900 requests/min; 0 s so far; about 4 min left, until \d\d:\d\d", throughput_text(state))
    state.seconds_left_by_run = 42.0
    assert throughput_text(state).endswith("about 42 s left")
    state.seconds_left_by_run = None
    assert throughput_text(state).endswith("0 s so far")


@all_cases(
    ("seconds", "text", "roughly"),
    [(0.4, "0 s", "0 s"), (59, "59 s", "59 s"), (95, "1 min 35 s", "1 min"), (7500, "2 h 5 min", "2 h 5 min")],
)
def test_durations_are_given_in_their_two_largest_units(seconds: float, text: str, roughly: str) -> None:
    assert (format_duration(seconds), format_duration(seconds, rough=True)) == (text, roughly)


@pytest.mark.parametrize(("number", "text"), [(0, "0 requests"), (1, "1 request"), (2, "2 requests")])
def test_a_count_has_the_right_form_of_its_noun(number: int, text: str) -> None:
    assert format_count(number, "request") == text
    assert format_count(2, "company", "companies") == "2 companies"


def test_messages_are_printed_above_the_picture(terminal: Terminal) -> None:
    state = state_of(rows_of("Alder"))
    view = LiveView(state, terminal.output)
    view.draw()
    terminal.raw()
    for message in ("the first", "and\nthe second"):
        state.add_message(message)
    view.draw()
    assert terminal.lines()[:2] == ["the first", "and the second"]


def test_of_many_companies_messages_are_limited() -> None:
    clock, stream = Clock(), io.StringIO()
    state = DisplayState(rows_of(*map(str, range(100))), clock)
    view = PlainView(state, Output.to(stream))
    for number in range(1000):
        state.add_message(f"message {number}")
    view.draw()
    clock.now = 11
    state.add_message("another")
    view.draw()
    assert stream.getvalue().splitlines()[:-1] == [
        *(f"    0.0 s  message {number}" for number in range(3)),
        *("   11.0 s  ... and 997 more like these", "   11.0 s  another"),
    ]


@pytest.mark.parametrize("keep", [True, False])
def test_the_cursor_comes_back(terminal: Terminal, *, keep: bool) -> None:
    view = LiveView(state_of(rows_of("Alder")), terminal.output)
    view.draw()
    assert "\x1b[?25l" in terminal.raw()
    view.close(keep=keep)
    closed = terminal.raw()
    assert "\x1b[?25h" in closed
    erased = "\x1b[1A\x1b[2K" in closed.partition("\x1b[?25h")[2]
    assert erased is not keep, "the picture is erased after its last refresh, or stays"


@given(st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=40), st.integers(60, 130), st.integers(8, 50))
def test_a_picture_fits_any_terminal(names: list[str], width: int, height: int) -> None:
    terminal = Terminal(width, height, NO_COLOR="1")
    LiveView(state_of(rows_of(*names)), terminal.output).draw()
    lines = terminal.lines()
    assert len(lines) < height
    assert max(map(cell_len, lines)) <= width
    assert lines[-1].endswith("so far")


@pytest.mark.parametrize("width", [40, 50])
def test_on_a_narrow_terminal_names_are_cut_and_numbers_are_not(width: int) -> None:
    rows, terminal = rows_of("a company with a rather long name indeed"), Terminal(width)
    state = state_of(rows)
    state.end(rows[0], GOOD, elapsed=3600.0, polls=100)
    terminal.output.print_rows(state)
    assert re.fullmatch(r"a comp.*\u2026 +succe\S+ +3600\.0 s +100", terminal.lines()[1])


@pytest.mark.parametrize(("number", "height"), [(100, 24), (30, 24), (100, 120)])
def test_instead_of_too_many_rows_the_latest_failures_are_shown(number: int, height: int) -> None:
    rows = rows_of(*(f"company {each}" for each in range(number)))
    state, terminal = state_of(rows), Terminal(80, height)
    for row in rows[:8]:
        state.end(row, BAD)
    LiveView(state, terminal.output).draw()
    lines = terminal.lines()
    assert lines[0] == "the latest failures:"
    assert lines[1:6] == [f"company {each}: data write error" for each in range(3, 8)]
    assert len(lines) == 9


@pytest.mark.parametrize(("environ", "colors"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_no_color_takes_the_colors_away_and_nothing_else(environ: dict[str, str], *, colors: bool) -> None:
    terminal = Terminal(80, 24, **environ)
    view = view_for(state_of(rows_of("Alder")), terminal.output)
    assert isinstance(view, LiveView)
    view.draw()
    assert bool(re.search(r"\x1b\[[\d;]*3\dm", terminal.raw())) is colors


def test_a_dumb_terminal_and_a_pipe_get_plain_lines() -> None:
    state = state_of(rows_of("Alder"))
    assert isinstance(view_for(state, Terminal(TERM="dumb").output), PlainView)
    assert isinstance(view_for(state, Output.to(io.StringIO())), PlainView)


def test_a_pipe_stays_plain_even_where_colors_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(view_for(state_of(rows_of("Alder")), Output.to(io.StringIO())), PlainView)


@pytest.mark.parametrize("columns", ["10", "80"])
def test_in_a_pipe_nothing_is_cut_or_wrapped(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name, stream = "company " * 20, io.StringIO()
    output = Output.to(stream)
    output.print_rows(state_of(rows_of(name)))
    output.print("word " * 100)
    output.print_unbroken("x" * 500)
    heading, line, words, unbroken = stream.getvalue().splitlines()
    assert line.startswith(f"{name}  queued")
    assert len(heading) == len(line)
    assert (len(words), len(unbroken)) == (500, 500)


def test_commands_are_never_broken_and_text_is_between_words() -> None:
    terminal = Terminal(width=40)
    terminal.output.print_unbroken("y" * 100)
    terminal.output.print("a word " * 10)
    first, *rest = terminal.lines()
    assert first == "y" * 100
    assert len(rest) > 1
    assert {word for line in rest for word in line.split()} == {"a", "word"}


@pytest.mark.parametrize("text", ["[bold]x[/bold]", ":smile:", "[/nothing]", "12 apples at 0x10", "\\[a]"])
def test_text_that_resembles_markup_is_printed_unchanged(terminal: Terminal, text: str) -> None:
    terminal.output.print(text)
    terminal.output.print_unbroken(text)
    terminal.output.print_rows(state_of(rows_of(text)))
    assert terminal.raw().count(text) == 3


def test_plain_lines_show_each_change_once() -> None:
    rows, stream, clock = rows_of("Alder", "Birch"), io.StringIO(), Clock()
    state = state_of(rows, clock)
    clock.now = 1.5
    view = PlainView(state, Output.to(stream))
    view.draw()
    state.add_message("it rains")
    state.end(rows[1], BAD)
    view.draw()
    view.draw()
    assert stream.getvalue().splitlines() == ["    1.5 s  it rains", "    1.5 s  Birch: data write error"]


class Broken(io.StringIO):
    """A pipe whose reader has gone away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, text)


class BrokenTerminal(Broken):
    def isatty(self) -> bool:
        return True


@pytest.mark.virtual_time
@pytest.mark.parametrize("stream", [Broken, BrokenTerminal])
async def test_a_stream_that_breaks_ends_the_work(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    state = state_of(rows_of("Alder"))
    state.add_message("this is not read")
    view = view_for(state, Output.to(stream()))
    task = asyncio.create_task(run_with_view(work(), view, 1.0))
    with pytest.raises(BrokenPipeError):
        await task


@pytest.mark.virtual_time
async def test_an_error_of_the_work_is_raised_and_the_last_view_stays(terminal: Terminal) -> None:
    async def work() -> None:
        await asyncio.sleep(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_with_view(work(), LiveView(state_of(rows_of("Alder")), terminal.output), 1.0)
    written = terminal.raw()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert "\x1b[2K" not in written[written.rindex("\x1b[?25h") :], "nothing is erased after the end"


@given(st.text())
def test_one_line_has_no_terminal_control_sequences(text: str) -> None:
    assert one_line(text).isprintable()


@pytest.mark.parametrize("name", ["\u4f1a\u793e", "e\u0301", "\U0001f6d2 shop"])
def test_wide_and_combining_characters_keep_the_columns_in_line(terminal: Terminal, name: str) -> None:
    terminal.output.print_rows(state_of(rows_of(name, "Alder and Birch")))
    _, first, second = terminal.lines()
    before = cell_len(first[: first.index("queued")])
    assert before == cell_len(second[: second.index("queued")])


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
            if b"running" in chunk and b"running" not in output:
                process.send_signal(signal.SIGINT)
            output += chunk
    assert process.returncode == 130
    assert output.count(b"\x1b[?25l") > 0
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")


def read(terminal: io.RawIOBase) -> bytes:
    """What comes from a pseudo-terminal; nothing when the other api is gone, which Linux calls an error."""
    try:
        return terminal.read(4096) or b""
    except OSError:
        return b""
