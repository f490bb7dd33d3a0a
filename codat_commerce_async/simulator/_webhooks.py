"""Events of the simulator as signed webhooks, posted by whatever the caller brings."""

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from codat_commerce_async.simulator._simulator import Simulator

__all__ = ["Post", "WebhookSender", "signed_headers"]

Post = Callable[[Mapping[str, str], bytes], Awaitable[int]]
"""Posts headers and a body to the receiver, and gives its HTTP status; raises OSError when there is none."""

_PREFIX = "whsec_"
_KEPT_FOR = 28 * 3600.0
_GOOD = range(200, 300)


@dataclass(frozen=True, slots=True)
class _Pending:
    webhook_id: str
    body: bytes
    since: float


class WebhookSender:
    """Delivers what the simulator has to tell, at least once, for up to 28 simulated hours.

    A message keeps its `webhook-id` over all its deliveries; more than one secret signs more than once, as
    Codat does while a secret is rotated. Signatures: https://www.standardwebhooks.com
    """

    def __init__(self, simulator: Simulator, post: Post, *secrets: str) -> None:
        if not secrets:
            raise ValueError("secrets takes at least one secret")
        self._simulator = simulator
        self._post = post
        self._keys = [_key(secret) for secret in secrets]
        self._pending: list[_Pending] = []

    async def deliver(self) -> int:
        """Post everything that waits, oldest first, and return how many messages wait for another delivery."""
        now = self._simulator.now()
        for event in self._simulator.take_events():
            self._pending.append(_Pending(f"msg_{event['id']}", json.dumps(event).encode(), now))
        for message in tuple(self._pending):
            if await self._delivered(message) or now - message.since >= _KEPT_FOR:
                self._pending.remove(message)
        return len(self._pending)

    async def _delivered(self, message: _Pending) -> bool:
        headers = signed_headers(self._keys, message.webhook_id, int(self._simulator.now()), message.body)
        try:
            return await self._post(headers, message.body) in _GOOD
        except OSError:
            return False


def signed_headers(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook, with one signature per key."""
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
        raise ValueError(f"a secret begins with {_PREFIX}")
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
