"""Receive Codat's webhooks, and let a client that waits for syncs learn from them.

CODAT_WEBHOOK_SECRET holds the endpoint's secret, or several with spaces between them while it is rotated.
"""

import os
from collections.abc import AsyncIterator

from aiohttp import web

from codat_commerce_async import CodatCommerce
from codat_commerce_async.models.webhook_events import ConnectionEvent, WriteEvent
from codat_commerce_async.webhooks import WebhookReceiver, Webhooks, WebhookVerifier

hooks = Webhooks()


@hooks.on("connection.disconnected")
async def tell_the_merchant(event: ConnectionEvent) -> None:
    """Say that somebody has to connect again."""
    company = event.payload.reference_company
    print(f"{company.name if company else 'a company'} has to connect again")


@hooks.on(WriteEvent)
async def note_the_write(event: WriteEvent) -> None:
    """Say what was written."""
    print(f"{event.data_type}: {'written' if event.succeeded else 'not written'}")


async def client(_app: web.Application) -> AsyncIterator[None]:
    """Open a client with the application, and close it with it."""
    async with CodatCommerce.from_env() as codat:
        hooks.attach(codat)
        yield


def application() -> web.Application:
    """The application, ready to run."""
    app = web.Application()
    app.cleanup_ctx.append(client)
    receiver = WebhookReceiver(WebhookVerifier(*os.environ["CODAT_WEBHOOK_SECRET"].split()), hooks)
    receiver.add_to(app, "/codat/webhooks")
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=8080)
