"""The table of companies, as it stands now and at the end."""

from collections.abc import Sequence

from codat_commerce_async.cli.board import Row, Verdict
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.text import cells, fit, one_line

__all__ = ["table"]

_HEADINGS = ("company", "outcome", "duration", "requests")
_DURATION, _REQUESTS = len(" 3600.0 s"), len("requests")
_GAP = "  "
_BOLD = "1"
_STYLES = {Verdict.QUEUED: "2", Verdict.UNDER_WAY: "36", Verdict.GOOD: "32", Verdict.BAD: "31"}


def table(rows: Sequence[Row], now: float, screen: Screen, *, among: Sequence[Row] | None = None) -> list[str]:
    """A line of headings and one per row; columns are as wide as the rows `among` which these are need."""
    name, outcome = _widths(rows if among is None else among, screen.width)

    def line(company: str, word: str, duration: str, requests: str, style: str) -> str:
        numbers = f"{duration:>{_DURATION}}{_GAP}{requests:>{_REQUESTS}}"
        return f"{fit(company, name)}{_GAP}{screen.paint(fit(word, outcome), style)}{_GAP}{numbers}"

    return [
        screen.paint(line(*_HEADINGS, ""), _BOLD),
        *(line(one_line(row.name), row.word, _seconds(row, now), _count(row), _STYLES[row.verdict]) for row in rows),
    ]


def _widths(rows: Sequence[Row], width: int | None) -> tuple[int, int]:
    """The columns of the names and of the outcomes; on a narrow screen the names give way first."""
    name = max(cells(one_line(text)) for text in (_HEADINGS[0], *(row.name for row in rows)))
    outcome = max(cells(text) for text in (_HEADINGS[1], "nothing to write", *(row.word for row in rows)))
    if width is None:
        return name, outcome
    room = width - _DURATION - _REQUESTS - 3 * len(_GAP)
    outcome = min(outcome, room * 3 // 5)
    return min(name, room - outcome), outcome


def _seconds(row: Row, now: float) -> str:
    duration = row.duration(now)
    return "" if duration is None else f"{duration:.1f} s"


def _count(row: Row) -> str:
    return str(row.requests) if row.requests else ""
