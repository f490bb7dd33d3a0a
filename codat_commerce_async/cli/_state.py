"""The state that a command displays: the sync of each company, its result, and the messages to show."""

import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Self

from attrs import define, frozen

from codat_commerce_async._core.text import is_same_text, one_line
from codat_commerce_async.cli._records import diagnosis_of
from codat_commerce_async.errors import CodatError, OutcomeUnknownError
from codat_commerce_async.hooks import CallStarted, Hooks, RequestEnded, RequestStarted
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import BaseSyncStatus, SyncState
from codat_commerce_async.policies import Quota
from codat_commerce_async.syncing.diagnosis import Diagnosis
from codat_commerce_async.syncing.journal import JournalEntry
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.run import SyncRun

__all__ = ["DisplayState", "Result", "Row", "Status"]

# Up to this many rows are shown one by one; of more rows, only counts and failures.
_MAX_SMALL = 40
_MINUTE = 60.0
_START = "request-sync"
# With many rows, this many messages are kept per window (seconds); further ones are counted.
_MAX_MESSAGES, _MESSAGE_WINDOW = 3, 10.0

_ERROR_LABELS: Mapping[str, str] = {
    "SyncWaitTimeoutError": "still running",
    "OutcomeUnknownError": "unknown",
    "RequestTimeoutError": "no response in time",
    "TransportError": "no response",
    "DecodeError": "invalid response",
}
_WORD_BOUNDARY = re.compile("(?<=[a-z])(?=[A-Z])")


class Status(Enum):
    """The state of a company's sync, as far as colors and counts distinguish it."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@frozen(kw_only=True)
class Result:
    """The result of one sync: whether it succeeded, a label of a few words, and the reason if it failed.

    `code` is Codat's status code. `observed` is false if the end was not observed: the sync may still be running.
    """

    succeeded: bool
    label: str
    reason: str | None = None
    code: int | None = None
    observed: bool = True

    @classmethod
    def of_outcome(cls, outcome: SyncOutcome) -> Self:
        """Return the result of one outcome of a run."""
        if outcome.status is not None:
            return cls.of_status(outcome.status)
        return cls._of_error(type(outcome.error).__name__, str(outcome.error))

    @classmethod
    def of_status(cls, status: BaseSyncStatus) -> Self:
        """Return the result for a terminal status."""
        name = status.state.name
        return cls._of_end(name, status.sync_status_code, status.error_message, succeeded=status.succeeded)

    @classmethod
    def of_error(cls, error: CodatError) -> Self:
        """Return the result for an error that kept a sync from being started or followed."""
        return cls._of_error(type(error).__name__, str(error))

    @classmethod
    def of_entry(cls, entry: JournalEntry) -> Self | None:
        """Return the result of a journal entry, or None if its sync has not ended."""
        if entry.state == "error":
            return cls._of_error(entry.outcome or "", entry.message or "")
        if not entry.has_status:
            return None
        return cls._of_end(entry.outcome or "", entry.code, entry.message, succeeded=entry.state == "succeeded")

    @classmethod
    def _of_end(cls, name: str, code: int | None, message: str | None, *, succeeded: bool) -> Self:
        outcome = SyncState.__members__.get(name)
        means = outcome.description if outcome is not None else name
        detail = f": {message}" if message and not is_same_text(message, means) else ""
        reason = None if succeeded else f"{code}, {means}{detail}"
        return cls(succeeded=succeeded, label=name.replace("_", " ").lower(), reason=reason, code=code)

    @classmethod
    def _of_error(cls, name: str, message: str) -> Self:
        label = _ERROR_LABELS.get(name) or _WORD_BOUNDARY.sub(" ", name.removesuffix("Error")).lower()
        return cls(succeeded=False, label=label, reason=message, observed=False)


@define(eq=False)
class Row:
    """The sync of one company. `started_at` is seconds since the run started, `elapsed` is in seconds.

    With `ended_before`, the sync ended before this call, according to the journal. `start_sent` is whether a start
    request may have reached Codat.
    """

    company_id: str
    name: str
    handle: SyncHandle | None = None
    started_at: float | None = None
    result: Result | None = None
    elapsed: float | None = None
    polls: int | None = None
    ended_before: bool = False
    start_sent: bool = False

    @property
    def status(self) -> Status:
        """The state of the sync."""
        if self.result is not None:
            return Status.SUCCEEDED if self.result.succeeded else Status.FAILED
        return Status.QUEUED if self.started_at is None else Status.RUNNING

    @property
    def label(self) -> str:
        """The state of the sync, or its result, in a few words."""
        if self.result is not None:
            return f"{self.result.label} (before)" if self.ended_before else self.result.label
        if self.started_at is None:
            return "queued"
        return "starting" if self.handle is None else "running"

    @property
    def reason(self) -> str | None:
        """Why the sync failed, if it did."""
        reason = None if self.result is None else self.result.reason
        return f"ended before: {reason}" if self.ended_before and reason is not None else reason

    @property
    def open_handle(self) -> SyncHandle | None:
        """The handle to wait for, if the end was not observed."""
        return None if self.result is not None and self.result.observed else self.handle

    def message(self, text: str) -> str:
        """Return the text as one line that names the company."""
        return one_line(f"{self.name}: {text}")

    def duration(self, now: float) -> float | None:
        """Return how many seconds the sync took, or has been running for."""
        if self.result is not None or self.started_at is None:
            return self.elapsed
        return now - self.started_at


class DisplayState:
    """The rows of all companies, counts and messages. `clock` returns seconds, of real time or `simulated`."""

    def __init__(self, rows: Sequence[Row], clock: Callable[[], float], *, simulated: bool = False) -> None:
        self.rows: list[Row] = []
        self.simulated = simulated
        self.requests = 0
        self.has_response = False
        self.labels: Counter[str] = Counter()
        self.failed: list[Row] = []
        self.diagnoses: list[Diagnosis] = []
        self.already_finished = 0
        self.running = 0
        self.hooks = Hooks(
            on_call_started=self._record_call,
            on_request_started=self._record_request,
            on_request_ended=self._record_response,
        )
        # The companies of start requests that were not sent yet, by the ids of the calls.
        self._unsent: dict[int, str] = {}
        self.per_minute = Quota().per_minute
        self._row_of: dict[str, Row] = {}
        self._clock = clock
        self._started_at = clock()
        self.seconds_left_by_run: float | None = None
        self._recent: deque[float] = deque()
        self._messages: list[tuple[float, str]] = []
        self._message_count = 0
        self._message_window_ends = 0.0
        self._run: SyncRun | None = None
        for row in rows:
            self.add(row)

    @property
    def now(self) -> float:
        """The seconds since the run started."""
        return self._clock() - self._started_at

    @property
    def run_id(self) -> str | None:
        """The id of the run in its journal."""
        return self._run.run_id if self._run is not None else None

    @property
    def is_small(self) -> bool:
        """Whether there are few enough rows to show each."""
        return len(self.rows) <= _MAX_SMALL

    @property
    def ended(self) -> int:
        """How many rows have a result."""
        return self.labels.total()

    @property
    def requests_in_last_minute(self) -> int:
        """How many requests were sent in the last minute."""
        while self._recent and self._recent[0] <= self.now - _MINUTE:
            self._recent.popleft()
        return len(self._recent)

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds to the end, or None if they are not known."""
        return self.seconds_left_by_run if self.ended < len(self.rows) else None

    def add(self, row: Row) -> None:
        """Add a row, in which outcomes of its company are recorded from now on."""
        self.rows.append(row)
        self._row_of[row.company_id] = row

    def follow(self, run: SyncRun) -> None:
        """Update the rows from this run at each `refresh`."""
        self._run = run

    def refresh(self) -> None:
        """Update the rows from the run."""
        if self._run is None:
            return
        starting = [company_id for company_id, _ in self._run.unconfirmed]
        handles = self._run.running
        for company_id in starting:
            self.begin(self.row_of(company_id))
        for handle in handles:
            row = self.row_of(handle.company_id)
            self.begin(row)
            self._set_handle(row, handle)
        self.running = len(starting) + len(handles)
        self.seconds_left_by_run = self._run.progress.seconds_left

    def row_of(self, company_id: str) -> Row:
        """Return the company's row, or a new one if it has none (only the journal knew it) or its row has ended."""
        row = self._row_of.get(company_id)
        if row is None or row.result is not None:
            row = Row(company_id, company_id if row is None else row.name)
            self.add(row)
        return row

    def begin(self, row: Row) -> None:
        """Record that a sync is being started."""
        if row.started_at is None:
            row.started_at = self.now

    def end(self, row: Row, result: Result, *, elapsed: float | None = None, polls: int | None = None) -> None:
        """Record the result of a sync; without `elapsed`, its duration is the time since it was started."""
        self.begin(row)
        row.elapsed = row.duration(self.now) if elapsed is None else elapsed
        row.polls = polls
        self._set_result(row, result)

    def record(self, outcome: SyncOutcome) -> None:
        """Record one outcome of the run."""
        row = self.row_of(outcome.company_id)
        handle = outcome.handle
        if handle is None and isinstance(outcome.error, OutcomeUnknownError):
            handle = outcome.error.handle
        if handle is not None:
            self._set_handle(row, handle)
        self.add_diagnosis(outcome.diagnosis)
        self.end(row, Result.of_outcome(outcome), elapsed=outcome.elapsed, polls=outcome.polls)

    def restore(self, entry: JournalEntry) -> bool:
        """Record the result of a company that is not synced again, from its journal entry; False if it has no row."""
        row, result = self._row_of.get(entry.request.company_id), Result.of_entry(entry)
        if row is None or row.result is not None or result is None:
            return False
        row.handle, row.elapsed, row.polls, row.ended_before = entry.handle, entry.elapsed, entry.polls, True
        self.already_finished += 1
        self.add_diagnosis(diagnosis_of(entry))
        self._set_result(row, result)
        return True

    def add_diagnosis(self, diagnosis: Diagnosis | None) -> None:
        """Add the diagnosis of a sync, if it has one."""
        if diagnosis is not None:
            self.diagnoses.append(diagnosis)

    def add_message(self, text: str) -> None:
        """Add a message to show."""
        self._renew_message_window()
        self._message_count += 1
        if self.is_small or self._message_count <= _MAX_MESSAGES:
            self._messages.append((self.now, one_line(text)))

    def take_messages(self) -> Sequence[tuple[float, str]]:
        """Return the messages since the last call, each with the time when it was added."""
        self._renew_message_window()
        taken, self._messages = self._messages, []
        return taken

    @contextmanager
    def capture_log(self) -> Iterator[None]:
        """Turn the library's log records into messages during the block."""
        logger = logging.getLogger("codat_commerce_async")
        level, handler = logger.level, _LogHandler(self._add_record)
        logger.addHandler(handler)
        # With few companies, retries are shown too.
        logger.setLevel(logging.INFO if self.is_small else logging.WARNING)
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)

    def _add_record(self, record: logging.LogRecord) -> None:
        """Add a log record as a message, with the name of its company as the rows show it."""
        text, company_id = record.getMessage(), getattr(record, "company_id", None)
        row = self._row_of.get(company_id) if isinstance(company_id, str) else None
        self.add_message(text if row is None else text.replace(row.company_id, row.name))

    def _set_handle(self, row: Row, handle: SyncHandle) -> None:
        if row.handle is None and handle.adopted:
            text = "the response was lost, but the sync was found at Codat: adopted, not requested again"
            self.add_message(row.message(text))
        row.handle = handle

    def _set_result(self, row: Row, result: Result) -> None:
        row.result = result
        self.labels[result.label] += 1
        if not result.succeeded:
            self.failed.append(row)

    def _renew_message_window(self) -> None:
        if self.now < self._message_window_ends:
            return
        hidden = self._message_count - _MAX_MESSAGES
        if hidden > 0 and not self.is_small:
            self._messages.append((self.now, f"... and {hidden} more like these"))
        self._message_count, self._message_window_ends = 0, self.now + _MESSAGE_WINDOW

    def _record_call(self, event: CallStarted) -> None:
        if event.operation == _START and event.company_id is not None:
            self._unsent[event.call_id] = event.company_id

    def _record_request(self, event: RequestStarted) -> None:
        self.requests += 1
        self._recent.append(self.now)
        company_id = self._unsent.pop(event.call_id, None)
        if company_id is not None:
            self.row_of(company_id).start_sent = True

    def _record_response(self, event: RequestEnded) -> None:
        self.has_response = self.has_response or event.status is not None


class _LogHandler(logging.Handler):
    def __init__(self, add_record: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._add_record = add_record

    def emit(self, record: logging.LogRecord) -> None:
        self._add_record(record)
