"""`sync`: start the syncs of many companies, and see each through to its end."""

import asyncio
import shlex
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

from codat_commerce_async.cli.board import Board, Row
from codat_commerce_async.cli.conclusion import leave_command, leave_handles
from codat_commerce_async.cli.ending import GiveUpError
from codat_commerce_async.cli.files import STANDARD_INPUT, read_company_ids
from codat_commerce_async.cli.parser import PROGRAM, Options
from codat_commerce_async.cli.screen import Screen
from codat_commerce_async.cli.session import give_up_if_hopeless, stay
from codat_commerce_async.client import CodatCommerce, Settings
from codat_commerce_async.errors import JournalError
from codat_commerce_async.syncing.fanout import SyncRun
from codat_commerce_async.syncing.journal import read_journal

__all__ = ["follow", "sync"]

_NAMED = 3


async def sync(options: Options, **settings: Unpack[Settings]) -> int:
    """Sync the companies at Codat; `settings` are for the client."""
    given = [*options.company_ids]
    if options.source is not None:
        given += read_company_ids(options.source, options.column)
    # Codat takes a second sync of the same period for a duplicate.
    company_ids = list(dict.fromkeys(given))
    board = Board([Row(company_id, company_id) for company_id in company_ids], asyncio.get_running_loop().time)
    _say_duplicates(board, given)
    if options.journal is not None:
        _recall(board, options.journal)

    async def work(codat: CodatCommerce) -> None:
        run = codat.sync.run_many(
            company_ids,
            order=options.order,
            journal=options.journal,
            timeout=options.timeout,
            most_running=options.at_once,
        )
        await follow(board, run)

    return await stay(board, work, partial(_go_on, board, options), journal=options.journal, **settings)


async def follow(board: Board, run: SyncRun) -> None:
    """Put a fan-out's outcomes on the board, as they come; raises GiveUpError when none can be good."""
    async with run:
        board.follow(run)
        try:
            async for outcome in run:
                board.take(outcome)
                give_up_if_hopeless(board, outcome.error)
        finally:
            board.look()


def _say_duplicates(board: Board, given: Sequence[str]) -> None:
    repeated = [company_id for company_id, times in Counter(given).items() if times > 1]
    if repeated:
        more = f" and {len(repeated) - _NAMED} others" if len(repeated) > _NAMED else ""
        board.remark(f"given more than once, synced once: {', '.join(repeated[:_NAMED])}{more}")


def _recall(board: Board, journal: str) -> None:
    """Put what had ended already on the board."""
    if not Path(journal).exists():
        return
    try:
        for entry in read_journal(journal):
            if entry.is_finished and entry.request.date_range is None and entry.request.sync_to is None:
                board.recall(entry)
    except JournalError as error:
        raise GiveUpError(error.message) from None


def _go_on(board: Board, options: Options, screen: Screen, *, interrupted: bool) -> None:
    if options.journal is None:
        leave_handles(board, screen, interrupted=interrupted)
        return
    again = f"{PROGRAM} {shlex.join(options.typed)}"
    if options.source == STANDARD_INPUT:
        again += "   # with the same standard input"
    leave_command(board, screen, options.journal, again, interrupted=interrupted)
