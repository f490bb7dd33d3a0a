"""Tables: of companies as they stand now and at the end, and of what a journal holds."""

from collections.abc import Sequence

from codat_commerce_async._text import one_line
from codat_commerce_async.cli.board import Row, Verdict
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.text import cells, fit

__all__ = ["Line", "grid", "table"]

_HEADINGS = ("company", "outcome", "duration", "looks")
_GAP = "  "
_BOLD = "1"
_STYLES = {Verdict.QUEUED: "2", Verdict.UNDER_WAY: "36", Verdict.GOOD: "32", Verdict.BAD: "31"}
# So that the columns do not move while outcomes come in.
_OUTCOME, _DURATION = "nothing to write", "3600.0 s"

Line = tuple[tuple[str, ...], Verdict]
"""A line's cells, and what is to be thought of it."""


def table(rows: Sequence[Row], now: float, screen: Screen) -> list[str]:
    """A line of headings and one per row."""
    lines = [(_cells_of(row, now), row.verdict) for row in rows]
    return grid(_HEADINGS, lines, screen, least=("", _OUTCOME, _DURATION))


def grid(headings: Sequence[str], lines: Sequence[Line], screen: Screen, *, least: Sequence[str] = ()) -> list[str]:
    """A line of headings and the others; the first two columns give way on a narrow screen, the rest are numbers.

    No column is narrower than what stands for it in `least`.
    """
    columns = zip(headings, *(line for line, _ in lines), strict=True)
    widths = [max(map(cells, column)) for column in columns]
    widths = [max(width, cells(text)) for width, text in zip(widths, (*least, *[""] * len(widths)), strict=False)]
    if screen.width is not None:
        widths[:2] = _narrowed(widths, screen.width)

    def drawn(line: Sequence[str], style: str) -> str:
        name, outcome, *numbers = line
        right = (f"{number:>{width}}" for number, width in zip(numbers, widths[2:], strict=True))
        return _GAP.join((fit(name, widths[0]), screen.paint(fit(outcome, widths[1]), style), *right))

    return [screen.paint(drawn(headings, ""), _BOLD), *(drawn(line, _STYLES[verdict]) for line, verdict in lines)]


def _narrowed(widths: Sequence[int], width: int) -> tuple[int, int]:
    """The columns of the names and of the outcomes; the names give way first."""
    name, outcome, *numbers = widths
    room = width - sum(numbers) - len(_GAP) * (len(numbers) + 1)
    outcome = min(outcome, room * 3 // 5)
    return min(name, room - outcome), outcome


def _cells_of(row: Row, now: float) -> tuple[str, ...]:
    duration = row.duration(now)
    took = "" if duration is None else f"{duration:.1f} s"
    return one_line(row.name), row.word, took, "" if row.looks is None else str(row.looks)
