"""Receive deliveries with aiohttp.web and respond within the time that Codat allows."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from codat_commerce_async._core.log import logger_of
from codat_commerce_async._core.validation import check_number, check_seconds, require
from codat_commerce_async.errors import WebhookVerificationError
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks._deliveries import DeliveryProcessor, DeliveryStatus
from codat_commerce_async.webhooks._dispatch import Webhooks
from codat_commerce_async.webhooks._events import parse_event
from codat_commerce_async.webhooks._verification import WebhookVerifier

__all__ = ["WebhookReceiver"]

_logger = logger_of("webhooks")

# Seconds: https://docs.codat.io/using-the-api/webhooks/overview
_CODAT_TIMEOUT = 15.0


class WebhookReceiver:
    """Receives Codat's deliveries in an aiohttp.web application.

    Codat delivers an event again, for up to 28 hours, unless the response is 2xx. The response is

    - 204 once the handlers have succeeded, for this delivery or an earlier one of the same event;
    - 500 if one of them failed: all of them are called again for the next delivery;
    - 202 if they are still running after `respond_within` seconds. They continue, and shutting down waits for them, but
      Codat does not deliver the event again: if they fail later, the failure is logged and the event stays in
      `unhandled`. With `acknowledge_unfinished=False` the response is 503 instead, so that a failure or a crash loses
      no event, at the price of more deliveries;
    - 503 if `capacity` events are in progress, or while shutting down;
    - 401 if the signature is not valid, 400 if the request breaks off, 413 if the body is larger than the application's
      `client_max_size`. A delivery with a valid signature is never refused for its content: see `parse_event`.

    A handler may be called twice for one event, and events may arrive in any order. On shutdown new events are refused,
    and those in progress have `drain_timeout` seconds to finish. Then their handlers are cancelled, deliveries that
    still wait get 503, and the events that got 202 before are in `unhandled`, for you to store, and in the log.
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
        dedup_size: int = 20_000,
    ) -> None:
        check_number("respond_within", respond_within)
        in_time = 0 < respond_within < _CODAT_TIMEOUT
        expected = f"more than 0 and less than the {_CODAT_TIMEOUT:g} seconds that Codat waits"
        require(in_time, "respond_within", expected, respond_within)
        check_seconds("drain_timeout", drain_timeout)
        self._verifier = verifier
        self._processor = DeliveryProcessor(hooks, capacity=capacity, dedup_size=dedup_size)
        self._respond_within = respond_within
        self._acknowledge_unfinished = acknowledge_unfinished
        self._drain_timeout = drain_timeout

    @property
    def unhandled(self) -> Mapping[str, WebhookEvent[object]]:
        """Return the events that got a 202 and are not handled, by `webhook-id`.

        These are in progress, or failed after the 202.
        """
        return self._processor.unhandled

    def add_to(self, app: web.Application, path: str) -> None:
        """Receive deliveries at a path of an application, and drain when it shuts down."""
        app.router.add_post(path, self.handle)
        app.on_shutdown.append(self.drain)

    async def drain(self, _app: web.Application | None = None) -> None:
        """Refuse new events and wait for those in progress; add it to `on_shutdown` if you do not use `add_to`."""
        await self._processor.drain(self._drain_timeout)

    async def handle(self, request: web.Request) -> web.Response:
        """Respond to one delivery; a handler for a route."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self._respond_within
        try:
            async with asyncio.timeout_at(deadline):
                body = await request.read()
            webhook_id = self._verifier.verify(request.headers, body)
        except TimeoutError:
            return web.Response(status=HTTPStatus.REQUEST_TIMEOUT)
        except web.RequestPayloadError:
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        except WebhookVerificationError as error:
            _logger.warning("a delivery was refused: %s", error)
            return web.Response(status=HTTPStatus.UNAUTHORIZED)
        status = await self._processor.process(
            webhook_id, parse_event(body), within=deadline - clock.time(), acknowledge=self._acknowledge_unfinished
        )
        return web.Response(status=self._http_status(status))

    def _http_status(self, status: DeliveryStatus) -> HTTPStatus:
        match status:
            case DeliveryStatus.HANDLED:
                return HTTPStatus.NO_CONTENT
            case DeliveryStatus.IN_PROGRESS if self._acknowledge_unfinished:
                return HTTPStatus.ACCEPTED
            case DeliveryStatus.FAILED:
                return HTTPStatus.INTERNAL_SERVER_ERROR
            case _:
                return HTTPStatus.SERVICE_UNAVAILABLE
