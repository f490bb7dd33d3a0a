"""Respond to deliveries within the time that Codat allows, whatever the web framework."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.validation import check_number, check_seconds, require
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.errors import WebhookVerificationError
from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks._deliveries import DeliveryProcessor, DeliveryStatus, DeliveryStore
from codat_commerce_async.webhooks._dispatch import Webhooks
from codat_commerce_async.webhooks._events import parse_event
from codat_commerce_async.webhooks._verification import WebhookVerifier

__all__ = ["DeliveryResponder"]

_logger = logger_of("webhooks")

# Seconds: https://docs.codat.io/using-the-api/webhooks/overview
_CODAT_TIMEOUT = 15.0


class DeliveryResponder:
    """What the receivers of all web frameworks share: it verifies a delivery, has it handled, and finds the status.

    `WebhookReceiver` documents the settings and the responses.
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
        deduplicate: DeliveryStore | None = None,
    ) -> None:
        check_number("respond_within", respond_within)
        in_time = 0 < respond_within < _CODAT_TIMEOUT
        expected = f"more than 0 and less than the {_CODAT_TIMEOUT:g} seconds that Codat waits"
        require(in_time, "respond_within", expected, respond_within)
        check_seconds("drain_timeout", drain_timeout)
        self._verifier = verifier
        self._hooks = hooks
        self._processor = DeliveryProcessor(hooks, capacity=capacity, dedup_size=dedup_size, deduplicate=deduplicate)
        self._respond_within = respond_within
        self._acknowledge_unfinished = acknowledge_unfinished
        self._drain_timeout = drain_timeout

    @property
    def unhandled(self) -> Mapping[str, WebhookEvent[object]]:
        """The events that got a 202 and are not handled, by `webhook-id`.

        These are in progress, or failed after the 202.
        """
        return self._processor.unhandled

    def attach(self, client: CodatCommerce) -> None:
        """Pass every event to a client: see `Webhooks.attach`."""
        self._hooks.attach(client)

    async def _respond(self, headers: Iterable[tuple[str, str]], read: Callable[[], Awaitable[bytes]]) -> HTTPStatus:
        """Return the status of the response to a delivery, whose body is still to be read."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self._respond_within
        try:
            async with asyncio.timeout_at(deadline):
                body = await read()
            webhook_id = self._verifier.verify(headers, body)
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT
        except WebhookVerificationError as error:
            _logger.warning("a delivery was refused: %s", error, extra=extra_fields(error=error))
            return HTTPStatus.UNAUTHORIZED
        status = await self._processor.process(
            webhook_id, parse_event(body), within=deadline - clock.time(), acknowledge=self._acknowledge_unfinished
        )
        return self._http_status(status)

    async def _open(self) -> None:
        await self._processor.check_store()
        self._processor.open()

    async def _drain(self) -> None:
        await self._processor.drain(self._drain_timeout)

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
