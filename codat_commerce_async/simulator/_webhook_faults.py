"""Faults of webhooks, as plain values."""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

from attrs import field, frozen

from codat_commerce_async._core.validation import check_seconds
from codat_commerce_async.simulator._api.fault_injector import FaultInjector, check_rate

__all__ = ["WebhookFault", "WebhookFaultPlan", "webhook_fault_injector"]

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
    """One way in which a webhook does not arrive once, in time and in order."""

    LATE = "late"
    """It is first posted after `late_by` simulated seconds."""
    TWICE = "twice"
    """It is posted again, under the same `webhook-id`, although it was accepted."""
    OUT_OF_ORDER = "out_of_order"
    """It is posted after the other pending webhooks, in reverse order."""


@frozen
class WebhookFaultPlan:
    """The faults of webhooks, and how often they happen.

    Each event of one of `event_types` (None: any) has one of `kinds` with probability `rate`. `script` takes
    precedence: for each event type (`"*"` for any) it lists the faults of the next events, None for one without a
    fault. The same seed and the same events give the same faults.
    """

    rate: float = 0.0
    """The probability that an event has a fault, 0 to 1."""

    kinds: Sequence[WebhookFault | str] = tuple(WebhookFault)
    """The faults to choose from."""

    late_by: float = 3600.0
    """Simulated seconds by which a late delivery is late."""

    seed: int = 0
    """The seed of the choice."""

    event_types: Collection[str] | None = None
    """The events that have faults; None for all."""

    script: Mapping[str, Sequence[WebhookFault | str | None]] = field(factory=dict)
    """The faults of the next events, by event type."""

    def __attrs_post_init__(self) -> None:
        check_rate(self.rate, self.kinds)
        check_seconds("late_by", self.late_by)


def webhook_fault_injector(plan: WebhookFaultPlan) -> FaultInjector[WebhookFault]:
    """Return the injector of these faults."""
    return FaultInjector(
        rate=plan.rate,
        kinds=tuple(WebhookFault(kind) for kind in plan.kinds),
        seed=plan.seed,
        only=plan.event_types,
        script={
            name: [None if step is None else WebhookFault(step) for step in steps]
            for name, steps in plan.script.items()
        },
        known=_EVENT_TYPES,
        noun="event type",
    )
