"""Codat's memory of writes: the first answer under a key, for 90 minutes."""

import re
from dataclasses import dataclass

from codat_commerce_async.simulator._api.http import Response
from codat_commerce_async.simulator._state.errors import ApiError

__all__ = ["REMEMBERED_FOR", "IdempotencyMemory", "normalized_key"]

REMEMBERED_FOR = 90 * 60.0
"""Simulated seconds: https://docs.codat.io/using-the-api/idempotency"""

_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}", re.ASCII)
_TOO_MANY = 429


def normalized_key(key: str) -> str:
    """The key in one spelling; refused with 400 when it is no GUID."""
    lowered = key.strip().lower()
    if not _GUID.fullmatch(lowered):
        raise ApiError(400, "The idempotency key has to be a GUID.")
    return lowered.replace("-", "")


@dataclass(frozen=True, slots=True)
class _Remembered:
    fingerprint: bytes
    response: Response
    since: float
    ready_at: float


class IdempotencyMemory:
    """First answers by key.

    That a key used at another endpoint counts as another body is this simulator's reading; Codat does not
    say.
    """

    def __init__(self) -> None:
        self._first: dict[str, _Remembered] = {}

    def recall(self, key: str, fingerprint: bytes, now: float) -> Response | None:
        """The first answer under a key; refused with 422 for another body, 409 while in progress."""
        self._forget(now)
        first = self._first.get(key)
        if first is None:
            return None
        if first.fingerprint != fingerprint:
            raise ApiError(422, "This idempotency key belongs to another request.")
        if now < first.ready_at:
            raise ApiError(409, "The first request with this idempotency key is still in progress.")
        return first.response

    def remember(self, key: str, fingerprint: bytes, response: Response, now: float, ready_at: float) -> None:
        """Keep an answer; 429 leaves no trace."""
        if response.status != _TOO_MANY:
            self._first[key] = _Remembered(fingerprint, response, now, ready_at)

    def _forget(self, now: float) -> None:
        while self._first:
            oldest = next(iter(self._first))
            if now - self._first[oldest].since < REMEMBERED_FOR:
                return
            del self._first[oldest]
