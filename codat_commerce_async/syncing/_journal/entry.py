"""One entry of a journal: the state of one sync of a run, and its outcome once it has ended."""

from attrs import evolve, frozen

from codat_commerce_async._core.text import one_line
from codat_commerce_async.errors import CodatError, error_class
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing._journal.values import (
    diagnosis_from_json,
    diagnosis_to_json,
    error_from_json,
    error_to_json,
    status_from_json,
    status_to_json,
)
from codat_commerce_async.syncing.outcome import SyncOutcome
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["JournalEntry", "with_outcome"]

# SQLite integers are signed and have 64 bits.
_INT64_LIMIT = 1 << 63


@frozen
class JournalEntry:
    """The entry of one sync.

    Epoch seconds are those of the local clock. `status`, `error` and `diagnosis` (see `to_outcome`) are also None if
    they have no JSON.
    """

    request: SyncRequest
    """What was requested."""

    state: str
    """`starting`, `running`, `succeeded`, `failed` or `error`."""

    idempotency_key: str | None = None
    """The key of the start request."""

    sent_at: float | None = None
    """When the start was first sent with this key, in epoch seconds."""

    handle: SyncHandle | None = None
    """The identity of the sync once it was started."""

    ended_at: float | None = None
    """When the outcome was recorded, in epoch seconds."""

    polls: int | None = None
    """How often the sync was polled."""

    elapsed: float | None = None
    """Seconds from the start request to the end."""

    code: int | None = None
    """The final status code."""

    outcome: str | None = None
    """The final state, or the class of the error."""

    message: str | None = None
    """Why the sync failed."""

    run: int = 1
    """The number of the run, from 1."""

    server_offset: float | None = None
    """The server's time minus the local time at `sent_at`, in seconds."""

    position: int | None = None
    """The place of the company in the input, from 1."""

    status: str | None = None
    """The terminal status as JSON."""

    error: str | None = None
    """The error as JSON."""

    diagnosis: str | None = None
    """The diagnosis as JSON."""

    session: int | None = None
    """The number of the process in which the sync ended, from 1."""

    @property
    def has_status(self) -> bool:
        """Whether the sync ended with a status; the next call repeats a sync that ended with an error."""
        return self.state in {"succeeded", "failed"}

    @property
    def has_ended(self) -> bool:
        """Whether there is an outcome, be it a status or an error."""
        return self.has_status or self.state == "error"

    def to_outcome(self) -> SyncOutcome:
        """Return the recorded outcome.

        Raises:
            ValueError: There is no outcome.
        """
        if not self.has_ended:
            raise ValueError(f"state must be succeeded, failed or error (got {self.state})")
        return SyncOutcome(
            request=self.request,
            handle=self.handle,
            status=self._known_status() if self.has_status else None,
            error=None if self.has_status else self._known_error(),
            polls=self.polls or 0,
            elapsed=self.elapsed or 0.0,
            diagnosis=diagnosis_from_json(self.diagnosis),
        )

    def _known_status(self) -> SyncStatus:
        if (status := status_from_json(self.status)) is not None:
            return status
        handle = self.handle
        return SyncStatus(
            company_id=self.request.company_id,
            sync_id=handle.sync_id if handle is not None else None,
            commerce_sync_id=handle.commerce_sync_id if handle is not None else None,
            sync_status_code=self.code,
            error_message=self.message,
        )

    def _known_error(self) -> CodatError:
        if (error := error_from_json(self.error)) is not None:
            return error
        cls, message = error_class(self.outcome or ""), self.message or ""
        try:
            return cls(message)
        except TypeError:
            return CodatError(message)


def with_outcome(entry: JournalEntry, outcome: SyncOutcome, now: float) -> JournalEntry:
    """Return the entry of a sync that has this outcome now."""
    status, error = outcome.status, outcome.error
    message = (status.error_message or None) if status is not None else str(error)
    return evolve(
        entry,
        state="error" if status is None else "failed" if status.failed else "succeeded",
        handle=outcome.handle or entry.handle,
        # A diagnosis is recorded after the end of its sync.
        ended_at=entry.ended_at if outcome.diagnosis is not None and entry.has_ended else now,
        polls=outcome.polls,
        elapsed=outcome.elapsed,
        code=_clamp_int64(status.sync_status_code) if status is not None else None,
        outcome=status.state.name if status is not None else type(error).__name__,
        # Also makes text of what SQLite cannot store, such as half of a surrogate pair.
        message=one_line(message) if message else None,
        status=status_to_json(status),
        error=error_to_json(error),
        diagnosis=diagnosis_to_json(outcome.diagnosis),
    )


def _clamp_int64(code: int | None) -> int | None:
    """Return the code, or None if it is outside the 64-bit range of SQLite."""
    return code if code is not None and abs(code) < _INT64_LIMIT else None
