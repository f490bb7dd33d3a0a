"""What is known, while a command runs, of each company's sync."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from codat_commerce_async._text import one_line
from codat_commerce_async.cli.result import Result
from codat_commerce_async.errors import OutcomeUnknownError
from codat_commerce_async.hooks import Hooks, RequestEnded, RequestStarted
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.policies import Quota
from codat_commerce_async.syncing.fanout import SyncRun
from codat_commerce_async.syncing.journal import Entry
from codat_commerce_async.syncing.outcome import SyncOutcome

__all__ = ["Board", "Row", "Verdict"]

# More rows than these are told of in sums, fewer one by one.
_FEW = 40
_MINUTE = 60.0
# An estimate that rests on fewer ends than these is none.
_ENDS_TO_LEARN_FROM = 5
# Where there are many rows, what is remarked beyond the first few in so many seconds is only counted.
_MOST_REMARKS, _REMARKS_PER = 3, 10.0


class Verdict(Enum):
    """What there is to say of a row in one glance."""

    QUEUED = "queued"
    UNDER_WAY = "under way"
    GOOD = "good"
    BAD = "bad"


@dataclass(slots=True, eq=False)
class Row:
    """One company's sync, from the queue to its end; `began` is the board's time, `took` and `elapsed` are seconds."""

    company_id: str
    name: str
    handle: SyncHandle | None = None
    began: float | None = None
    result: Result | None = None
    took: float | None = None
    looks: int | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether it went well, as far as that is known."""
        if self.result is not None:
            return Verdict.GOOD if self.result.good else Verdict.BAD
        return Verdict.QUEUED if self.began is None else Verdict.UNDER_WAY

    @property
    def word(self) -> str:
        """Where it has got to, in a word or three."""
        if self.result is not None:
            return self.result.word
        if self.began is None:
            return "queued"
        return "starting" if self.handle is None else "running"

    @property
    def why(self) -> str | None:
        """What there is to say of an end that was not good."""
        return None if self.result is None else self.result.why

    @property
    def open_handle(self) -> SyncHandle | None:
        """What to look for the sync with, if its end was not seen."""
        return None if self.result is not None and self.result.seen else self.handle

    def saying(self, text: str) -> str:
        """The text as one line that names the company."""
        return one_line(f"{self.name}: {text}")

    def duration(self, now: float) -> float | None:
        """Seconds that it took, or has been taking."""
        if self.result is not None or self.began is None:
            return self.took
        return now - self.began


class Board:
    """The rows of all companies, and what happened on the way; `clock` gives seconds, real ones or `simulated`."""

    def __init__(self, rows: Sequence[Row], clock: Callable[[], float], *, simulated: bool = False) -> None:
        self.rows: list[Row] = []
        self.simulated = simulated
        self.requests = 0
        self.answered = False
        self.words: Counter[str] = Counter()
        self.bad: list[Row] = []
        self.ended_before = 0
        self.under_way = 0
        self.hooks = Hooks(on_request=self._count, on_response=self._note_answer)
        self.per_minute = Quota().per_minute
        self._row_of: dict[str, Row] = {}
        self._clock = clock
        self._began = clock()
        self.seconds_left_by_run: float | None = None
        self._recent: deque[float] = deque()
        self._remarks: list[tuple[float, str]] = []
        self._remarked = 0
        self._ration_until = 0.0
        self._run: SyncRun | None = None
        for row in rows:
            self.add(row)

    @property
    def now(self) -> float:
        """Seconds since the board was set up."""
        return self._clock() - self._began

    @property
    def is_small(self) -> bool:
        """Whether there are few enough rows to tell of each."""
        return len(self.rows) <= _FEW

    @property
    def ended(self) -> int:
        """How many rows have a result."""
        return self.words.total()

    @property
    def requests_in_last_minute(self) -> int:
        """How many requests were sent in the last minute."""
        while self._recent and self._recent[0] <= self.now - _MINUTE:
            self._recent.popleft()
        return len(self._recent)

    @property
    def seconds_left(self) -> float | None:
        """How long it may still take, once enough is known to say."""
        enough = self.ended - self.ended_before >= min(_ENDS_TO_LEARN_FROM, len(self.rows))
        return self.seconds_left_by_run if enough and self.ended < len(self.rows) else None

    def add(self, row: Row) -> None:
        """Have a row more; what is learned of its company goes into it from now on."""
        self.rows.append(row)
        self._row_of[row.company_id] = row

    def follow(self, run: SyncRun) -> None:
        """Learn from this fan-out, from now on, where the rows have got to."""
        self._run = run

    def look(self) -> None:
        """See what is new."""
        if self._run is None:
            return
        asked = [company_id for company_id, _ in self._run.unsettled]
        handles = self._run.running
        for company_id in asked:
            self.begin(self.row_of(company_id))
        for handle in handles:
            row = self.row_of(handle.company_id)
            self.begin(row)
            self._hold(row, handle)
        self.under_way = len(asked) + len(handles)
        self.seconds_left_by_run = self._run.progress.seconds_left

    def row_of(self, company_id: str) -> Row:
        """The row of a company; a new one for a company that only the journal knew, or that has ended already."""
        row = self._row_of.get(company_id)
        if row is None or row.result is not None:
            row = Row(company_id, company_id if row is None else row.name)
            self.add(row)
        return row

    def begin(self, row: Row) -> None:
        """Note that a sync is being asked for, or looked for."""
        if row.began is None:
            row.began = self.now

    def end(self, row: Row, result: Result, *, took: float | None = None, looks: int | None = None) -> None:
        """Note how a sync ended; without `took` it took from its beginning until now."""
        self.begin(row)
        row.took = row.duration(self.now) if took is None else took
        row.looks = looks
        self._settle(row, result)

    def take(self, outcome: SyncOutcome) -> None:
        """Note what came of a sync in the fan-out."""
        row = self.row_of(outcome.company_id)
        handle = outcome.handle
        if handle is None and isinstance(outcome.error, OutcomeUnknownError):
            handle = outcome.error.handle
        if handle is not None:
            self._hold(row, handle)
        self.end(row, Result.of_outcome(outcome), took=outcome.elapsed, looks=outcome.looks)

    def recall(self, entry: Entry) -> None:
        """Note what a journal says of a company that is not to be synced again, if it is one of the board's."""
        row, result = self._row_of.get(entry.request.company_id), Result.of_entry(entry)
        if row is None or row.result is not None or result is None:
            return
        row.took, row.looks = entry.elapsed, entry.looks
        self.ended_before += 1
        self._settle(row, result)

    def remark(self, text: str) -> None:
        """Note something that people may want to read."""
        self._renew_ration()
        self._remarked += 1
        if self.is_small or self._remarked <= _MOST_REMARKS:
            self._remarks.append((self.now, one_line(text)))

    def take_remarks(self) -> Sequence[tuple[float, str]]:
        """What was remarked since the last time, and when."""
        self._renew_ration()
        taken, self._remarks = self._remarks, []
        return taken

    @contextmanager
    def hearing_the_log(self) -> Iterator[None]:
        """A block in which what the library logs is remarked, and goes nowhere else."""
        logger = logging.getLogger("codat_commerce_async")
        level, handler = logger.level, _Ear(self.remark)
        logger.addHandler(handler)
        # That a request is sent again is worth a line where there are few.
        logger.setLevel(logging.INFO if self.is_small else logging.WARNING)
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)

    def _hold(self, row: Row, handle: SyncHandle) -> None:
        if row.handle is None and handle.adopted:
            said = "no good answer to the request, but the sync had begun: taken over, not asked for again"
            self.remark(row.saying(said))
        row.handle = handle

    def _settle(self, row: Row, result: Result) -> None:
        row.result = result
        self.words[result.word] += 1
        if not result.good:
            self.bad.append(row)

    def _renew_ration(self) -> None:
        if self.now < self._ration_until:
            return
        unsaid = self._remarked - _MOST_REMARKS
        if unsaid > 0 and not self.is_small:
            self._remarks.append((self.now, f"... and {unsaid} more like these"))
        self._remarked, self._ration_until = 0, self.now + _REMARKS_PER

    def _count(self, _event: RequestStarted) -> None:
        self.requests += 1
        self._recent.append(self.now)

    def _note_answer(self, event: RequestEnded) -> None:
        self.answered = self.answered or event.status is not None


class _Ear(logging.Handler):
    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record.getMessage())
