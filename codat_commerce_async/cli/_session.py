"""Run a command with a client from the environment: show the progress, print the summary, return the exit status."""

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Protocol, Unpack

from attrs import frozen

from codat_commerce_async._core.text import one_line
from codat_commerce_async.cli._exit import EXIT_FAILED, EXIT_OK, EXIT_TRY_LATER, EXIT_USAGE, CommandError
from codat_commerce_async.cli._state import DisplayState, Status
from codat_commerce_async.cli._summary import print_summary
from codat_commerce_async.cli._view import Output, QuietView, run_with_view, view_for
from codat_commerce_async.client import BASE_URL, CodatCommerce, Settings
from codat_commerce_async.errors import AuthenticationError, CodatError, SharedQuotaError, TransportError

__all__ = [
    "Reporting",
    "ResumeHint",
    "client_from_env",
    "raise_command_error_if_fatal",
    "raise_if_key_refused",
    "raise_if_quota_misconfigured",
    "run_session",
]

_LIVE_INTERVAL, _PLAIN_INTERVAL = 0.1, 0.5

_VARIABLES = {"api_key": "CODAT_API_KEY", "base_url": "CODAT_BASE_URL", "shared_quota": "CODAT_SHARED_QUOTA"}

Work = Callable[[CodatCommerce], Coroutine[object, object, None]]


class ResumeHint(Protocol):
    """A function that prints how to resume the syncs that have not ended."""

    def __call__(self, output: Output, *, interrupted: bool) -> None:
        """Print the hint; `interrupted` means that more syncs may run than the state shows."""
        ...


@frozen(kw_only=True)
class Reporting:
    """What a session prints: the summary names the `journal`; with `json`, it is on stderr, as stdout has records."""

    journal: str | None = None
    json: bool = False
    quiet: bool = False


async def run_session(
    state: DisplayState,
    work: Work,
    print_hint: ResumeHint,
    reporting: Reporting = Reporting(),
    **settings: Unpack[Settings],
) -> int:
    """Run `work` with a client from the environment and return the exit status.

    The progress is shown on stderr, the summary is printed on stdout.
    """
    progress, output = Output.to(sys.stderr), Output.to(sys.stderr if reporting.json else sys.stdout)
    settings["hooks"] = state.hooks
    client = client_from_env(**settings)
    view = QuietView(state) if reporting.quiet else view_for(state, progress)
    try:
        with state.capture_log():
            async with client as codat:
                interval = _LIVE_INTERVAL if progress.live else _PLAIN_INTERVAL
                await run_with_view(_with_fatal_errors(state, work(codat)), view, interval)
    except BaseException as error:
        _print_hint(print_hint, output, interrupted=not isinstance(error, CommandError))
        raise
    if not (reporting.quiet and reporting.json):
        print_summary(state, output, reporting.journal)
    _print_hint(print_hint, output, interrupted=False)
    return EXIT_OK if all(row.status is Status.SUCCEEDED for row in state.rows) else EXIT_FAILED


def _print_hint(print_hint: ResumeHint, output: Output, *, interrupted: bool) -> None:
    """Print the hint; on stderr if the output was closed or cannot be written."""
    try:
        print_hint(output, interrupted=interrupted)
    except OSError:
        print_hint(Output.to(sys.stderr), interrupted=interrupted)
        raise


def client_from_env(**settings: Unpack[Settings]) -> CodatCommerce:
    """Return a client with the key and the URL of the environment; raise CommandError without a valid one."""
    try:
        return CodatCommerce.from_env(**settings)
    except ValueError as error:
        raise CommandError(_with_variable(str(error)), EXIT_USAGE) from None


def _with_variable(message: str) -> str:
    """Return the message about an argument of the client with the variable instead from which the argument was read."""
    argument, separator, rest = one_line(message).partition(" ")
    return _VARIABLES.get(argument, argument) + separator + rest


def raise_command_error_if_fatal(state: DisplayState, error: CodatError | None) -> None:
    """Raise CommandError for an error that would fail the sync of every company."""
    raise_if_key_refused(error)
    raise_if_quota_misconfigured(error)
    if isinstance(error, TransportError) and not error.sent and not state.has_response:
        raise CommandError(f"{_server()}: {error.message}", EXIT_TRY_LATER) from None
    if error is not None and error.fatal_for_run:
        raise CommandError(error.message, EXIT_FAILED) from None


def raise_if_key_refused(error: CodatError | None) -> None:
    """Raise CommandError if the API key was not accepted."""
    if isinstance(error, AuthenticationError):
        message = (
            f"{_server()} does not accept the API key in CODAT_API_KEY; put a valid one from Codat's portal into it"
        )
        raise CommandError(message, EXIT_USAGE) from None


def raise_if_quota_misconfigured(error: CodatError | None) -> None:
    """Raise CommandError if the shared quota of the environment cannot be used."""
    if isinstance(error, SharedQuotaError):
        raise CommandError(f"CODAT_SHARED_QUOTA: {error.message}", EXIT_USAGE) from None


async def _with_fatal_errors(state: DisplayState, work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except CodatError as error:
        raise_command_error_if_fatal(state, error)
        raise


def _server() -> str:
    return os.environ.get("CODAT_BASE_URL") or BASE_URL
