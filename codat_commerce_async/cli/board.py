"""What is known, while a command runs, of each company's sync."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

from codat_commerce_async.cli.text import one_line
from codat_commerce_async.errors import (
    CodatError,
    DecodeError,
    OutcomeUnknownError,
    QuotaExhaustedError,
    RequestTimeoutError,
    StatusError,
    SyncWaitTimeoutError,
    TransportError,
)
from codat_commerce_async.hooks import Hooks, RequestEnded, RequestStarted
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus

__all__ = ["Board", "Row", "Verdict"]


class Verdict(Enum):
    """What there is to say of a row in one glance."""

    QUEUED = "queued"
    UNDER_WAY = "under way"
    GOOD = "good"
    BAD = "bad"


@dataclass(slots=True, eq=False)
class Row:
    """One company's sync, from the queue to its end; times are the board's."""

    company_id: str
    name: str
    handle: SyncHandle | None = None
    status: SyncStatus | None = None
    error: CodatError | None = None
    began: float | None = None
    ended: float | None = None
    requests: int = 0

    @property
    def verdict(self) -> Verdict:
        """Whether it went well, as far as that is known."""
        if self.began is None:
            return Verdict.QUEUED
        if self.ended is None:
            return Verdict.UNDER_WAY
        return Verdict.GOOD if self.error is None and self.status and self.status.succeeded else Verdict.BAD

    @property
    def word(self) -> str:
        """Where it has got to, in a word or three."""
        if self.error is not None:
            return _word(self.error)
        if self.began is None:
            return "queued"
        if self.handle is None:
            return "starting"
        if self.status is None:
            return "started"
        return self.status.outcome.name.replace("_", " ").lower()

    @property
    def why(self) -> str | None:
        """What there is to say of an end that was not good."""
        if self.error is not None:
            return str(self.error)
        if self.status is None or not self.status.failed:
            return None
        said = f": {self.status.error_message}" if self.status.error_message else ""
        return f"{self.status.sync_status_code}, {self.status.outcome.value}{said}"

    @property
    def open_handle(self) -> SyncHandle | None:
        """What to look for the sync with, if its end was not seen."""
        if self.handle is None or (self.status is not None and self.status.is_terminal):
            return None
        if self.status is not None and self.status.sync_id is not None:
            return self.handle.identified(self.status.sync_id)
        return self.handle

    def saying(self, text: str) -> str:
        """The text as one line that names the company."""
        return one_line(text if self.name in text else f"{self.name}: {text}")

    def duration(self, now: float) -> float | None:
        """Seconds that it took, or has been taking."""
        return None if self.began is None else (now if self.ended is None else self.ended) - self.began


_WORDS: tuple[tuple[type[CodatError], str], ...] = (
    (SyncWaitTimeoutError, "still running"),
    (OutcomeUnknownError, "unknown"),
    (QuotaExhaustedError, "quota exhausted"),
    (RequestTimeoutError, "no answer in time"),
    (TransportError, "no answer"),
    (DecodeError, "answer unreadable"),
)


def _word(error: CodatError) -> str:
    if isinstance(error, StatusError):
        return f"{error.status} {_phrase(error.status)}".strip()
    return next((word for kind, word in _WORDS if isinstance(error, kind)), type(error).__name__)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return ""


# Which company's sync the running task works on: hooks and the log know only operations.
_at_work: ContextVar[Row | None] = ContextVar("at_work", default=None)


class Board:
    """The rows of all companies, and what happened on the way; `clock` gives seconds."""

    def __init__(self, rows: Sequence[Row], clock: Callable[[], float]) -> None:
        self.rows = tuple(rows)
        self.requests = 0
        self.answered = False
        self.hooks = Hooks(on_request=self._count, on_response=self._note_answer)
        self._clock = clock
        self._began = clock()
        self._remarks: list[tuple[float, str]] = []

    @property
    def now(self) -> float:
        """Seconds since the board was set up."""
        return self._clock() - self._began

    def remark(self, text: str) -> None:
        """Note something that people may want to read, about the company at work if there is one."""
        row = _at_work.get()
        self._remarks.append((self.now, one_line(text) if row is None else row.saying(text)))

    def take_remarks(self) -> Sequence[tuple[float, str]]:
        """What was remarked since the last time, and when."""
        taken, self._remarks = self._remarks, []
        return taken

    @contextmanager
    def at_work_on(self, row: Row) -> Iterator[None]:
        """A block in which all requests are for this row."""
        token = _at_work.set(row)
        row.began = self.now
        try:
            yield
            row.ended = self.now
        finally:
            _at_work.reset(token)

    @contextmanager
    def hearing_the_log(self) -> Iterator[None]:
        """A block in which what the library logs is remarked, and goes nowhere else."""
        logger = logging.getLogger("codat_commerce_async")
        level, handler = logger.level, _Ear(self.remark)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)

    def _count(self, _event: RequestStarted) -> None:
        self.requests += 1
        if (row := _at_work.get()) is not None:
            row.requests += 1

    def _note_answer(self, event: RequestEnded) -> None:
        self.answered = self.answered or event.status is not None


class _Ear(logging.Handler):
    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record.getMessage())
