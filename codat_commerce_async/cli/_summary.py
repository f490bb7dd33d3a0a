"""Print the summary of a run: how the syncs ended, and how to resume those that have not."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from codat_commerce_async._core.text import format_count, format_duration, one_line
from codat_commerce_async.cli._args import PROGRAM
from codat_commerce_async.cli._records import group_by_cause
from codat_commerce_async.cli._state import DisplayState, Row
from codat_commerce_async.cli._view import Output
from codat_commerce_async.syncing.diagnosis import Diagnosis

__all__ = ["print_causes", "print_failures", "print_handles", "print_resume_command", "print_summary"]

# With a journal, which has all failures, at most this many of each kind are printed.
_MAX_PER_KIND = 3
# Of more companies that were not started, only their number is printed.
_MAX_LISTED = 100


def print_summary(state: DisplayState, output: Output, journal: str | None = None) -> None:
    """Print the table if it is short, the reasons of the failures, and the counts."""
    if state.is_small:
        output.print("")
        output.print_rows(state)
    shown = state.failed if journal is None or state.is_small else _some_of_each_kind(state.failed)
    print_failures([row.message(row.reason) for row in shown if row.reason is not None], output)
    if journal is not None and len(shown) < len(state.failed):
        output.print(f"... and {len(state.failed) - len(shown)} more; all of them:")
        output.print_unbroken(f"{PROGRAM} report {shlex.quote(journal)} --failed")
    if state.diagnoses:
        output.print("")
        print_causes(state.diagnoses, output)
    elif not state.simulated:
        _print_diagnose_command(state, output)
    labels = ", ".join(f"{count} {label}" for label, count in state.labels.most_common())
    requests = format_count(state.requests, "request")
    output.print("", f"{labels}{_before(state)}; {requests} in {format_duration(state.now)}")
    if state.already_finished == len(state.rows) and state.rows:
        output.print(f"To sync them again, name another run with --run; this one is {state.run_id}")


def _print_diagnose_command(state: DisplayState, output: Output) -> None:
    """Print how to find out why the first of the failed syncs failed; one that was not started has no diagnosis."""
    failed = next((row for row in state.failed if row.handle is not None and row.open_handle is None), None)
    if failed is not None and failed.handle is not None:
        sync_id = failed.handle.sync_id
        ids = " ".join(shlex.quote(each) for each in (failed.company_id, sync_id) if each is not None)
        output.print("To find out why one failed:")
        output.print_unbroken(f"{PROGRAM} diagnose {ids}")


def print_causes(diagnoses: Iterable[Diagnosis | None], output: Output) -> None:
    """Print one line for each cause, with how many failures it has, who has to act and what to do."""
    for group in group_by_cause(diagnoses):
        text = (
            f"{group.count} {group.cause} ({group.resolver}): {group.action}; for example {', '.join(group.examples)}"
        )
        output.print_unbroken(one_line(text))


def print_failures(lines: Sequence[str], output: Output) -> None:
    """Print an empty line and the lines, if there are any."""
    if lines:
        output.print("", *lines)


def print_handles(state: DisplayState, output: Output, *, interrupted: bool) -> None:
    """Print the handles of syncs whose end was not observed, and the companies whose start was interrupted."""
    handles = [row.open_handle.to_json() for row in _open(state) if row.open_handle is not None]
    if handles:
        text = f"Still running. To wait for these syncs, pass the lines to `{PROGRAM} wait`:"
        output.print_unbroken("", text, *handles)
    if interrupted:
        rows = [row for row in state.rows if row.result is None and row.handle is None]
        sent = [row.company_id for row in rows if row.start_sent]
        if sent:
            text = f"Interrupted while starting; these may or may not be running: {' '.join(sent)}"
            output.print_unbroken("", text)
        not_sent = [row.company_id for row in rows if not row.start_sent]
        if not_sent:
            output.print_unbroken("", f"Not started: {_listed(not_sent)}")


def _listed(company_ids: Sequence[str]) -> str:
    """Return the ids, or of many only how many there are."""
    return " ".join(company_ids) if len(company_ids) <= _MAX_LISTED else f"{len(company_ids):,} companies"


def print_resume_command(state: DisplayState, output: Output, journal: str, command: str, *, interrupted: bool) -> None:
    """Print the command that resumes from a journal, if there is anything to resume."""
    running = len(_open(state))
    if running or interrupted:
        text = f"Syncs still running: {running}. " if running else ""
        output.print("", f"{text}{journal} has recorded the run; to resume it:")
        output.print_unbroken(command)


def _some_of_each_kind(rows: Sequence[Row]) -> list[Row]:
    seen: Counter[str] = Counter()
    chosen = []
    for row in rows:
        seen[row.label] += 1
        if seen[row.label] <= _MAX_PER_KIND:
            chosen.append(row)
    return chosen


def _open(state: DisplayState) -> list[Row]:
    return [row for row in state.rows if row.open_handle is not None]


def _before(state: DisplayState) -> str:
    """Return how many of the syncs ended before this call."""
    if not state.already_finished:
        return ""
    count = "all" if state.already_finished == len(state.rows) else state.already_finished
    return f", {count} of them before this call"
