"""What is said when it is over: how the syncs ended, and how to go on with those that have not."""

import shlex
from collections import Counter
from collections.abc import Sequence

from codat_commerce_async.cli.board import Board, Row, Verdict
from codat_commerce_async.cli.parser import PROGRAM
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.table import table
from codat_commerce_async.cli.text import span

__all__ = ["conclude", "leave_command", "leave_handles", "reasons"]

# Where a journal has them all, so many of each kind are enough to see what is the matter.
_ENOUGH_OF_A_KIND = 3


def conclude(board: Board, screen: Screen, journal: str | None = None) -> None:
    """Write the table, if it is short, why what ended badly did, and the sums."""
    if board.is_small:
        screen.say("", *table(board.rows, board.now, screen))
    shown = board.bad if journal is None or board.is_small else _some_of_each_kind(board.bad)
    screen.say(*reasons([row.saying(row.why) for row in shown if row.why is not None], screen))
    if journal is not None and len(shown) < len(board.bad):
        more = f"... and {len(board.bad) - len(shown)} more; all of them:"
        screen.say(*screen.wrapped(more), f"{PROGRAM} report {shlex.quote(journal)} --failed")
    words = ", ".join(f"{count} {word}" for word, count in board.words.most_common())
    screen.say("", *screen.wrapped(f"{words}; {board.requests} requests in {span(board.now)}"))
    if board.ended_before:
        screen.say(*screen.wrapped(_ended_before(board, journal)))


def reasons(said: Sequence[str], screen: Screen) -> list[str]:
    """Lines that fit, below an empty one, if there is anything to say."""
    return ["", *(line for reason in said for line in screen.wrapped(reason))] if said else []


def leave_handles(board: Board, screen: Screen, *, interrupted: bool) -> None:
    """Write down what is needed to go on with the syncs whose end was not seen, and what is not known."""
    handles = [row.open_handle.to_json() for row in _open(board) if row.open_handle is not None]
    if handles:
        screen.say("", f"Not seen to the end. To go on, give these lines to `{PROGRAM} wait`:", *handles)
    asked = [row.company_id for row in board.rows if row.verdict is Verdict.UNDER_WAY and row.handle is None]
    if interrupted and asked:
        screen.say("", f"Being asked for just then; whether these began is not known: {' '.join(asked)}")


def leave_command(board: Board, screen: Screen, journal: str, command: str, *, interrupted: bool) -> None:
    """Write down the command that goes on from a journal, if there is anything to go on with."""
    running = len(_open(board))
    if running or interrupted:
        said = f"Syncs not seen to their end: {running}. " if running else ""
        screen.say("", *screen.wrapped(f"{said}{journal} knows what was done; this goes on from there:"), command)


def _some_of_each_kind(rows: Sequence[Row]) -> list[Row]:
    seen: Counter[str] = Counter()
    chosen = []
    for row in rows:
        seen[row.word] += 1
        if seen[row.word] <= _ENOUGH_OF_A_KIND:
            chosen.append(row)
    return chosen


def _open(board: Board) -> list[Row]:
    return [row for row in board.rows if row.open_handle is not None]


def _ended_before(board: Board, journal: str | None) -> str:
    if board.ended_before < len(board.rows):
        return f"{board.ended_before} of them had ended before, as {journal} says"
    return f"All had ended before, as {journal} says. To sync them anew, give the name of a new journal."
