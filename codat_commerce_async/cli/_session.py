"""One run of a command at Codat: a client from the environment, a view of the work, and a summary."""

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Protocol, Unpack

from codat_commerce_async.cli._exit import EXIT_FAILED, EXIT_OK, CommandError
from codat_commerce_async.cli._state import RunState, Status
from codat_commerce_async.cli._summary import print_summary
from codat_commerce_async.cli._view import Output, run_with_view, view_for
from codat_commerce_async.client import BASE_URL, CodatCommerce, Settings
from codat_commerce_async.errors import AuthenticationError, CodatError, TransportError

__all__ = ["ResumeHint", "raise_if_fatal", "run_session"]

_LIVE_FRAME, _PLAIN_FRAME = 0.1, 0.5

Work = Callable[[CodatCommerce], Coroutine[object, object, None]]


class ResumeHint(Protocol):
    """Prints how to resume what has not ended."""

    def __call__(self, output: Output, *, interrupted: bool) -> None:
        """`interrupted` if there may be more than the state knows of."""
        ...


async def run_session(
    state: RunState, work: Work, print_hint: ResumeHint, *, journal: str | None = None, **settings: Unpack[Settings]
) -> int:
    """Do the work with a client from the environment, show it, print the summary, and return the exit status."""
    output = Output.to(sys.stdout)
    settings["hooks"] = state.hooks
    try:
        client = CodatCommerce.from_env(**settings)
    except ValueError as error:
        raise CommandError(_named(str(error))) from None
    try:
        with state.capture_log():
            async with client as codat:
                interval = _LIVE_FRAME if output.live else _PLAIN_FRAME
                await run_with_view(_done(state, work(codat)), view_for(state, output), interval)
    except BaseException as error:
        where = Output.to(sys.stderr) if isinstance(error, BrokenPipeError) else output
        print_hint(where, interrupted=not isinstance(error, CommandError))
        raise
    print_summary(state, output, journal)
    print_hint(output, interrupted=False)
    return EXIT_OK if all(row.status is Status.SUCCEEDED for row in state.rows) else EXIT_FAILED


def raise_if_fatal(state: RunState, error: CodatError | None) -> None:
    """Raise CommandError for an error that would end every company's sync."""
    if isinstance(error, AuthenticationError):
        raise CommandError(f"{_server()} does not accept the API key in CODAT_API_KEY") from None
    if isinstance(error, TransportError) and not error.sent and not state.answered:
        raise CommandError(f"{_server()}: {error.message}") from None
    if error is not None and error.fatal_for_run:
        raise CommandError(error.message) from None


async def _done(state: RunState, work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except CodatError as error:
        raise_if_fatal(state, error)
        raise


def _named(message: str) -> str:
    """Return a message about the base URL with the variable that it comes from."""
    return f"CODAT_BASE_URL: {message}" if message.startswith("base_url") else message


def _server() -> str:
    return os.environ.get("CODAT_BASE_URL") or BASE_URL
