"""Wait for work that must finish even if the waiting task is cancelled."""

import asyncio
from typing import TypeVar

__all__ = ["wait_uncancelled"]

T = TypeVar("T")


async def wait_uncancelled(future: "asyncio.Future[T]") -> T:
    """Wait for the future even if this task is cancelled; raise the cancellation afterwards."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # Retrieved, so that asyncio does not log that the exception was never retrieved.
        _ = future.cancelled() or future.exception()
        raise cancelled
    return future.result()
