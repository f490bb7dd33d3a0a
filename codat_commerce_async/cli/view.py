"""What one sees while syncs run: a picture redrawn in place on a terminal, plain lines anywhere else."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol

from codat_commerce_async.cli.board import Board, Row
from codat_commerce_async.cli.gauge import bar, counts, pace
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.table import table
from codat_commerce_async.cli.text import cells, fit

__all__ = ["LiveView", "PlainView", "View", "view_of", "watched"]

_DIM = "2"
_STYLE = re.compile(r"\x1b\[[\d;]*m")
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_REST_OF_LINE, _REST_OF_SCREEN = "\x1b[K", "\x1b[J"
# What a picture has besides its rows and its gauge: their headings, and the cursor's line.
_OTHER_LINES = 2
_LATEST_FAILURES = 5
# How often a plain view tells how far it has got, where it does not tell of each company.
_PROGRESS_EVERY = 10.0


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
    """Lines, each with the seconds it came after the start.

    Of few companies each change is told; of many what went badly, and from time to time how far it has got.
    """

    def __init__(self, board: Board, screen: Screen) -> None:
        self._board = board
        self._screen = screen
        self._told: dict[Row, str] = {}
        self._told_bad = len(board.bad)
        self._next_progress = _PROGRESS_EVERY

    def draw(self) -> None:
        """Write what has changed since the last time."""
        self._board.look()
        now = self._board.now
        news = self._changes() if self._board.is_small else self._failures()
        for when, line in (*self._board.take_remarks(), *((now, line) for line in news)):
            self._screen.say(f"{when:7.1f} s  {line}")

    def close(self, *, keep: bool) -> None:
        """Nothing is left to do."""

    def _changes(self) -> list[str]:
        rows = self._board.rows
        changed = [row for row in rows if row.word != self._told.get(row, "queued")]
        self._told.update((row, row.word) for row in changed)
        return [row.saying(row.word) for row in changed]

    def _failures(self) -> list[str]:
        bad = self._board.bad[self._told_bad :]
        self._told_bad += len(bad)
        lines = [row.saying(row.word) for row in bad]
        if self._board.now >= self._next_progress:
            self._next_progress = self._board.now + _PROGRESS_EVERY
            lines.append(f"{counts(self._board)}; {pace(self._board)}")
        return lines


class LiveView:
    """A picture that is redrawn where it stands; remarks scroll away above it.

    It shows a table if all companies fit on the screen, and else the latest failures; a bar and counts below.
    """

    def __init__(self, board: Board, screen: Screen) -> None:
        self._board = board
        self._screen = screen
        self._shown: list[str] = []

    def draw(self) -> None:
        """Redraw what differs from the last picture, in one write and without wiping first, so that it is still."""
        self._board.look()
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
        gauge = self._gauge()
        room = self._screen.height - len(gauge) - _OTHER_LINES
        if len(self._board.rows) <= room and self._board.is_small:
            return [*table(self._board.rows, self._board.now, self._screen), *gauge]
        return [*self._latest_failures(min(room, _LATEST_FAILURES)), *gauge]

    def _gauge(self) -> list[str]:
        width = self._screen.width or 0
        words = (counts(self._board), pace(self._board))
        return [bar(self._board, self._screen, width), *(line for text in words for line in self._screen.wrapped(text))]

    def _latest_failures(self, most: int) -> Sequence[str]:
        if most < 1 or not self._board.bad:
            return ()
        latest = self._board.bad[-most:]
        return [
            "the latest failures:",
            *(fit(row.saying(row.word), self._screen.width or 0).rstrip() for row in latest),
        ]
