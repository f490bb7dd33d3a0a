"""One stay at Codat: a client from the environment, syncs that are watched, and an end in order."""

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Protocol, Unpack

from codat_commerce_async.cli.board import Board, Verdict
from codat_commerce_async.cli.conclusion import conclude
from codat_commerce_async.cli.ending import FAILED, WELL, GiveUpError
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.view import view_of, watched
from codat_commerce_async.client import BASE_URL, CodatCommerce, Settings
from codat_commerce_async.errors import AuthenticationError, CodatError, JournalError, TransportError

__all__ = ["GoOn", "give_up_if_hopeless", "stay"]

_LIVE_FRAME, _PLAIN_FRAME = 0.1, 0.5

Work = Callable[[CodatCommerce], Coroutine[object, object, None]]


class GoOn(Protocol):
    """Writes down how to go on with what has not ended."""

    def __call__(self, screen: Screen, *, interrupted: bool) -> None:
        """`interrupted` when there may be more than what the board knows."""
        ...


async def stay(
    board: Board, work: Work, go_on: GoOn, *, journal: str | None = None, **settings: Unpack[Settings]
) -> int:
    """The exit status of work with the client that the environment describes; shows it, and says how it ended."""
    screen = Screen.of(sys.stdout)
    settings["hooks"] = board.hooks
    try:
        client = CodatCommerce.from_env(**settings)
    except ValueError as error:
        raise GiveUpError(str(error)) from None
    try:
        with board.hearing_the_log():
            async with client as codat:
                every = _LIVE_FRAME if screen.live else _PLAIN_FRAME
                await watched(_done(board, work(codat)), view_of(board, screen), every)
    except BaseException as error:
        where = Screen.of(sys.stderr) if isinstance(error, BrokenPipeError) else screen
        go_on(where, interrupted=not isinstance(error, GiveUpError))
        raise
    conclude(board, screen, journal)
    go_on(screen, interrupted=False)
    return WELL if all(row.verdict is Verdict.GOOD for row in board.rows) else FAILED


def give_up_if_hopeless(board: Board, error: CodatError | None) -> None:
    """Raise GiveUpError for an error that every company would meet."""
    if isinstance(error, AuthenticationError):
        raise GiveUpError(f"{_server()} does not accept the API key in CODAT_API_KEY") from None
    if isinstance(error, TransportError) and not error.sent and not board.answered:
        raise GiveUpError(f"{_server()}: {error.message}") from None
    if isinstance(error, JournalError):
        raise GiveUpError(error.message) from None


async def _done(board: Board, work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except CodatError as error:
        give_up_if_hopeless(board, error)
        raise


def _server() -> str:
    return os.environ.get("CODAT_BASE_URL") or BASE_URL
