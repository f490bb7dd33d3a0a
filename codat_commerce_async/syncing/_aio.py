"""Seeing something through to its end although the one who waits is cancelled."""

import asyncio
from typing import TypeVar

__all__ = ["wait_uncancelled"]

T = TypeVar("T")


async def wait_uncancelled(future: "asyncio.Future[T]") -> T:
    """What comes of the future, which is waited for to its end; a cancellation goes on only then."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # Looked at, so that nobody is told that it never was.
        _ = future.cancelled() or future.exception()
        raise cancelled
    return future.result()
