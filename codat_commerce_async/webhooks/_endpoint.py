"""Receive deliveries as an ASGI application, in Starlette, FastAPI, Litestar, Quart and others."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from codat_commerce_async._core.validation import check_int
from codat_commerce_async.webhooks._deliveries import DeliveryStore
from codat_commerce_async.webhooks._dispatch import Webhooks
from codat_commerce_async.webhooks._responder import DeliveryResponder
from codat_commerce_async.webhooks._verification import WebhookVerifier

__all__ = ["WebhookEndpoint"]

# https://asgi.readthedocs.io/en/latest/specs/www.html
_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]


class _BodyTooLargeError(Exception):
    pass


class _DisconnectedError(Exception):
    pass


class WebhookEndpoint(DeliveryResponder):
    """Receives Codat's deliveries as an ASGI application, to be put at a route for POST.

    The settings and the responses are those of `WebhookReceiver`, and 405 for other methods than POST; a body of more
    than `max_size` bytes gets 413. Call `open` at the start of the lifespan and `drain` at its end; the adapters in
    `contrib` do so. Do not mount it: a mount at `/hooks` responds to a POST with a redirect to `/hooks/`, which loses
    the delivery.

    Args:
        verifier: What verifies the signature.
        hooks: The handlers.
        respond_within: Seconds after which a delivery is acknowledged while its handlers are running.
        acknowledge_unfinished: Whether it is acknowledged then, with 202 instead of 503.
        drain_timeout: Seconds to wait for the events in progress on shutdown.
        capacity: How many events may be in progress at once.
        dedup_size: How many ids of handled events are kept.
        deduplicate: The store that several processes share.
        max_size: The largest body, in bytes.
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
        max_size: int = 1024**2,
    ) -> None:
        super().__init__(
            verifier,
            hooks,
            respond_within=respond_within,
            acknowledge_unfinished=acknowledge_unfinished,
            drain_timeout=drain_timeout,
            capacity=capacity,
            dedup_size=dedup_size,
            deduplicate=deduplicate,
        )
        self._max_size = check_int("max_size", max_size, at_least=1)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"a WebhookEndpoint must be at a route for POST requests (got {scope['type']})")
        try:
            status = await self._status(scope, receive)
        except _DisconnectedError:
            return
        headers = [(b"content-length", b"0")]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": status.value, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def open(self) -> None:
        """Accept new events again after `drain`; call it at the start of the lifespan.

        Raises:
            DeliveryStoreError: The store of `deduplicate` cannot work, such as a file in a missing folder.
        """
        await self._open()

    async def drain(self) -> None:
        """Refuse new events and wait for those in progress; call it at the end of the lifespan."""
        await self._drain()

    async def _status(self, scope: _Message, receive: _Receive) -> HTTPStatus:
        if scope["method"] != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        try:
            self._check_size(int(value) for name, value in headers if name == "content-length" and value.isdecimal())
            return await self._respond(headers, lambda: self._read(receive))
        except _BodyTooLargeError:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    async def _read(self, receive: _Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError
            body += message.get("body", b"")
            self._check_size((len(body),))
            if not message.get("more_body", False):
                return bytes(body)

    def _check_size(self, sizes: Iterable[int]) -> None:
        if any(size > self._max_size for size in sizes):
            raise _BodyTooLargeError
