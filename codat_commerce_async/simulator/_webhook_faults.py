"""What may befall a webhook on its way, as plain values."""

import random
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["WebhookFault", "WebhookFaultSource", "WebhookFaults"]

_ANY_TYPE = "*"

_EVENT_TYPES = frozenset(
    {
        "client.rateLimit.reached",
        "client.rateLimit.reset",
        "company.created",
        "company.deleted",
        "connection.connected",
        "connection.created",
        "connection.deleted",
        "connection.disconnected",
        "connection.failed",
        "connection.reconnected",
        "journalEntries.write.successful",
        "journalEntries.write.unsuccessful",
        "read.completed",
    }
)


class WebhookFault(Enum):
    """One way in which a webhook does not arrive once, now and in its turn."""

    LATE = "late"
    """It is posted for the first time only when `late_by` simulated seconds have passed."""
    TWICE = "twice"
    """It is posted again, under the same `webhook-id`, although it was taken."""
    OUT_OF_ORDER = "out_of_order"
    """It is posted behind all that wait with it, the last to be held back first."""


@dataclass(frozen=True, slots=True)
class WebhookFaults:
    """What befalls webhooks, and how often.

    Each event is befallen with probability `rate`, by one of `kinds`, if it is of one of `event_types` (None: any).
    `script` goes first: per event type (`"*"` for any) a list of what befalls the next events, None for one that goes
    well. The same seed and the same events give the same faults.
    """

    rate: float = 0.0
    kinds: Sequence[WebhookFault | str] = tuple(WebhookFault)
    late_by: float = 3600.0
    seed: int = 0
    event_types: Collection[str] | None = None
    script: Mapping[str, Sequence[WebhookFault | str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError("rate takes a probability, 0 to 1")
        if self.rate and not self.kinds:
            raise ValueError("kinds takes at least one kind of fault")
        if not self.late_by >= 0:
            raise ValueError("late_by takes seconds, 0 or more")


class WebhookFaultSource:
    """Draws what befalls an event, if anything."""

    def __init__(self, faults: WebhookFaults) -> None:
        self._rate = faults.rate
        self._kinds = tuple(WebhookFault(kind) for kind in faults.kinds)
        self._event_types = None if faults.event_types is None else frozenset(faults.event_types)
        _check({*(self._event_types or ()), *faults.script} - {_ANY_TYPE})
        self._random = random.Random(faults.seed)  # noqa: S311 - repeatable chance, no secret
        self._script = {
            event_type: deque(None if step is None else WebhookFault(step) for step in steps)
            for event_type, steps in faults.script.items()
        }

    def draw(self, event_type: str) -> WebhookFault | None:
        """What befalls this event."""
        for name in (event_type, _ANY_TYPE):
            if steps := self._script.get(name):
                return steps.popleft()
        if not self._rate or (self._event_types is not None and event_type not in self._event_types):
            return None
        return self._random.choice(self._kinds) if self._random.random() < self._rate else None


def _check(event_types: Collection[str]) -> None:
    # A misspelled name would leave a test without the fault that it is about.
    for event_type in sorted(event_types):
        if event_type not in _EVENT_TYPES:
            raise ValueError(f"the simulator tells of no {event_type}")
