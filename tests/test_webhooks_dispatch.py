"""Which handlers an event goes to."""

import asyncio
import gc
import logging
import weakref
from typing import assert_type

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async.models.webhook_events import (
    CompanyEvent,
    CompanyProductEvent,
    ConnectionEvent,
    RateLimitEvent,
    ReadCompletedEvent,
    UnknownEvent,
    WebhookEvent,
    WriteEvent,
)
from codat_commerce_async.webhooks import Webhooks, parse_event
from tests.support.deliveries import COMPANY, body_of

TYPES = [
    "company.created",
    "connection.deleted",
    "read.completed",
    "read.completed.initial",
    "invoices.write.successful",
    "client.rateLimit.reset",
    "tea.brewed",
]


async def called_for(*kinds: str | type[WebhookEvent[object]]) -> list[str]:
    """The types, of all, whose events come to a handler that is subscribed so."""
    hooks, seen = Webhooks(), list[str]()

    async def handler(event: WebhookEvent[object]) -> None:
        seen.append(event.event_type)

    for kind in kinds:
        hooks.on(kind)(handler)
    for event_type in TYPES:
        assert await hooks.dispatch(parse_event(body_of(event_type)))
    return seen


async def test_a_type_has_its_own_events_only() -> None:
    assert await called_for("read.completed") == ["read.completed"]
    assert await called_for("invoices.write.successful", "tea.brewed") == ["invoices.write.successful", "tea.brewed"]
    assert await called_for("read", "read.*", "*", "") == []


async def test_a_class_has_the_events_of_all_its_types() -> None:
    assert await called_for(ReadCompletedEvent) == ["read.completed", "read.completed.initial"]
    assert await called_for(WriteEvent) == ["invoices.write.successful"]
    assert await called_for(UnknownEvent) == ["tea.brewed"]
    assert await called_for(WebhookEvent) == TYPES


async def test_an_event_without_a_handler_is_accepted() -> None:
    assert await Webhooks().dispatch(parse_event(body_of("tea.brewed")))


async def test_a_strange_payload_does_not_reach_a_handler_of_the_known_type() -> None:
    hooks, seen = Webhooks(), list[str]()

    @hooks.on("read.completed")
    async def typed(event: ReadCompletedEvent) -> None:
        seen.append(f"typed {event.payload.data_types}")

    @hooks.on(UnknownEvent)
    async def general(event: UnknownEvent) -> None:
        seen.append(f"unknown {event.event_type}")

    assert await hooks.dispatch(parse_event(body_of("read.completed", {"dataTypes": 7})))
    assert seen == ["unknown read.completed"]


async def test_handlers_are_called_in_order_and_one_that_raises_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hooks, seen = Webhooks(), list[str]()

    @hooks.on("tea.brewed")
    async def first(_event: WebhookEvent[object]) -> None:
        seen.append("first")
        raise RuntimeError("spilled")

    @hooks.on(WebhookEvent)
    async def second(_event: WebhookEvent[object]) -> None:
        seen.append("second")

    with caplog.at_level(logging.ERROR, "codat_commerce_async"):
        assert not await hooks.dispatch(parse_event(body_of("tea.brewed")))
    assert seen == ["first", "second"]
    assert "tea.brewed" in caplog.text
    assert "RuntimeError: spilled" in caplog.text
    assert [vars(record)["company_id"] for record in caplog.records] == [COMPANY]
    assert await hooks.dispatch(parse_event(body_of("company.created")))


async def test_a_subscribed_function_stays_what_it_was() -> None:
    hooks = Webhooks()

    async def handler(event: CompanyEvent) -> None: ...

    assert hooks.on("company.created")(handler) is handler


async def test_handlers_are_typed_by_what_they_subscribe_to() -> None:
    hooks = Webhooks()

    @hooks.on("company.deleted")
    async def company(event: CompanyEvent) -> None:
        assert_type(event.payload.id, str)

    @hooks.on("company.product.added")
    async def product(event: CompanyProductEvent) -> None: ...

    @hooks.on("connection.failed")
    async def connection(event: ConnectionEvent) -> None: ...

    @hooks.on("client.rateLimit.reached")
    async def limit(event: RateLimitEvent) -> None: ...

    @hooks.on(WriteEvent)
    async def write(event: WriteEvent) -> None: ...

    @hooks.on("read.completed")  # type: ignore[arg-type]
    async def wrong(event: WriteEvent) -> None: ...


def test_a_client_of_another_loop_is_passed_over_and_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    codat, hooks = CodatCommerce("a key"), Webhooks()
    hooks.attach(codat)
    event = parse_event(body_of("client.rateLimit.reset"))
    with caplog.at_level(logging.ERROR, "codat_commerce_async"):
        assert asyncio.run(hooks.dispatch(event))
        assert caplog.text == ""
        assert asyncio.run(hooks.dispatch(event))
    assert "WrongEventLoopError" in caplog.text


def test_a_handler_that_cannot_be_awaited_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="async def"):
        Webhooks().on("read.completed")(print)  # type: ignore[arg-type]  # that is what is tested


async def test_an_attached_client_is_not_kept_alive() -> None:
    hooks, codat = Webhooks(), CodatCommerce("a key")
    hooks.attach(codat)
    alive = weakref.ref(codat)
    del codat
    gc.collect()
    assert alive() is None
    assert await hooks.dispatch(parse_event(body_of("company.created")))


async def test_a_closed_client_is_dropped() -> None:
    hooks, codat = Webhooks(), CodatCommerce("a key")
    references = weakref.getweakrefcount(codat)
    hooks.attach(codat)
    await codat.aclose()
    assert await hooks.dispatch(parse_event(body_of("client.rateLimit.reset")))
    assert weakref.getweakrefcount(codat) <= references
