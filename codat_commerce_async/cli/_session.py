"""Run a command with a client from the environment: show the progress, print the summary, return the exit status."""

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Protocol, Unpack

from codat_commerce_async.cli._exit import EXIT_FAILED, EXIT_NOTHING_STARTED, EXIT_OK, CommandError
from codat_commerce_async.cli._state import RunState, Status
from codat_commerce_async.cli._summary import print_summary
from codat_commerce_async.cli._view import Output, run_with_view, view_for
from codat_commerce_async.client import BASE_URL, CodatCommerce, Settings
from codat_commerce_async.errors import AuthenticationError, CodatError, TransportError

__all__ = ["ResumeHint", "client_from_env", "raise_if_fatal", "run_session"]

_LIVE_INTERVAL, _PLAIN_INTERVAL = 0.1, 0.5

Work = Callable[[CodatCommerce], Coroutine[object, object, None]]


class ResumeHint(Protocol):
    """A function that prints how to resume the syncs that have not ended."""

    def __call__(self, output: Output, *, interrupted: bool) -> None:
        """Print the hint; `interrupted` means that more syncs may run than the state knows."""
        ...


async def run_session(
    state: RunState, work: Work, print_hint: ResumeHint, *, journal: str | None = None, **settings: Unpack[Settings]
) -> int:
    """Run `work` with a client from the environment, show the progress, print the summary, return the exit status."""
    output = Output.to(sys.stdout)
    settings["hooks"] = state.hooks
    client = client_from_env(**settings)
    try:
        with state.capture_log():
            async with client as codat:
                interval = _LIVE_INTERVAL if output.live else _PLAIN_INTERVAL
                await run_with_view(_with_fatal_errors(state, work(codat)), view_for(state, output), interval)
    except BaseException as error:
        reachable = Output.to(sys.stderr) if isinstance(error, BrokenPipeError) else output
        print_hint(reachable, interrupted=not isinstance(error, CommandError))
        raise
    print_summary(state, output, journal)
    print_hint(output, interrupted=False)
    return EXIT_OK if all(row.status is Status.SUCCEEDED for row in state.rows) else EXIT_FAILED


def client_from_env(**settings: Unpack[Settings]) -> CodatCommerce:
    """Return a client with the key and the URL of the environment; raise CommandError without a valid one."""
    try:
        return CodatCommerce.from_env(**settings)
    except ValueError as error:
        raise CommandError(_with_variable(str(error))) from None


def raise_if_fatal(state: RunState, error: CodatError | None) -> None:
    """Raise CommandError for an error that would fail the sync of every company."""
    message = _fatal_message(state, error)
    if message is not None:
        raise CommandError(message, EXIT_FAILED if state.any_started else EXIT_NOTHING_STARTED) from None


def _fatal_message(state: RunState, error: CodatError | None) -> str | None:
    if isinstance(error, AuthenticationError):
        return f"{_server()} does not accept the API key in CODAT_API_KEY"
    if isinstance(error, TransportError) and not error.sent and not state.has_response:
        return f"{_server()}: {error.message}"
    return error.message if error is not None and error.fatal_for_run else None


async def _with_fatal_errors(state: RunState, work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except CodatError as error:
        raise_if_fatal(state, error)
        raise


def _with_variable(message: str) -> str:
    """Return a message about the base URL with the name of its environment variable."""
    return f"CODAT_BASE_URL: {message}" if message.startswith("base_url") else message


def _server() -> str:
    return os.environ.get("CODAT_BASE_URL") or BASE_URL
