"""Show the progress of a run: a live table on a terminal, plain lines elsewhere. The only module that uses rich."""

import asyncio
import contextlib
import errno
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Protocol, Self, TextIO, TypeAlias

from codat_commerce_async._core.text import format_duration, one_line
from codat_commerce_async.cli._exit import EXIT_USAGE, CommandError
from codat_commerce_async.cli._state import DisplayState, Row, Status

try:
    from rich.cells import cell_len
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "rich":
        raise
    raise CommandError("this command needs an extra: pip install 'codat-commerce-async[cli]'", EXIT_USAGE) from None

__all__ = [
    "Line",
    "LiveView",
    "Output",
    "PlainView",
    "QuietView",
    "View",
    "progress_text",
    "run_with_view",
    "throughput_text",
    "view_for",
]

Line: TypeAlias = tuple[tuple[str, ...], Status]
"""The cells of a table's line, and the status by which it is colored."""

# Wide enough for the cells to come, so that the columns do not move.
_HEADINGS = ("company", "outcome".ljust(len("nothing to write")), "duration".rjust(len("3600.0 s")), "polls")
_STYLES = {Status.QUEUED: "dim", Status.RUNNING: "cyan", Status.SUCCEEDED: "green", Status.FAILED: "red"}
# The first columns are text, which is truncated on a narrow terminal; the others are numbers.
_TEXT_COLUMNS = 2
# Output to a file or pipe is neither wrapped nor truncated.
_UNLIMITED = 1_000_000
# Lines of the picture besides rows and progress: the headings, and the line of the cursor.
_OTHER_LINES = 2
_LATEST_FAILURES = 5
# Seconds between lines of progress, where not each company is shown.
_PROGRESS_INTERVAL = 10.0
_MINUTE = 60.0


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Rich would exit here, but the command has handles to print first.
        raise BrokenPipeError(errno.EPIPE, "the output was closed")


class Output:
    """The output of a command: a terminal, with a width and colors, or a pipe or file, with neither.

    Rich detects the capabilities of a terminal, from NO_COLOR, FORCE_COLOR, TERM and COLUMNS among others.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    @classmethod
    def to(cls, stream: TextIO) -> Self:
        """Return the output to a stream."""
        terminal = stream.isatty()
        width, interactive = (None, None) if terminal else (_UNLIMITED, False)
        return cls(_Console(file=stream, width=width, force_interactive=interactive))

    @property
    def live(self) -> bool:
        """Whether lines can be redrawn in place."""
        return self.console.is_interactive

    def print(self, *lines: str) -> None:
        """Print lines, wrapped between words."""
        for line in lines:
            self.console.print(Text(line))

    def print_unbroken(self, *lines: str) -> None:
        """Print lines that users copy or programs read, such as commands, without wrapping them."""
        for line in lines:
            self.console.print(Text(line), soft_wrap=True)

    def print_table(self, headings: Sequence[str], lines: Sequence[Line]) -> None:
        """Print a table; the first two columns are truncated if they do not fit."""
        if self.console.is_terminal:
            self.console.print(_table(headings, lines))
        else:
            # A journal may have a hundred thousand companies, for which rich's table takes a minute.
            self.console.out("\n".join(_plain_table(headings, lines)), highlight=False)

    def print_rows(self, state: DisplayState) -> None:
        """Print the table of a run's companies."""
        self.print_table(_HEADINGS, _lines_of_rows(state))


class View(Protocol):
    """A view of the state of a run."""

    def draw(self) -> None:
        """Show the changes."""
        ...

    def close(self, *, keep: bool) -> None:
        """Stop showing; `keep` leaves the last picture on the terminal."""
        ...


def view_for(state: DisplayState, output: Output) -> View:
    """Return the view that suits the output."""
    return LiveView(state, output) if output.live else PlainView(state, output)


async def run_with_view(
    work: Coroutine[object, object, None], view: View, interval: float, *, after_draw: Callable[[], None] | None = None
) -> None:
    """Run the work and draw the view every `interval` seconds; raise what the work raises.

    `after_draw` is called after each drawing. An interruption (ctrl-C, a closed pipe) cancels the work.
    """
    task = asyncio.create_task(work)
    try:
        while not task.done():
            view.draw()
            if after_draw is not None:
                after_draw()
            await asyncio.wait({task}, timeout=interval)
        view.draw()
        task.result()
    except BaseException:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(OSError):  # the stream itself may be broken
            view.draw()
        with contextlib.suppress(OSError):
            view.close(keep=True)
        raise
    view.close(keep=False)


class QuietView:
    """Show nothing, and keep the state up to date for the summary."""

    def __init__(self, state: DisplayState) -> None:
        self._state = state

    def draw(self) -> None:
        """Discard the messages since the last call."""
        self._state.refresh()
        self._state.take_messages()

    def close(self, *, keep: bool) -> None:
        """Do nothing."""


class PlainView:
    """Print lines, each with the seconds since the start.

    For a few companies every change is printed; for many, the failures, and the progress every ten seconds.
    """

    def __init__(self, state: DisplayState, output: Output) -> None:
        self._state = state
        self._output = output
        self._printed: dict[Row, str] = {}
        self._printed_failures = len(state.failed)
        self._next_progress = _PROGRESS_INTERVAL

    def draw(self) -> None:
        """Print the changes since the last call."""
        self._state.refresh()
        now = self._state.now
        news = self._changes() if self._state.is_small else self._failures()
        for when, line in (*self._state.take_messages(), *((now, line) for line in news)):
            self._output.print_unbroken(f"{when:7.1f} s  {line}")

    def close(self, *, keep: bool) -> None:
        """Do nothing: lines stay where they are."""

    def _changes(self) -> list[str]:
        rows = (row for row in self._state.rows if not row.ended_before)
        changed = [row for row in rows if row.label != self._printed.get(row, "queued")]
        self._printed.update((row, row.label) for row in changed)
        return [row.message(row.label) for row in changed]

    def _failures(self) -> list[str]:
        failed = self._state.failed[self._printed_failures :]
        self._printed_failures += len(failed)
        lines = [row.message(row.label) for row in failed if not row.ended_before]
        if self._state.now >= self._next_progress:
            self._next_progress = self._state.now + _PROGRESS_INTERVAL
            lines.append(f"{progress_text(self._state)}; {throughput_text(self._state)}")
        return lines


class LiveView:
    """Show a picture that is redrawn in place, with messages above it.

    It shows a table if all companies fit on the terminal, else the latest failures, and the progress below.
    """

    def __init__(self, state: DisplayState, output: Output) -> None:
        self._state = state
        self._console = output.console
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def draw(self) -> None:
        """Print new messages and redraw the picture below them."""
        self._state.refresh()
        self._live.start()
        messages = [message for _, message in self._state.take_messages()]
        if messages:
            self._console.print(Text("\n".join(messages), style="dim"))
        self._live.refresh()

    def close(self, *, keep: bool) -> None:
        """Stop redrawing and show the cursor again, below the last picture or in its place."""
        self._live.transient = not keep
        self._live.stop()

    def _picture(self) -> RenderableType:
        progress = Group(_bar(self._state), Text(progress_text(self._state)), Text(throughput_text(self._state)))
        room = self._console.height - len(self._console.render_lines(progress)) - _OTHER_LINES
        if self._state.is_small and len(self._state.rows) <= room:
            return Group(_table_of_rows(self._state), progress)
        return Group(*self._latest_failures(min(room, _LATEST_FAILURES)), progress)

    def _latest_failures(self, most: int) -> list[Text]:
        if most < 1 or not self._state.failed:
            return []
        lines = [row.message(row.label) for row in self._state.failed[-most:]]
        return [Text(line, no_wrap=True, overflow="ellipsis") for line in ("the latest failures:", *lines)]


def progress_text(state: DisplayState) -> str:
    """Return the numbers of ended, failed and running syncs."""
    failed = f" ({len(state.failed)} failed)" if state.failed else ""
    return f"{state.ended} of {len(state.rows)} ended{failed}, {state.running} running"


def throughput_text(state: DisplayState) -> str:
    """Return the requests per minute, the time since the start, and the estimated end."""
    quota = f" of {state.per_minute}" if state.per_minute else ""
    parts = [f"{state.requests_in_last_minute}{quota} requests/min", f"{format_duration(state.now)} so far"]
    left = state.seconds_left
    if left is not None:
        until = "" if state.simulated or left < _MINUTE else f", until {_local_time(left)}"
        parts.append(f"about {format_duration(left, rough=True)} left{until}")
    return "; ".join(parts)


def _local_time(seconds: float) -> str:
    return f"{datetime.now().astimezone() + timedelta(seconds=seconds):%H:%M}"


def _bar(state: DisplayState) -> Table:
    total = max(1, len(state.rows))
    style = "red" if state.failed else "green"
    bar = Table.grid(expand=True)
    bar.add_column(ratio=1)
    bar.add_column(justify="right", width=len(" 100 %"))
    bar.add_row(
        ProgressBar(total, state.ended, complete_style=style, finished_style=style), f"{100 * state.ended // total} %"
    )
    return bar


def _table_of_rows(state: DisplayState) -> Table:
    return _table(_HEADINGS, _lines_of_rows(state))


def _lines_of_rows(state: DisplayState) -> list[Line]:
    return [(_cells(row, state.now), row.status) for row in state.rows]


def _cells(row: Row, now: float) -> tuple[str, ...]:
    duration = row.duration(now)
    shown = "" if duration is None else f"{duration:.1f} s"
    return one_line(row.name), row.label, shown, "" if row.polls is None else str(row.polls)


def _plain_table(headings: Sequence[str], lines: Sequence[Line]) -> list[str]:
    rows = [tuple(headings), *(cells for cells, _ in lines)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_padded, row, widths, range(len(row)))) for row in rows]


def _padded(text: str, width: int, position: int) -> str:
    padding = " " * (width - cell_len(text))
    return text + padding if position < _TEXT_COLUMNS else padding + text


def _table(headings: Sequence[str], lines: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for position, heading in enumerate(headings):
        number = position >= _TEXT_COLUMNS
        shown = Text(heading, no_wrap=True, overflow="crop")
        table.add_column(shown, justify="right" if number else "left", no_wrap=number)
    for cells, status in lines:
        name, outcome, *numbers = cells
        table.add_row(_truncated(name), _truncated(outcome, _STYLES[status]), *numbers)
    return table


def _truncated(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
