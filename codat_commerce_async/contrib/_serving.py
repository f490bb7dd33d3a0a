"""What a web application opens when it starts and closes when it stops, whatever its framework."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from attrs import frozen

from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.errors import CodatError
from codat_commerce_async.syncing.watches import Watches
from codat_commerce_async.webhooks import WebhookEndpoint

__all__ = ["Serving", "serve", "serving_of"]


@frozen
class Serving:
    """The client of an application, and its watches."""

    client: CodatCommerce
    watches: Watches


@asynccontextmanager
async def serve(
    make_client: Callable[[], CodatCommerce],
    endpoints: Iterable[WebhookEndpoint] = (),
    *,
    end_on_signals: bool = True,
) -> AsyncIterator[Serving]:
    """Open the client, its watches, and the webhook endpoints, which pass their events to the client.

    At the end, drain the endpoints; then close the watches and the client, in this order: a handler may use both.
    """
    async with make_client() as client, client.sync.watches(end_on_signals=end_on_signals) as watches:
        for endpoint in endpoints:
            endpoint.attach(client)
            await endpoint.open()
        try:
            yield Serving(client, watches)
        finally:
            watches.end()
            for endpoint in endpoints:
                await endpoint.drain()


def serving_of(found: object) -> Serving:
    """Return what `serve` opened for the application; raise CodatError if it has not started."""
    if isinstance(found, Serving):
        return found
    raise CodatError("the application has no open client; its lifespan must be the one of this module, and be running")
