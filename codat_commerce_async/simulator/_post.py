"""Post webhooks over HTTP, for the command `simulate`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from codat_commerce_async.simulator._webhooks import Post

__all__ = ["http_post"]

_TIMEOUT = 10.0


@asynccontextmanager
async def http_post(url: str) -> AsyncIterator[Post]:
    """Yield a function for a WebhookSender that posts to the URL, without following redirects."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session:

        async def post(headers: Mapping[str, str], body: bytes) -> int:
            try:
                async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                    return response.status
            except aiohttp.ClientError as error:
                raise OSError(str(error)) from None

        yield post
