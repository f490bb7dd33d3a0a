"""Pass an event to its handlers and to the attached clients."""

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias, TypeVar, overload
from weakref import ref

from codat_commerce_async._core.callbacks import is_coroutine_function
from codat_commerce_async._core.log import logger_of
from codat_commerce_async.client import CodatCommerce
from codat_commerce_async.errors import WrongEventLoopError
from codat_commerce_async.models.webhook_events import (
    CompanyEvent,
    CompanyProductEvent,
    ConnectionEvent,
    RateLimitEvent,
    ReadCompletedEvent,
    WebhookEvent,
    event_class,
)
from codat_commerce_async.webhooks._events import company_id_of, description_of, log_fields, rate_limit_from_event

__all__ = ["Webhooks"]

_logger = logger_of("webhooks")

E = TypeVar("E", bound=WebhookEvent[object])
Handler: TypeAlias = Callable[[E], Awaitable[object]]
Subscribe: TypeAlias = Callable[[Handler[E]], Handler[E]]

_Company = Literal["company.created", "company.deleted"]
_Product = Literal["company.product.added", "company.product.removed"]
_Connection = Literal[
    "connection.created",
    "connection.connected",
    "connection.failed",
    "connection.disconnected",
    "connection.reconnected",
    "connection.deleted",
]
_Read = Literal["read.completed", "read.completed.initial"]
_RateLimit = Literal["client.rateLimit.reached", "client.rateLimit.reset"]


class Webhooks:
    """Your handlers of Codat's events. An event without a handler is ignored."""

    def __init__(self) -> None:
        self._handlers: list[tuple[str | type[WebhookEvent[object]], Handler[WebhookEvent[object]]]] = []
        self._clients: list[ref[CodatCommerce]] = []

    @overload
    def on(self, kind: _Company) -> Subscribe[CompanyEvent]: ...
    @overload
    def on(self, kind: _Product) -> Subscribe[CompanyProductEvent]: ...
    @overload
    def on(self, kind: _Connection) -> Subscribe[ConnectionEvent]: ...
    @overload
    def on(self, kind: _Read) -> Subscribe[ReadCompletedEvent]: ...
    @overload
    def on(self, kind: _RateLimit) -> Subscribe[RateLimitEvent]: ...
    @overload
    def on(self, kind: str) -> Callable[[Handler[WebhookEvent[object]]], Callable[..., Awaitable[object]]]: ...
    @overload
    def on(self, kind: type[E]) -> Subscribe[E]: ...

    def on(self, kind: str | type[E]) -> Callable[..., object]:
        """Return a decorator that subscribes a coroutine function to the events of a type, or of a class.

        The type is Codat's name, such as `read.completed` or `invoices.write.successful`. A class stands for all of its
        types: `WriteEvent` for every write, `WebhookEvent` for every event. An event of a known type whose payload does
        not fit its model is an `UnknownEvent`, and is passed only to handlers of that class or of all events.

        Args:
            kind: The name of the event, or the class of its events.

        Example:
            ```python
            hooks = Webhooks()

            @hooks.on("connection.disconnected")
            async def notify(event: ConnectionEvent) -> None:
                print(event.payload.reference_company)
            ```
        """

        def subscribe(handler: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
            if not is_coroutine_function(handler):
                raise TypeError(f"handler must be a coroutine function (`async def`) (got {handler!r:.100})")
            self._handlers.append((kind, handler))
            return handler

        return subscribe

    def attach(self, client: CodatCommerce) -> None:
        """Pass every event to a client of the same event loop, before any handler runs.

        An event about a company makes the client poll the running syncs of that company; the daily quota that an event
        reports updates the client's. The client is referenced weakly, and dropped once it is closed.

        Args:
            client: The client.
        """
        if client not in self._attached():
            self._clients.append(ref(client))

    def detach(self, client: CodatCommerce) -> None:
        """Stop notifying a client; do nothing if it is not attached.

        Args:
            client: The client.
        """
        self._clients = [ref(other) for other in self._attached() if other is not client]

    def _attached(self) -> list[CodatCommerce]:
        open_clients = [client for one in self._clients if (client := one()) is not None and not client.closed]
        self._clients = [ref(client) for client in open_clients]
        return open_clients

    async def dispatch(self, event: WebhookEvent[object]) -> bool:
        """Call the handlers of an event, one after the other, and return True if all of them succeeded.

        An exception of a handler is logged; the next handler is called all the same.

        Args:
            event: The event.
        """
        for client in self._attached():
            _notify(client, event)
        results = [await _run_handler(handler, event) for kind, handler in self._handlers if _is_of(event, kind)]
        return all(results)


def _is_of(event: WebhookEvent[object], kind: str | type[WebhookEvent[object]]) -> bool:
    if isinstance(kind, str):
        return event.event_type == kind and isinstance(event, event_class(kind))
    return isinstance(event, kind)


async def _run_handler(handler: Handler[WebhookEvent[object]], event: WebhookEvent[object]) -> bool:
    try:
        await handler(event)
    except Exception:
        _logger.exception("a handler of %s (event %s) failed", description_of(event), event.id, extra=log_fields(event))
        return False
    return True


def _notify(client: CodatCommerce, event: WebhookEvent[object]) -> None:
    company_id = company_id_of(event)
    if company_id is not None:
        client.sync.poll_now(company_id)
    if isinstance(event, RateLimitEvent) and (limit := rate_limit_from_event(event)):
        try:
            client.update_rate_limit(limit)
        except WrongEventLoopError:
            _logger.exception("a client could not be notified of %s", description_of(event), extra=log_fields(event))
