"""Codat's webhooks: verify them, parse them, and call your handlers.

    hooks = Webhooks()

    @hooks.on("read.completed")
    async def refresh(event: ReadCompletedEvent) -> None: ...

    receiver = WebhookReceiver(WebhookVerifier(secret), hooks)
    receiver.add_to(app, "/codat/webhooks")

`WebhookReceiver` is for aiohttp.web, `WebhookEndpoint` for ASGI frameworks such as FastAPI and Starlette.
No extra is needed. With several processes, pass a delivery store of `codat_commerce_async.distributed`.
"""

from codat_commerce_async.webhooks._deliveries import DeliveryProcessor, DeliveryStatus, DeliveryStore
from codat_commerce_async.webhooks._dispatch import Webhooks
from codat_commerce_async.webhooks._endpoint import WebhookEndpoint
from codat_commerce_async.webhooks._events import company_id_of, parse_event
from codat_commerce_async.webhooks._receiver import WebhookReceiver
from codat_commerce_async.webhooks._verification import WebhookVerifier

__all__ = [
    "DeliveryProcessor",
    "DeliveryStatus",
    "DeliveryStore",
    "WebhookEndpoint",
    "WebhookReceiver",
    "WebhookVerifier",
    "Webhooks",
    "company_id_of",
    "parse_event",
]
