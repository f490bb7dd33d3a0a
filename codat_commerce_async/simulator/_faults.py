"""What may go wrong on the way to Codat, there, or on the way back, as plain values."""

import math
import random
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from codat_commerce_async.simulator._routes import ROUTES

__all__ = ["ANY_OPERATION", "TRANSIENT", "Fault", "FaultKind", "FaultSource", "Faults", "Planned"]

ANY_OPERATION = "*"

_OPERATIONS = frozenset(route.name for route in ROUTES)


class FaultKind(Enum):
    """One way in which an exchange goes wrong; `before` and `after` say whether Codat had acted by then."""

    LOST_BEFORE = "lost_before"
    """The connection closes without an answer; nothing was done."""
    LOST_AFTER = "lost_after"
    """The connection closes without an answer; the work was done."""
    RESET_BEFORE = "reset_before"
    """The connection is reset; nothing was done."""
    RESET_AFTER = "reset_after"
    """The connection is reset; the work was done."""
    CUT_OFF = "cut_off"
    """The work was done, and the connection closes in the middle of the answer's body."""
    ENDLESS = "endless"
    """The work was done, and the answer's body never ends."""
    LATE = "late"
    """The answer comes late, while Codat works: a repeat under the same key meets a 409 until then."""
    RATE_LIMITED = "rate_limited"
    """429 from Codat or from the platform behind it; nothing was done, and the key is free again."""
    ERROR_BEFORE = "error_before"
    """An error status of Codat's; nothing was done, yet it is remembered under the key."""
    ERROR_AFTER = "error_after"
    """An error status of Codat's although the work was done; remembered under the key."""
    UNAVAILABLE = "unavailable"
    """503, maintenance; nothing was done, yet it is remembered under the key."""
    BAD_GATEWAY = "bad_gateway"
    """502 in HTML from a gateway; Codat never saw the request."""
    GATEWAY_TIMEOUT = "gateway_timeout"
    """504 in HTML from a gateway; Codat never saw the request."""
    GATEWAY_TIMEOUT_AFTER = "gateway_timeout_after"
    """504 with an empty body from a gateway that gave up; Codat did the work and remembers its answer."""
    REDIRECT = "redirect"
    """302 to another address; Codat never saw the request."""
    WRONG_CONTENT_TYPE = "wrong_content_type"
    """The work was done, and the JSON is declared as HTML."""
    EMPTY = "empty"
    """The work was done, and the answer's body is empty."""
    CLOCK_SKEW = "clock_skew"
    """The answer's `Date` is off by the fault's seconds."""
    NEW_ENUM_VALUES = "new_enum_values"
    """Enum fields of the answer carry values that no specification knows."""
    NEW_FIELDS = "new_fields"
    """Every object of the answer carries fields that no specification knows."""
    NUMBERS_AS_TEXT = "numbers_as_text"
    """The numbers in the answer arrive as strings."""


TRANSIENT: tuple[FaultKind, ...] = (
    FaultKind.LOST_BEFORE,
    FaultKind.LOST_AFTER,
    FaultKind.RESET_BEFORE,
    FaultKind.RESET_AFTER,
    FaultKind.CUT_OFF,
    FaultKind.RATE_LIMITED,
    FaultKind.BAD_GATEWAY,
    FaultKind.GATEWAY_TIMEOUT,
    FaultKind.GATEWAY_TIMEOUT_AFTER,
)
"""What passes when the same request, under the same key, is sent again."""

_DEFAULT_SECONDS = {FaultKind.LATE: 120.0, FaultKind.RATE_LIMITED: 1.0, FaultKind.CLOCK_SKEW: -3600.0}
_DEFAULT_STATUS = {FaultKind.ERROR_BEFORE: 500, FaultKind.ERROR_AFTER: 500, FaultKind.UNAVAILABLE: 503}
_ERROR_STATUSES = range(400, 600)
_ACTS_FOR_A_WHILE = {
    FaultKind.LATE,
    FaultKind.LOST_AFTER,
    FaultKind.RESET_AFTER,
    FaultKind.GATEWAY_TIMEOUT_AFTER,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, once.

    `seconds` are real ones, as the client counts them: how late the answer is (`LATE`), how long Codat goes
    on working after the connection was lost (`LOST_AFTER`, `RESET_AFTER`, `GATEWAY_TIMEOUT_AFTER`), the
    `Retry-After` (`RATE_LIMITED`), the skew (`CLOCK_SKEW`). `status` is that of `ERROR_BEFORE` and
    `ERROR_AFTER`.
    """

    kind: FaultKind
    seconds: float | None = None
    status: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not math.isfinite(self.seconds):
            raise ValueError("seconds takes a finite number")
        if self.status is not None and self.status not in _ERROR_STATUSES:
            raise ValueError("status takes an error status, 400 to 599")

    @property
    def duration(self) -> float:
        """`seconds`, or what is usual for this kind."""
        return self.seconds if self.seconds is not None else _DEFAULT_SECONDS.get(self.kind, 0.0)

    @property
    def error_status(self) -> int:
        """`status`, or what is usual for this kind."""
        return self.status if self.status is not None else _DEFAULT_STATUS.get(self.kind, 500)

    @property
    def works_for(self) -> float:
        """The real seconds for which Codat is still at work on the request."""
        return self.duration if self.kind in _ACTS_FOR_A_WHILE else 0.0


Planned = Fault | FaultKind | str | None
"""One step of a script: a fault, its kind or the kind's name, or None for an exchange that goes well."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, and how often.

    Each exchange goes wrong with probability `rate`, in one of `kinds` (name one twice and it comes twice
    as often), if it is of one of `operations` (None: any). `script` goes first: per operation (`"*"` for
    any) a list of what befalls its next exchanges, in order. The same seed and the same exchanges give the
    same faults.
    """

    rate: float = 0.0
    kinds: Sequence[Fault | FaultKind | str] = TRANSIENT
    seed: int = 0
    operations: Collection[str] | None = None
    script: Mapping[str, Sequence[Planned]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError("rate takes a probability, 0 to 1")
        if self.rate and not self.kinds:
            raise ValueError("kinds takes at least one kind of fault")


class FaultSource:
    """Draws the fault, if any, that befalls an exchange."""

    def __init__(self, faults: Faults) -> None:
        self._rate = faults.rate
        self._kinds = tuple(_fault(kind) for kind in faults.kinds)
        self._operations = None if faults.operations is None else frozenset(faults.operations)
        for operation in self._operations or ():
            _known(operation)
        self._random = random.Random(faults.seed)  # noqa: S311 - repeatable chance, no secret
        self._script: dict[str, deque[Fault | None]] = {}
        for operation, planned in faults.script.items():
            self.plan(operation, *planned)

    def plan(self, operation: str, *planned: Planned) -> None:
        """Append to what befalls the next exchanges of an operation."""
        _known(operation)
        steps = self._script.setdefault(operation, deque())
        steps.extend(None if step is None else _fault(step) for step in planned)

    def draw(self, operation: str) -> Fault | None:
        """What befalls this exchange."""
        for name in (operation, ANY_OPERATION):
            if steps := self._script.get(name):
                return steps.popleft()
        if not self._rate or (self._operations is not None and operation not in self._operations):
            return None
        return self._random.choice(self._kinds) if self._random.random() < self._rate else None


def _known(operation: str) -> None:
    # A misspelled name would leave a test without the fault that it is about.
    if operation != ANY_OPERATION and operation not in _OPERATIONS:
        raise ValueError(f"there is no operation {operation}")


def _fault(planned: Fault | FaultKind | str) -> Fault:
    return planned if isinstance(planned, Fault) else Fault(FaultKind(planned))
