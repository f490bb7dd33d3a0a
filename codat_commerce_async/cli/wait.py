"""`wait`: wait for syncs that were started before, by their handles."""

import asyncio
from functools import partial
from typing import Unpack

from codat_commerce_async._core.text import one_line
from codat_commerce_async.cli._args import WaitOptions
from codat_commerce_async.cli._exit import EXIT_USAGE, CommandError
from codat_commerce_async.cli._files import read_text
from codat_commerce_async.cli._session import raise_command_error_if_fatal, run_session
from codat_commerce_async.cli._state import DisplayState, Result, Row
from codat_commerce_async.cli._summary import print_handles
from codat_commerce_async.client import CodatCommerce, Settings
from codat_commerce_async.errors import CodatError, SyncWaitTimeoutError
from codat_commerce_async.models.handle import SyncHandle

__all__ = ["wait"]


async def wait(options: WaitOptions, **settings: Unpack[Settings]) -> int:
    """Wait for the syncs whose handles are in a file; `settings` are passed to the client."""
    state = DisplayState(_rows(read_text(options.file)), asyncio.get_running_loop().time)
    work = partial(_wait_for_all, state, options)
    return await run_session(state, work, partial(print_handles, state), **settings)


async def _wait_for_all(state: DisplayState, options: WaitOptions, codat: CodatCommerce) -> None:
    queue = iter(tuple(state.rows))

    async def work() -> None:
        for row in queue:
            state.begin(row)
            state.running += 1
            await _wait_for(codat, state, row, options.timeout)
            state.running -= 1

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(options.max_running or len(state.rows), len(state.rows))):
                group.create_task(work())
    except ExceptionGroup as errors:
        fatal, others = errors.split(CommandError)
        if others is not None or fatal is None:
            raise
        raise fatal.exceptions[0] from None


async def _wait_for(codat: CodatCommerce, state: DisplayState, row: Row, timeout: float) -> None:
    assert row.handle is not None  # noqa: S101 - for the type checker: every row has one
    try:
        status = await codat.sync.wait(row.handle, timeout=timeout, raise_on_failure=False)
    except CodatError as error:
        raise_command_error_if_fatal(state, error)
        if isinstance(error, SyncWaitTimeoutError):
            row.handle = error.handle
        state.end(row, Result.of_error(error))
    else:
        state.end(row, Result.of_status(status))


def _rows(text: str) -> list[Row]:
    rows = [
        _row(line, number) for number, line in enumerate(text.splitlines(), start=1) if line.lstrip().startswith("{")
    ]
    if not rows:
        raise CommandError(
            "the input contains no handle; a handle is a line of JSON, as the sync command prints it", EXIT_USAGE
        )
    return rows


def _row(line: str, number: int) -> Row:
    try:
        handle = SyncHandle.from_json(line)
    except ValueError as error:
        raise CommandError(one_line(f"line {number}: {error}"), EXIT_USAGE) from None
    return Row(handle.company_id, handle.company_id, handle)
