"""What one sees while syncs run: a picture redrawn in place on a terminal, plain lines anywhere else."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol

from codat_commerce_async.cli.board import Board, Row, Verdict
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.table import table
from codat_commerce_async.cli.text import cells, fit

__all__ = ["LiveView", "PlainView", "View", "view_of", "watched"]

_DIM = "2"
_STYLE = re.compile(r"\x1b\[[\d;]*m")
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_REST_OF_LINE, _REST_OF_SCREEN = "\x1b[K", "\x1b[J"
# What a picture has besides the rows: the headings, a line for the rows left out, the counts, the cursor's line.
_OTHER_LINES = 4


class View(Protocol):
    """Shows a board."""

    def draw(self) -> None:
        """Show what is new."""
        ...

    def close(self, *, keep: bool) -> None:
        """Show no more; `keep` leaves the last picture where it is."""
        ...


def view_of(board: Board, screen: Screen) -> View:
    """The view that suits the screen."""
    return LiveView(board, screen) if screen.live else PlainView(board, screen)


async def watched(
    work: Coroutine[object, object, None], view: View, every: float, *, pace: Callable[[], None] | None = None
) -> None:
    """Do the work, and show it every so many seconds; raises what the work raises.

    `pace` is called after each drawing. Whatever ends this early, ctrl-C or a reader that went away, ends the work.
    """
    task = asyncio.create_task(work)
    try:
        while not task.done():
            view.draw()
            if pace is not None:
                pace()
            await asyncio.wait({task}, timeout=every)
        view.draw()
        task.result()
    except BaseException:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(OSError):  # what broke may be the very stream
            view.draw()
            view.close(keep=True)
        raise
    view.close(keep=False)


class PlainView:
    """A line for each change and each remark, with the seconds it came after the start."""

    def __init__(self, board: Board, screen: Screen) -> None:
        self._board = board
        self._screen = screen
        self._told: dict[Row, str] = dict.fromkeys(board.rows, "queued")

    def draw(self) -> None:
        """Write what has changed since the last time."""
        now, rows = self._board.now, self._board.rows
        news = [(now, row.saying(row.word)) for row in rows if row.word != self._told[row]]
        self._told = {row: row.word for row in rows}
        for when, line in (*self._board.take_remarks(), *news):
            self._screen.say(f"{when:7.1f} s  {line}")

    def close(self, *, keep: bool) -> None:
        """Nothing is left to do."""


class LiveView:
    """A table that is redrawn where it stands; remarks scroll away above it."""

    def __init__(self, board: Board, screen: Screen) -> None:
        self._board = board
        self._screen = screen
        self._shown: list[str] = []

    def draw(self) -> None:
        """Redraw what differs from the last picture, in one write and without wiping first, so that it is still."""
        remarks = self._board.take_remarks()
        picture = self._picture()
        if not remarks and picture == self._shown:
            return
        above = [self._screen.paint(line, _DIM) for _, remark in remarks for line in self._screen.wrapped(remark)]
        drawn = "".join(f"{line}{_REST_OF_LINE}\n" for line in (*above, *picture))
        self._screen.write(f"{_HIDE_CURSOR}{self._back()}{drawn}{_REST_OF_SCREEN}")
        self._shown = picture

    def close(self, *, keep: bool) -> None:
        """Give the cursor back, below the last picture or in its place."""
        self._screen.write(_SHOW_CURSOR if keep else f"{self._back()}{_REST_OF_SCREEN}{_SHOW_CURSOR}")
        self._shown = []

    def _back(self) -> str:
        """To the beginning of the last picture; a terminal that was made narrower since has wrapped its lines."""
        columns = (self._screen.width or 0) + 1
        lines = sum(max(1, -(-cells(_STYLE.sub("", line)) // columns)) for line in self._shown)
        lines = min(lines, self._screen.height - 1)
        return f"\x1b[{lines}A\r" if lines else "\r"

    def _picture(self) -> list[str]:
        width = self._screen.width or 0
        rows = self._board.rows
        most = max(1, self._screen.height - _OTHER_LINES)
        chosen = rows if len(rows) <= most else _most_interesting(rows, most)
        lines = table(chosen, self._board.now, self._screen, among=rows)
        if len(chosen) < len(rows):
            lines.append(fit(f"... and {len(rows) - len(chosen)} more", width))
        lines.append(fit(self._counts(), width).rstrip())
        return lines

    def _counts(self) -> str:
        counts = Counter(row.verdict for row in self._board.rows)
        words = ((Verdict.UNDER_WAY, "under way"), (Verdict.GOOD, "done"), (Verdict.BAD, "failed"))
        said = ", ".join(f"{counts[verdict]} {word}" for verdict, word in words)
        return f"{said} of {len(self._board.rows)}; {self._board.requests} requests; {self._board.now:.0f} s"


def _most_interesting(rows: Sequence[Row], most: int) -> Sequence[Row]:
    """Those under way, then those that went badly, each in the order of the board."""
    order = (Verdict.UNDER_WAY, Verdict.BAD, Verdict.QUEUED, Verdict.GOOD)
    chosen = set(sorted(rows, key=lambda row: order.index(row.verdict))[:most])
    return [row for row in rows if row in chosen]
