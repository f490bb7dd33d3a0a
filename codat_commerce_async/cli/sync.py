"""`sync`: start the syncs of many companies at once, and see each through to its end."""

import asyncio
import os
import sys
from collections.abc import Sequence

from codat_commerce_async.cli.board import Board, Row, Verdict
from codat_commerce_async.cli.ending import FAILED, WELL, GiveUpError
from codat_commerce_async.cli.parser import PROGRAM, Options
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.table import table
from codat_commerce_async.cli.view import view_of, watched
from codat_commerce_async.client import BASE_URL, CodatCommerce
from codat_commerce_async.errors import (
    AuthenticationError,
    CodatError,
    OutcomeUnknownError,
    SyncWaitTimeoutError,
    TransportError,
)

__all__ = ["report", "see_all_through", "sync", "sync_at_codat"]

_FRAME = 0.1


async def sync(options: Options) -> int:
    """Sync the companies at Codat."""
    # Codat takes a second sync of the same period for a duplicate.
    rows = [Row(company_id, company_id) for company_id in dict.fromkeys(options.company_ids)]
    return await sync_at_codat(rows, options)


async def sync_at_codat(rows: Sequence[Row], options: Options) -> int:
    """See the rows' syncs through with the client that the environment describes, and report."""
    screen = Screen.of(sys.stdout)
    board = Board(rows, asyncio.get_running_loop().time)
    try:
        client = CodatCommerce.from_env(hooks=board.hooks)
    except ValueError as error:
        raise GiveUpError(str(error)) from None
    try:
        with board.hearing_the_log():
            async with client as codat:
                work = see_all_through(codat, board, at_once=options.at_once, timeout=options.timeout)
                await watched(work, view_of(board, screen), _FRAME)
    except BaseException as error:
        where = Screen.of(sys.stderr) if isinstance(error, BrokenPipeError) else screen
        _leave_handles(board, where)
        if not isinstance(error, GiveUpError):
            _leave_doubts(board, where)
        raise
    report(board, screen)
    _leave_handles(board, screen)
    return WELL if all(row.verdict is Verdict.GOOD for row in rows) else FAILED


async def see_all_through(codat: CodatCommerce, board: Board, *, at_once: int, timeout: float) -> None:
    """Start what is not started, and follow every row's sync to its end; raises GiveUpError when none can be."""
    queue = iter(board.rows)

    async def work() -> None:
        for row in queue:
            with board.at_work_on(row):
                await _see_through(codat, board, row, timeout)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(board.rows))):
                group.create_task(work())
    except ExceptionGroup as errors:
        refused, others = errors.split(GiveUpError)
        if others is not None or refused is None:
            raise
        raise GiveUpError(str(refused.exceptions[0])) from None


async def _see_through(codat: CodatCommerce, board: Board, row: Row, timeout: float) -> None:
    try:
        if row.handle is None:
            row.handle = await codat.sync.start(row.company_id)
            if row.handle.adopted:
                board.remark("no good answer to the request, but the sync had begun: taken over, not asked for again")
        async for status in codat.sync.watch(row.handle, timeout=timeout):
            row.status = status
    except AuthenticationError:
        raise GiveUpError(f"{_server()} does not accept the API key in CODAT_API_KEY") from None
    except TransportError as error:
        if not error.sent and not board.answered:
            raise GiveUpError(f"{_server()}: {error.message}") from None
        row.error = error
    except (OutcomeUnknownError, SyncWaitTimeoutError) as error:
        row.error = error
        row.handle = error.handle
    except CodatError as error:
        row.error = error


def report(board: Board, screen: Screen) -> None:
    """Write the table, and below it why what ended badly did."""
    screen.say("", *table(board.rows, board.now, screen))
    reasons = [row.saying(row.why) for row in board.rows if row.why is not None]
    if reasons:
        screen.say("", *(line for reason in reasons for line in screen.wrapped(reason)))


def _leave_handles(board: Board, screen: Screen) -> None:
    """Write down what is needed to go on with the syncs whose end was not seen."""
    handles = [row.open_handle.to_json() for row in board.rows if row.open_handle is not None]
    if handles:
        screen.say("", f"Not seen to the end. To go on, give these lines to `{PROGRAM} wait`:", *handles)


def _leave_doubts(board: Board, screen: Screen) -> None:
    """Write down which companies were interrupted while their sync was being asked for."""
    asked = [row.company_id for row in board.rows if row.verdict is Verdict.UNDER_WAY and row.handle is None]
    if asked:
        screen.say("", f"Being asked for just then; whether these began is not known: {' '.join(asked)}")


def _server() -> str:
    return os.environ.get("CODAT_BASE_URL") or BASE_URL
