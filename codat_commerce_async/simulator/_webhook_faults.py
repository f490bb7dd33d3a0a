"""What may befall a webhook on its way, as plain values."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from codat_commerce_async.simulator._api.fault_injector import FaultInjector, check_rate

__all__ = ["WebhookFault", "WebhookFaultPlan"]

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
class WebhookFaultPlan:
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
        check_rate(self.rate, self.kinds)
        if not self.late_by >= 0:
            raise ValueError("late_by must be seconds, 0 or more")

    def injector(self) -> FaultInjector[WebhookFault]:
        """Return what injects these faults into webhooks."""
        return FaultInjector(
            rate=self.rate,
            kinds=tuple(WebhookFault(kind) for kind in self.kinds),
            seed=self.seed,
            only=self.event_types,
            script={
                name: [None if step is None else WebhookFault(step) for step in steps]
                for name, steps in self.script.items()
            },
            known=_EVENT_TYPES,
            noun="event type",
        )
