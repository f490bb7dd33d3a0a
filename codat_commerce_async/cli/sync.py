"""`sync`: start the syncs of many companies and wait until all have ended."""

import asyncio
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Protocol, Unpack

from codat_commerce_async._core.text import one_line
from codat_commerce_async.cli._args import PROGRAM, SyncOptions
from codat_commerce_async.cli._exit import EXIT_NOTHING_STARTED, EXIT_TRY_LATER, EXIT_USAGE, CommandError
from codat_commerce_async.cli._files import STANDARD_INPUT, read_company_ids
from codat_commerce_async.cli._records import diagnosis_of, record_of_outcome
from codat_commerce_async.cli._session import Reporting, raise_command_error_if_fatal, run_session
from codat_commerce_async.cli._state import DisplayState, Row
from codat_commerce_async.cli._summary import print_handles, print_resume_command
from codat_commerce_async.cli._view import Output
from codat_commerce_async.client import CodatCommerce, Settings
from codat_commerce_async.errors import JournalError, JournalInUseError
from codat_commerce_async.syncing.journal import Journal, JournalEntry
from codat_commerce_async.syncing.outcome import RunReport, SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest
from codat_commerce_async.syncing.run import SyncRun

__all__ = ["follow", "sync"]

_MAX_NAMED = 3


class OnOutcome(Protocol):
    """A function that gets each outcome, and whether the sync ended before this call."""

    def __call__(self, outcome: SyncOutcome, *, ended_before: bool) -> None:
        """Use the outcome."""
        ...


async def sync(options: SyncOptions, **settings: Unpack[Settings]) -> int:
    """Sync the companies and return the exit status; `settings` are passed to the client."""
    given = [*options.company_ids]
    if options.source is not None:
        given += read_company_ids(options.source, options.column)
    # Codat rejects a second sync of the same period as a duplicate.
    company_ids = list(dict.fromkeys(given))
    state = DisplayState([Row(company_id, company_id) for company_id in company_ids], asyncio.get_running_loop().time)
    _report_duplicates(state, given)

    reports = list[RunReport]()

    async def work(codat: CodatCommerce) -> None:
        run = codat.sync.run_many(
            company_ids,
            objective=options.objective,
            journal=options.journal,
            run_id=options.run_id,
            keep_runs=options.keep_runs,
            timeout=options.timeout,
            max_running=options.max_running,
            diagnose=options.diagnose,
        )
        await follow(state, run, options.journal, _print_record if options.json else None, diagnose=options.diagnose)
        reports.append(run.report)

    hint = partial(_print_hint, state, options)
    reporting = Reporting(journal=options.journal, json=options.json, quiet=options.quiet)
    exit_status = await run_session(state, work, hint, reporting, **settings)
    return EXIT_NOTHING_STARTED if any(report.nothing_started for report in reports) else exit_status


async def follow(
    state: DisplayState,
    run: SyncRun,
    journal: str | None = None,
    on_outcome: OnOutcome | None = None,
    *,
    diagnose: bool = False,
) -> None:
    """Record the outcomes of a run as they arrive, after those that its journal has; `on_outcome` gets each.

    With `diagnose`, the run also diagnoses the failures that its journal has: `on_outcome` gets them at the end.

    Raises CommandError for an error that would fail every sync, and for a journal that cannot be used.
    """
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(run)
        except JournalError as error:
            # Another process that writes the journal is no mistake of the caller.
            status = EXIT_TRY_LATER if isinstance(error, JournalInUseError) else EXIT_USAGE
            raise CommandError(one_line(error.message), status) from None
        restored = None if journal is None else _Restored(state, Journal.open(journal), run.run_id, on_outcome)
        if restored is not None:
            await restored.begin(diagnose=diagnose)
        state.follow(run)
        try:
            async for outcome in run:
                state.record(outcome)
                if on_outcome is not None:
                    on_outcome(outcome, ended_before=False)
                raise_command_error_if_fatal(state, outcome.error)
            if restored is not None:
                await restored.end()
        finally:
            state.refresh()


def _report_duplicates(state: DisplayState, given: Sequence[str]) -> None:
    repeated = [company_id for company_id, times in Counter(given).items() if times > 1]
    if repeated:
        more = f" and {len(repeated) - _MAX_NAMED} others" if len(repeated) > _MAX_NAMED else ""
        state.add_message(f"given more than once, synced once: {', '.join(repeated[:_MAX_NAMED])}{more}")


def _print_record(outcome: SyncOutcome, *, ended_before: bool) -> None:
    print(json.dumps(record_of_outcome(outcome, ended_before=ended_before)), flush=True)


class _Restored:
    """The syncs of the run that ended before this call, from the journal."""

    def __init__(self, state: DisplayState, journal: Journal, run_id: str | None, on_outcome: OnOutcome | None) -> None:
        self._state = state
        self._journal = journal
        self._run_id = run_id
        self._on_outcome = on_outcome
        self._undiagnosed = set[str]()

    async def begin(self, *, diagnose: bool) -> None:
        """Record them; `end` reports those that the run diagnoses."""
        state = self._state
        for entry in await self._entries():
            has_row = state.restore(entry)
            if diagnose and has_row and entry.state == "failed" and entry.diagnosis is None:
                self._undiagnosed.add(entry.request.company_id)
            else:
                self._report(entry)
        if 0 < state.already_finished < len(state.rows):
            state.add_message(f"{state.already_finished} of {len(state.rows)} had ended before this call")

    async def end(self) -> None:
        """Record the diagnoses that were found by now."""
        for entry in await self._entries() if self._undiagnosed else ():
            if entry.request.company_id in self._undiagnosed:
                self._state.add_diagnosis(diagnosis_of(entry))
                self._report(entry)

    async def _entries(self) -> list[JournalEntry]:
        entries = await self._journal.entries(self._run_id)
        return [
            each
            for each in entries
            if each.has_status and each.request == SyncRequest(company_id=each.request.company_id)
        ]

    def _report(self, entry: JournalEntry) -> None:
        if self._on_outcome is not None:
            self._on_outcome(entry.to_outcome(), ended_before=True)


def _print_hint(state: DisplayState, options: SyncOptions, output: Output, *, interrupted: bool) -> None:
    if options.journal is None:
        print_handles(state, output, interrupted=interrupted)
        return
    again = f"{PROGRAM} {shlex.join(options.argv)}"
    if options.source == STANDARD_INPUT:
        again += "   # with the same standard input"
    print_resume_command(state, output, options.journal, again, interrupted=interrupted)
