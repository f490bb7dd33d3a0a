"""Replay the first response to a write under the same idempotency key, for 90 minutes."""

import re

from attrs import frozen

from codat_commerce_async.simulator._api.http import Response
from codat_commerce_async.simulator._state.errors import ApiError

__all__ = ["REMEMBERED_FOR", "IdempotencyMemory", "normalized_key"]

REMEMBERED_FOR = 90 * 60.0
"""Simulated seconds: https://docs.codat.io/using-the-api/idempotency"""

_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}", re.ASCII)
_TOO_MANY_REQUESTS = 429


def normalized_key(key: str) -> str:
    """Return the normalized key; raise a 400 if it is not a GUID."""
    lowered = key.strip().lower()
    if not _GUID.fullmatch(lowered):
        raise ApiError(400, "The idempotency key must be a GUID.")
    return lowered.replace("-", "")


@frozen
class _StoredResponse:
    fingerprint: bytes
    response: Response
    since: float
    ready_at: float


class IdempotencyMemory:
    """Stores first responses by key.

    A key that is reused at another endpoint is treated like one with another body. Codat does not document this case.
    """

    def __init__(self) -> None:
        self._first: dict[str, _StoredResponse] = {}

    def get(self, key: str, fingerprint: bytes, now: float) -> Response | None:
        """Return the first response under a key; raise a 422 for another body and a 409 while it is in progress."""
        self._evict(now)
        first = self._first.get(key)
        if first is None:
            return None
        if first.fingerprint != fingerprint:
            raise ApiError(422, "This idempotency key belongs to another request.")
        if now < first.ready_at:
            raise ApiError(409, "The first request with this idempotency key is still in progress.")
        return first.response

    def store(self, key: str, fingerprint: bytes, response: Response, now: float, ready_at: float) -> None:
        """Store a response, unless it is a 429."""
        if response.status != _TOO_MANY_REQUESTS:
            self._first[key] = _StoredResponse(fingerprint, response, now, ready_at)

    def _evict(self, now: float) -> None:
        while self._first:
            oldest = next(iter(self._first))
            if now - self._first[oldest].since < REMEMBERED_FOR:
                return
            del self._first[oldest]
