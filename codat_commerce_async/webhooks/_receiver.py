"""The aiohttp.web side: a delivery in, an answer out, in the time that Codat allows."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from codat_commerce_async._core.log import logger_of
from codat_commerce_async._core.numbers import check_number, check_seconds
from codat_commerce_async.errors import WebhookVerificationError
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks._deliveries import DeliveryProcessor, DeliveryStatus
from codat_commerce_async.webhooks._dispatch import Webhooks
from codat_commerce_async.webhooks._events import parse_event
from codat_commerce_async.webhooks._verification import WebhookVerifier

__all__ = ["WebhookReceiver"]

_logger = logger_of("webhooks")

# https://docs.codat.io/using-the-api/webhooks/overview
_CODATS_PATIENCE = 15.0

_HANDLED, _ACCEPTED = 204, 202
_UNREADABLE, _NOT_GENUINE, _TOO_SLOW = 400, 401, 408
_FAILED, _NOT_NOW = 500, 503


class WebhookReceiver:
    """Receives Codat's deliveries in an aiohttp.web application.

    Codat delivers again, for up to 28 hours, what is not answered with 2xx. The answer is

    - 204 once the handlers have done their work, now or at an earlier delivery of the same event;
    - 500 when one of them failed: all of them are called again at the next delivery;
    - 202 when they are still at it after `respond_within` seconds. They go on, and shutting down waits for them, but
      Codat does not deliver the event again: if they fail after that, it is logged and stays in `unhandled`. With
      `acknowledge_unfinished=False` the answer is 503, so that a failure or a crash loses nothing, at the price of more
      deliveries;
    - 503 when `capacity` events are in work already, or while shutting down;
    - 401 for what is not genuine, 400 for a request that breaks off, 413 for a body beyond the application's
      `client_max_size`. A genuine delivery is never refused for its shape: see `parse_event`.

    Handlers should stand being called twice for one event, and expect no order. On shutdown nothing new is accepted,
    and what is in work has `drain_timeout` seconds to end; then handlers are cancelled, deliveries that wait are
    answered with 503, and what was answered with 202 before stands in `unhandled`, for you to keep, and in the log.
    """

    def __init__(
        self,
        verifier: WebhookVerifier,
        hooks: Webhooks,
        *,
        respond_within: float = 10.0,
        acknowledge_unfinished: bool = True,
        drain_timeout: float = 30.0,
        capacity: int = 1000,
        remembered: int = 20_000,
    ) -> None:
        check_number("respond_within", respond_within)
        if not 0 < respond_within < _CODATS_PATIENCE:
            raise ValueError("respond_within takes seconds, more than 0 and below the 15 that Codat waits")
        check_seconds("drain_timeout", drain_timeout)
        self._verifier = verifier
        self._inbox = DeliveryProcessor(hooks, capacity=capacity, remembered=remembered)
        self._answer_within = respond_within
        self._accept_unfinished = acknowledge_unfinished
        self._drain_within = drain_timeout

    @property
    def unhandled(self) -> Mapping[str, WebhookEvent[object]]:
        """Return the events that were answered with 202 and are not handled, by `webhook-id`.

        That is what is still in work, and what failed after the 202.
        """
        return self._inbox.unhandled

    def add_to(self, app: web.Application, path: str) -> None:
        """Receive deliveries at a path of an application, and drain when it shuts down."""
        app.router.add_post(path, self.handle)
        app.on_shutdown.append(self.drain)

    async def drain(self, _app: web.Application | None = None) -> None:
        """Refuse what is new and see through what was accepted; for `on_shutdown`, where `add_to` is not used."""
        await self._inbox.drain(self._drain_within)

    async def handle(self, request: web.Request) -> web.Response:
        """The answer to one delivery; a handler for a route."""
        clock = asyncio.get_running_loop()
        until = clock.time() + self._answer_within
        try:
            async with asyncio.timeout_at(until):
                body = await request.read()
            webhook_id = self._verifier.verify(request.headers, body)
        except TimeoutError:
            return web.Response(status=_TOO_SLOW)
        except web.RequestPayloadError:
            return web.Response(status=_UNREADABLE)
        except WebhookVerificationError as error:
            _logger.warning("a delivery was refused: %s", error)
            return web.Response(status=_NOT_GENUINE)
        event = parse_event(body)
        fate = await self._inbox.take(webhook_id, event, within=until - clock.time(), for_good=self._accept_unfinished)
        return web.Response(status=self._status(fate))

    def _status(self, fate: DeliveryStatus) -> int:
        match fate:
            case DeliveryStatus.HANDLED:
                return _HANDLED
            case DeliveryStatus.IN_WORK:
                return _ACCEPTED if self._accept_unfinished else _NOT_NOW
            case DeliveryStatus.FAILED:
                return _FAILED
            case DeliveryStatus.REFUSED:
                return _NOT_NOW
