"""Send the simulator's events as signed webhooks, with a function that posts them."""

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from attrs import evolve, frozen

from codat_commerce_async.simulator._simulator import Simulator
from codat_commerce_async.simulator._webhook_faults import WebhookFault, WebhookFaultPlan, webhook_fault_injector

__all__ = ["Post", "WebhookSender", "signed_headers"]

Post = Callable[[Mapping[str, str], bytes], Awaitable[int]]
"""Posts headers and a body to the receiver and returns the HTTP status; raises OSError without a response."""

_PREFIX = "whsec_"
_GIVE_UP_AFTER = 28 * 3600.0
_SUCCESS = range(200, 300)


@frozen
class _Pending:
    webhook_id: str
    body: bytes
    since: float
    fault: WebhookFault | None


class WebhookSender:
    """Delivers the simulator's events at least once, for up to 28 simulated hours.

    All deliveries of an event have the same `webhook-id`. With several secrets each delivery has several signatures, as
    while a secret is rotated: https://www.standardwebhooks.com
    `faults` makes some deliveries late, repeated or out of order.

    Args:
        simulator: The simulator whose events are delivered.
        post: Posts a delivery and returns the HTTP status.
        *secrets: The endpoint's secrets.
        faults: The faults of deliveries.
    """

    def __init__(self, simulator: Simulator, post: Post, *secrets: str, faults: WebhookFaultPlan | None = None) -> None:
        if not secrets:
            raise ValueError("secrets must have at least one secret")
        self._simulator = simulator
        self._post = post
        self._keys = [_key(secret) for secret in secrets]
        faults = WebhookFaultPlan() if faults is None else faults
        self._late_by = faults.late_by
        self._faults = webhook_fault_injector(faults)
        self._pending: list[_Pending] = []

    async def deliver(self) -> int:
        """Post the due webhooks, oldest first, and return how many are still pending."""
        now = self._simulator.now()
        added = [self._message(event, now) for event in self._simulator.take_events()]
        # A copy is delivered on its own; the receiver recognizes it by its `webhook-id`.
        self._pending += [*added, *(evolve(one) for one in added if one.fault is WebhookFault.TWICE)]
        for message in _in_order([one for one in self._pending if one.since <= now]):
            if await self._deliver(message) or now - message.since >= _GIVE_UP_AFTER:
                self._pending.remove(message)
        return len(self._pending)

    def _message(self, event: Mapping[str, object], now: float) -> _Pending:
        fault = self._faults.next(str(event["eventType"]))
        since = now + self._late_by if fault is WebhookFault.LATE else now
        # The ids of events repeat with the seed; without the time, a receiver that keeps what it has handled would drop
        # the events of a simulator that is started again.
        return _Pending(f"msg_{event['id']}_{now:.0f}", json.dumps(event).encode(), since, fault)

    async def _deliver(self, message: _Pending) -> bool:
        headers = signed_headers(self._keys, message.webhook_id, int(self._simulator.now()), message.body)
        try:
            return await self._post(headers, message.body) in _SUCCESS
        except OSError:
            return False


def _in_order(due: Sequence[_Pending]) -> list[_Pending]:
    displaced = [message for message in due if message.fault is WebhookFault.OUT_OF_ORDER]
    return [message for message in due if message not in displaced] + displaced[::-1]


def signed_headers(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook, with one signature per key."""
    signed = b".".join((webhook_id.encode(), str(timestamp).encode(), body))
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        raise ValueError(f"secret must start with {_PREFIX}")
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
