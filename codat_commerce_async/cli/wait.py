"""`wait`: go on with syncs that were started before, by their handles."""

import asyncio
from functools import partial
from typing import Unpack

from codat_commerce_async.cli.board import Board, Row
from codat_commerce_async.cli.conclusion import leave_handles
from codat_commerce_async.cli.ending import GiveUpError
from codat_commerce_async.cli.files import read_text
from codat_commerce_async.cli.parser import Options
from codat_commerce_async.cli.result import Result
from codat_commerce_async.cli.session import give_up_if_hopeless, stay
from codat_commerce_async.client import CodatCommerce, Settings
from codat_commerce_async.errors import CodatError, SyncWaitTimeoutError
from codat_commerce_async.models.handle import SyncHandle

__all__ = ["wait"]


async def wait(options: Options, **settings: Unpack[Settings]) -> int:
    """Wait for the syncs whose handles stand in a file; `settings` are for the client."""
    board = Board(_rows(read_text(options.file)), asyncio.get_running_loop().time)
    work = partial(_see_all_through, board, options)
    return await stay(board, work, partial(leave_handles, board), **settings)


async def _see_all_through(board: Board, options: Options, codat: CodatCommerce) -> None:
    queue = iter(tuple(board.rows))

    async def work() -> None:
        for row in queue:
            board.begin(row)
            board.under_way += 1
            await _see_through(codat, board, row, options.timeout)
            board.under_way -= 1

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(options.at_once or len(board.rows), len(board.rows))):
                group.create_task(work())
    except ExceptionGroup as errors:
        refused, others = errors.split(GiveUpError)
        if others is not None or refused is None:
            raise
        raise GiveUpError(str(refused.exceptions[0])) from None


async def _see_through(codat: CodatCommerce, board: Board, row: Row, timeout: float) -> None:
    assert row.handle is not None  # noqa: S101 - for the type checker: all rows were made with one
    try:
        status = await codat.sync.wait(row.handle, timeout=timeout, raise_on_failure=False)
    except CodatError as error:
        give_up_if_hopeless(board, error)
        if isinstance(error, SyncWaitTimeoutError):
            row.handle = error.handle
        board.end(row, Result.of_error(error))
    else:
        board.end(row, Result.of_status(status))


def _rows(text: str) -> list[Row]:
    rows = [
        _row(line, number) for number, line in enumerate(text.splitlines(), start=1) if line.lstrip().startswith("{")
    ]
    if not rows:
        raise GiveUpError("there is no handle in it: one is a line of JSON, as the sync command prints it")
    return rows


def _row(line: str, number: int) -> Row:
    try:
        handle = SyncHandle.from_json(line)
    except ValueError as error:
        raise GiveUpError(f"line {number}: {error}") from None
    return Row(handle.company_id, handle.company_id, handle)
