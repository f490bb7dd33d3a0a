"""`report`: report a run of a journal as a table, JSON, CSV or HTML."""

import asyncio
import csv
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from codat_commerce_async._core.text import for_spreadsheet, format_count, one_line
from codat_commerce_async.cli._args import ReportOptions
from codat_commerce_async.cli._exit import EXIT_OK, EXIT_USAGE, CommandError
from codat_commerce_async.cli._files import write_text
from codat_commerce_async.cli._records import FIELDS, RunData, Value, diagnosis_of, group_by_cause, record_of
from codat_commerce_async.cli._state import Result, Status
from codat_commerce_async.errors import JournalError
from codat_commerce_async.syncing.journal import Journal, JournalEntry

__all__ = ["report"]

_HEADINGS = ("company", "outcome", "duration", "polls", "ended (UTC)")
_HIGH_PERCENTILE = 95
_FOLLOW_INTERVAL = 5.0


async def report(options: ReportOptions) -> int:
    """Report a run of the journal; with `--follow`, again until the run has ended."""
    while True:
        try:
            data = await _read(options)
        except JournalError as error:
            raise CommandError(error.message, EXIT_USAGE) from None
        has_ended = data is None or data.run.has_ended
        _report(options, data, refresh=_FOLLOW_INTERVAL if options.follow and not has_ended else None)
        if has_ended or not options.follow:
            return EXIT_OK
        await asyncio.sleep(_FOLLOW_INTERVAL)


async def _read(options: ReportOptions) -> RunData | None:
    """Return what the journal has of the run, or None if it has no runs yet."""
    async with Journal.open(options.journal) as journal:
        # First: if the run has ended by now, its entries are complete.
        runs = await journal.runs()
        if not runs and options.run_id is None:
            return None
        run_id = runs[-1].run_id if options.run_id is None else options.run_id
        entries, minutes = await journal.entries(run_id), await journal.per_minute(run_id)
        run = next(run for run in runs if run.run_id == run_id)
    return RunData(journal=Path(options.journal).name, run=run, entries=entries, minutes=minutes)


def _report(options: ReportOptions, data: RunData | None, *, refresh: float | None) -> None:
    entries = data.entries if data is not None else []
    chosen = [entry for entry in entries if entry.state in {"failed", "error"}] if options.failed else entries
    if options.html is not None:
        _write_html(data, options.html, refresh)
    elif options.format == "json":
        _write_json(entries, chosen, options.journal)
    elif options.format == "csv":
        _write_csv(chosen)
    else:
        _print_table(entries, chosen)


def _write_html(data: RunData | None, name: str, refresh: float | None) -> None:
    # Only this needs pygal.
    from codat_commerce_async.cli._report_page.page import render  # noqa: PLC0415

    if data is None:
        raise CommandError("the journal has no run yet", EXIT_USAGE)
    write_text(name, render(data, now=datetime.now(UTC), refresh=refresh))


def _write_json(entries: Sequence[JournalEntry], chosen: Sequence[JournalEntry], journal: str | None) -> None:
    document = {"journal": journal, "summary": _summary(entries), "syncs": [record_of(entry) for entry in chosen]}
    json.dump(document, sys.stdout, indent=1)
    print()


def _write_csv(chosen: Sequence[JournalEntry]) -> None:
    writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
    writer.writeheader()
    for entry in chosen:
        writer.writerow({name: _csv_cell(value) for name, value in record_of(entry).items()})


def _csv_cell(value: Value) -> Value:
    if isinstance(value, float):
        return f"{value:.3f}"
    return for_spreadsheet(value) if isinstance(value, str) else value


def _print_table(entries: Sequence[JournalEntry], chosen: Sequence[JournalEntry]) -> None:
    # JSON and CSV need neither of these, nor rich.
    from codat_commerce_async.cli._summary import print_causes, print_failures  # noqa: PLC0415
    from codat_commerce_async.cli._view import Output  # noqa: PLC0415

    output = Output.to(sys.stdout)
    if chosen:
        output.print_table(_HEADINGS, [_line(entry) for entry in chosen])
        results = [(entry.request.company_id, Result.of_entry(entry)) for entry in chosen]
        lines = [one_line(f"{company}: {result.reason}") for company, result in results if result and result.reason]
        print_failures(lines, output)
        output.print("")
    labels = Counter(_label(entry) for entry in entries).most_common()
    counted = ", ".join(f"{count} {label}" for label, count in labels)
    output.print(f"{format_count(len(entries), 'sync')}: {counted}" if entries else "no syncs")
    print_causes(map(diagnosis_of, entries), output)
    seconds = _seconds(entries)
    if seconds is not None:
        low, high, longest = (_format_seconds(seconds[name]) for name in ("median", "p95", "max"))
        output.print(f"durations: median {low}, 95th percentile {high}, longest {longest}")
    first, last = _times(entries)
    if first is not None and last is not None:
        output.print(f"from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC")


def _line(entry: JournalEntry) -> tuple[tuple[str, ...], Status]:
    result = Result.of_entry(entry)
    status = Status.RUNNING if result is None else Status.SUCCEEDED if result.succeeded else Status.FAILED
    duration = "" if entry.elapsed is None else _format_seconds(entry.elapsed)
    ended = "" if entry.ended_at is None else f"{_to_datetime(entry.ended_at):%H:%M:%S}"
    polls = "" if entry.polls is None else str(entry.polls)
    return (one_line(entry.request.company_id), _label(entry), duration, polls, ended), status


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _label(entry: JournalEntry) -> str:
    result = Result.of_entry(entry)
    if result is not None:
        return result.label
    return "running" if entry.state == "running" else "starting"


def _summary(entries: Sequence[JournalEntry]) -> Mapping[str, object]:
    first, last = _times(entries)
    return {
        "total": len(entries),
        "states": Counter(entry.state for entry in entries),
        "outcomes": Counter(entry.outcome for entry in entries if entry.outcome is not None),
        "causes": [group.to_dict() for group in group_by_cause(map(diagnosis_of, entries))],
        "seconds": _seconds(entries),
        "first_sent_at": first.isoformat() if first else None,
        "last_ended_at": last.isoformat() if last else None,
    }


def _seconds(entries: Sequence[JournalEntry]) -> Mapping[str, float] | None:
    """Return the durations of the syncs that ended."""
    durations = sorted(entry.elapsed for entry in entries if entry.has_status and entry.elapsed is not None)
    if not durations:
        return None
    # Nearest rank: the smallest duration that is not exceeded by this share of all.
    return {
        "median": median(durations),
        "p95": durations[-(-len(durations) * _HIGH_PERCENTILE // 100) - 1],
        "max": durations[-1],
    }


def _times(entries: Sequence[JournalEntry]) -> tuple[datetime | None, datetime | None]:
    sent = [entry.sent_at for entry in entries if entry.sent_at is not None]
    ended = [entry.ended_at for entry in entries if entry.ended_at is not None]
    return _to_datetime(min(sent)) if sent else None, _to_datetime(max(ended)) if ended else None


def _to_datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
