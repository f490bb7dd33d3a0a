"""What the stores of webhook deliveries have in common."""

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias
from uuid import uuid4

from codat_commerce_async._core.validation import check_seconds

__all__ = ["CLAIM_FOR", "REMEMBER_FOR", "Claim", "ClaimStore"]

Claim: TypeAlias = Literal["claimed", "in_progress", "handled"]

CLAIM_FOR = 300.0
# Codat repeats a delivery for 28 hours: https://docs.codat.io/using-the-api/webhooks/overview
REMEMBER_FOR = 29 * 3600.0


class ClaimStore(ABC):
    """Claims events for this process, until they are handled or given up, or the claim expires."""

    def __init__(self, claim_for: float, remember_for: float) -> None:
        self._claim_for = check_seconds("claim_for", claim_for, positive=True, finite=True)
        self._remember_for = check_seconds("remember_for", remember_for, positive=True, finite=True)
        # A claim that has expired may be another process' by now, which must not lose it.
        self._tokens: dict[str, str] = {}

    async def claim(self, webhook_id: str) -> Claim:
        """Claim an event for this process, unless another one has handled it or is handling it."""
        token = uuid4().hex
        found = await self._claim(webhook_id, token)
        if found == "claimed":
            self._tokens[webhook_id] = token
        return found

    async def finish(self, webhook_id: str, *, handled: bool) -> None:
        """Record that a claimed event was handled; otherwise give up the claim."""
        token = self._tokens.pop(webhook_id, None)
        if handled:
            await self._remember(webhook_id)
        elif token is not None:
            await self._give_up(webhook_id, token)

    @abstractmethod
    async def _claim(self, webhook_id: str, token: str) -> Claim:
        """Claim an event in one step."""

    @abstractmethod
    async def _remember(self, webhook_id: str) -> None: ...

    @abstractmethod
    async def _give_up(self, webhook_id: str, token: str) -> None: ...
