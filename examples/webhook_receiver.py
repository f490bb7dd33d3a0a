"""Receive Codat's webhooks, and poll a company's running syncs when an event about it arrives.

CODAT_WEBHOOK_SECRET holds the endpoint's secret, or several separated by spaces while it is rotated.
"""

import os
from collections.abc import AsyncIterator

from aiohttp import web

from codat_commerce_async import CodatCommerce
from codat_commerce_async.models.webhook_events import ConnectionEvent, WriteEvent
from codat_commerce_async.webhooks import WebhookReceiver, Webhooks, WebhookVerifier

hooks = Webhooks()


@hooks.on("connection.disconnected")
async def notify_the_merchant(event: ConnectionEvent) -> None:
    """Print which company has to connect again."""
    company = event.payload.reference_company
    print(f"{company.name if company else 'A company'} has to connect again")


@hooks.on(WriteEvent)
async def report_write(event: WriteEvent) -> None:
    """Print whether the data was written."""
    print(f"{event.data_type}: {'written' if event.succeeded else 'not written'}")


async def client(_app: web.Application) -> AsyncIterator[None]:
    """Open a client when the application starts, and close it when it stops."""
    async with CodatCommerce.from_env() as codat:
        hooks.attach(codat)
        yield


def application() -> web.Application:
    """Return the application."""
    app = web.Application()
    app.cleanup_ctx.append(client)
    receiver = WebhookReceiver(WebhookVerifier(*os.environ["CODAT_WEBHOOK_SECRET"].split()), hooks)
    receiver.add_to(app, "/codat/webhooks")
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=8080)
