"""Receive deliveries with aiohttp.web."""

from http import HTTPStatus

from aiohttp import web

from codat_commerce_async.webhooks._responder import DeliveryResponder

__all__ = ["WebhookReceiver"]


class WebhookReceiver(DeliveryResponder):
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

    With several processes, pass a common store as `deduplicate`, such as `distributed.FileDeliveryStore`: an event is
    then handled by one of them. A delivery that another process is handling gets 503. While the store is unavailable,
    deliveries get 500 and are not handled, so that Codat delivers them again. Draining closes the store.
    """

    def add_to(self, app: web.Application, path: str) -> None:
        """Receive deliveries at a path of an application, open when it starts, and drain when it shuts down.

        Args:
            app: The application.
            path: The path of the route.
        """
        app.router.add_post(path, self.handle)
        app.on_startup.append(self.open)
        app.on_shutdown.append(self.drain)

    async def open(self, _app: web.Application | None = None) -> None:
        """Accept new events again after `drain`; add it to `on_startup` if you do not use `add_to`.

        Raises:
            DeliveryStoreError: The store of `deduplicate` cannot work, such as a file in a missing folder.
        """
        await self._open()

    async def drain(self, _app: web.Application | None = None) -> None:
        """Refuse new events and wait for those in progress; add it to `on_shutdown` if you do not use `add_to`."""
        await self._drain()

    async def handle(self, request: web.Request) -> web.Response:
        """Respond to one delivery; a handler for a route.

        Args:
            request: The delivery.
        """
        try:
            status = await self._respond(request.headers.items(), request.read)
        except web.RequestPayloadError:
            status = HTTPStatus.BAD_REQUEST
        return web.Response(status=status)
