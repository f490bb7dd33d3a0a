"""Request the server's time before the first start, so that the age of an idempotency key stays known."""

import asyncio

from codat_commerce_async.errors import CodatError
from codat_commerce_async.policies import RetryPolicy
from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing._failures import raise_if_fatal

__all__ = ["ServerTimeProbe"]

_TIMEOUT = 15.0


class ServerTimeProbe:
    """Request the server's time once, with a call that changes nothing, unless a response has shown it before.

    The local clock may be set between the first request with a key and the next one.
    """

    def __init__(self, context: SyncContext) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._is_requested = False

    async def request_once(self, company_id: str) -> None:
        """Request the server's time unless it is known or was requested; return after the response, good or not.

        Raises the error if it concerns every company: nothing is started then.
        """
        if self._context.clock.server_offset is not None or self._is_requested:
            return
        async with self._lock:
            if self._is_requested:
                return
            try:
                await self._context.calls.get_status(company_id, retry=RetryPolicy.none(), timeout=_TIMEOUT)
            except CodatError as error:
                raise_if_fatal(error)
            # Set last, so that concurrent starts wait for the response too.
            self._is_requested = True
