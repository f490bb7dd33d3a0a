"""How far it has got, in a bar and in words."""

from datetime import datetime, timedelta

from codat_commerce_async.cli.board import Board
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.text import span

__all__ = ["bar", "counts", "pace"]

# In the order of the bar: ended well, ended badly, under way, yet to come. Each has a mark too, for want of colors.
_MARKS = (("#", "32"), ("!", "31"), ("=", "36"), (".", "2"))
_MINUTE = 60.0


def bar(board: Board, screen: Screen, width: int) -> str:
    """A bar as wide as that, with its percentage."""
    bad, total = len(board.bad), max(1, len(board.rows))
    figure = f" {100 * board.ended // total:3} %"
    room = width - len(figure) - 2
    limits = (board.ended - bad, board.ended, min(total, board.ended + board.under_way), total)
    cells = [room * limit // total for limit in limits]
    parts = zip(_MARKS, (0, *cells), cells, strict=False)
    return (
        "[" + "".join(screen.paint(mark * (end - start), style) for (mark, style), start, end in parts) + f"]{figure}"
    )


def counts(board: Board) -> str:
    """How many have ended, and how."""
    failed = f" ({len(board.bad)} failed)" if board.bad else ""
    return f"{board.ended} of {len(board.rows)} ended{failed}, {board.under_way} under way"


def pace(board: Board) -> str:
    """How fast it goes, and when it may be done."""
    quota = f" of {board.per_minute}" if board.per_minute else ""
    said = [f"{board.requests_in_last_minute}{quota} requests/min", f"{span(board.now)} so far"]
    left = board.seconds_left
    if left is not None:
        at = "" if board.simulated or left < _MINUTE else f", till {_clock_time(left)}"
        said.append(f"about {span(left, rough=True)} left{at}")
    return "; ".join(said)


def _clock_time(seconds: float) -> str:
    return f"{datetime.now().astimezone() + timedelta(seconds=seconds):%H:%M}"
