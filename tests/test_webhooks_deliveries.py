"""Each event is handled once, and no acknowledged event is lost."""

import asyncio
import logging
from contextlib import suppress
from typing import Literal

import pytest

from codat_commerce_async.models.webhook_events import WebhookEvent
from codat_commerce_async.webhooks import DeliveryProcessor, DeliveryStatus, Webhooks, parse_event
from tests.support.deliveries import COMPANY, body_of

pytestmark = pytest.mark.virtual_time

EVENT = parse_event(body_of("tea.brewed"))
BREWED = f"tea.brewed of company {COMPANY}"
SOON = 10.0


class Work:
    """A handler that waits until it may end, or raises an error; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.ended = 0
        self.released = asyncio.Event()
        self.error: BaseException | None = None
        self.hooks = Webhooks()
        self.hooks.on(WebhookEvent)(self.handle)

    async def handle(self, _event: WebhookEvent[object]) -> None:
        self.calls += 1
        await self.released.wait()
        if self.error is not None:
            raise self.error
        self.ended += 1

    def be_quick(self) -> None:
        self.released.set()

    def fail(self, error: BaseException | None) -> None:
        self.error = error
        self.released.set()


async def test_a_handled_event_is_not_handled_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "codat_commerce_async.webhooks")
    work = Work()
    work.be_quick()
    processor = DeliveryProcessor(work.hooks)
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert await processor.process("b", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert work.calls == 2
    assert processor.unhandled == {}
    assert caplog.messages == [f"webhook a ({BREWED}) was handled before: no handler is called"]


async def test_a_second_delivery_shares_the_result_of_the_first() -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks)
    both = [asyncio.create_task(processor.process("a", EVENT, within=SOON)) for _ in range(2)]
    await asyncio.sleep(1)
    work.be_quick()
    assert [await one for one in both] == [DeliveryStatus.HANDLED, DeliveryStatus.HANDLED]
    assert work.calls == 1


async def test_a_failed_event_is_handled_again_at_its_next_delivery() -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks)
    work.fail(RuntimeError())
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.FAILED
    work.fail(None)
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert work.calls == 2


async def test_a_handler_that_is_cancelled_from_inside_has_not_handled_its_event() -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks)
    work.fail(asyncio.CancelledError())
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.REFUSED
    work.fail(None)
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.HANDLED


async def test_slow_handlers_continue_after_the_response() -> None:
    work, clock = Work(), asyncio.get_running_loop()
    processor, began = DeliveryProcessor(work.hooks), asyncio.get_running_loop().time()
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.IN_PROGRESS
    assert clock.time() - began == SOON
    assert dict(processor.unhandled) == {"a": EVENT}
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.IN_PROGRESS
    work.be_quick()
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert (work.calls, work.ended, processor.unhandled) == (1, 1, {})


async def test_an_event_that_is_not_acknowledged_is_not_unhandled() -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks)
    assert await processor.process("a", EVENT, within=SOON, acknowledge=False) is DeliveryStatus.IN_PROGRESS
    assert processor.unhandled == {}


@pytest.mark.parametrize("error", [RuntimeError("spilled"), asyncio.CancelledError()])
async def test_an_event_whose_handler_fails_after_it_was_acknowledged_stays_unhandled(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks)
    await processor.process("msg-1", EVENT, within=SOON)
    with caplog.at_level(logging.ERROR, "codat_commerce_async"):
        work.fail(error)
        await asyncio.sleep(1)
    assert f"webhook msg-1 ({BREWED}) failed after it was acknowledged" in caplog.text
    assert {vars(record)["company_id"] for record in caplog.records} == {COMPANY}
    assert processor.unhandled == {"msg-1": EVENT}
    await processor.drain(30)
    assert processor.unhandled == {"msg-1": EVENT}


async def test_an_unhandled_event_is_handled_by_processing_it_again() -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks)
    await processor.process("msg-1", EVENT, within=SOON)
    work.fail(RuntimeError("spilled"))
    await asyncio.sleep(1)
    assert await processor.process("msg-1", EVENT, within=SOON) is DeliveryStatus.FAILED
    assert processor.unhandled == {"msg-1": EVENT}
    work.fail(None)
    assert await processor.process("msg-1", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert processor.unhandled == {}


async def test_only_so_many_failures_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks, dedup_size=2)
    for webhook_id in "abc":
        await processor.process(webhook_id, EVENT, within=0)
    assert len(processor.unhandled) == 3
    with caplog.at_level(logging.ERROR, "codat_commerce_async"):
        work.fail(RuntimeError("spilled"))
        await asyncio.sleep(1)
    assert list(processor.unhandled) == ["b", "c"]
    assert f"webhook a ({BREWED}) is dropped" in caplog.text


async def test_a_delivery_that_hangs_up_does_not_stop_the_work() -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks)
    delivery = asyncio.create_task(processor.process("a", EVENT, within=SOON))
    await asyncio.sleep(1)
    delivery.cancel()
    await asyncio.wait([delivery])
    work.be_quick()
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert (work.calls, work.ended) == (1, 1)


async def test_a_full_processor_refuses_new_events_only() -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks, capacity=2)
    for webhook_id in ("a", "b"):
        assert await processor.process(webhook_id, EVENT, within=0) is DeliveryStatus.IN_PROGRESS
    assert await processor.process("c", EVENT, within=SOON) is DeliveryStatus.REFUSED
    assert await processor.process("a", EVENT, within=0) is DeliveryStatus.IN_PROGRESS
    work.be_quick()
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert await processor.process("c", EVENT, within=SOON) is DeliveryStatus.HANDLED


async def test_only_so_many_ids_are_remembered() -> None:
    work = Work()
    work.be_quick()
    processor = DeliveryProcessor(work.hooks, dedup_size=3)
    for webhook_id in "abcd":
        await processor.process(webhook_id, EVENT, within=SOON)
    for webhook_id in "bcd":
        await processor.process(webhook_id, EVENT, within=SOON)
    assert work.calls == 4
    await processor.process("a", EVENT, within=SOON)
    assert work.calls == 5


async def test_draining_waits_for_what_is_in_work_and_refuses_what_is_new() -> None:
    work, clock = Work(), asyncio.get_running_loop()
    processor = DeliveryProcessor(work.hooks)
    await processor.process("accepted", EVENT, within=0)
    waiting = asyncio.create_task(processor.process("waiting", EVENT, within=SOON))
    await asyncio.sleep(0)
    draining = asyncio.create_task(processor.drain(30))
    await asyncio.sleep(5)
    assert not draining.done()
    assert await processor.process("new", EVENT, within=SOON) is DeliveryStatus.REFUSED
    again = asyncio.create_task(processor.process("accepted", EVENT, within=SOON))
    await asyncio.sleep(0)
    work.be_quick()
    await draining
    assert clock.time() < 6
    assert (await waiting, await again) == (DeliveryStatus.HANDLED, DeliveryStatus.HANDLED)
    assert (work.ended, processor.unhandled) == (2, {})


async def test_draining_gives_up_in_time_and_reports_what_was_accepted(caplog: pytest.LogCaptureFixture) -> None:
    work, clock = Work(), asyncio.get_running_loop()
    processor = DeliveryProcessor(work.hooks)
    await processor.process("msg-accepted", EVENT, within=0)
    waiting = asyncio.create_task(processor.process("msg-waiting", EVENT, within=60))
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR, "codat_commerce_async"):
        await processor.drain(30)
    assert clock.time() == pytest.approx(30)
    assert await waiting is DeliveryStatus.REFUSED
    assert dict(processor.unhandled) == {"msg-accepted": EVENT}
    assert [record.getMessage() for record in caplog.records] == [
        f"webhook msg-accepted ({BREWED}) was acknowledged but is not handled"
    ]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_handler_that_will_not_be_cancelled_does_not_hold_up_the_end() -> None:
    hooks, clock, free = Webhooks(), asyncio.get_running_loop(), asyncio.Event()

    @hooks.on(WebhookEvent)
    async def ignores_cancellation(_event: WebhookEvent[object]) -> None:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue

    processor = DeliveryProcessor(hooks)
    waiting = asyncio.create_task(processor.process("a", EVENT, within=34))
    await asyncio.sleep(0)
    await processor.drain(30)
    assert clock.time() == pytest.approx(31)
    assert await waiting is DeliveryStatus.REFUSED
    free.set()


async def test_draining_an_idle_processor_is_over_at_once_and_may_be_repeated() -> None:
    processor, clock = DeliveryProcessor(Webhooks()), asyncio.get_running_loop()
    await processor.drain(30)
    await processor.drain(30)
    assert clock.time() == 0
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.REFUSED


async def test_a_drained_processor_logs_what_it_refuses_and_handles_it_after_it_was_opened_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work()
    work.be_quick()
    processor = DeliveryProcessor(work.hooks)
    assert await processor.process("before", EVENT, within=SOON) is DeliveryStatus.HANDLED
    await processor.drain(30)
    assert await processor.process("between", EVENT, within=SOON) is DeliveryStatus.REFUSED
    (refused,) = caplog.records
    assert refused.levelname == "WARNING"
    assert refused.getMessage() == (
        f"webhook between ({BREWED}) was refused because its endpoint is drained; Codat delivers it again. "
        "To accept it then, in the same process, call the endpoint's `open`"
    )
    processor.open()
    for webhook_id in ("before", "between"):
        assert await processor.process(webhook_id, EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert work.calls == 2


async def test_an_event_that_outlived_a_drain_is_handled_once_when_it_is_opened_again() -> None:
    work = Work()
    processor = DeliveryProcessor(work.hooks)
    await processor.process("a", EVENT, within=0)
    await processor.drain(0)
    assert set(processor.unhandled) == {"a"}
    processor.open()
    work.be_quick()
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.HANDLED
    assert (work.ended, processor.unhandled) == (1, {})


async def test_a_burst_is_handled_whole_and_once_each() -> None:
    hooks, seen = Webhooks(), list[str]()

    @hooks.on(WebhookEvent)
    async def slow(event: WebhookEvent[object]) -> None:
        await asyncio.sleep(20)
        seen.append(str(event.payload))

    processor = DeliveryProcessor(hooks)
    events = {f"msg-{number}": parse_event(body_of("tea.brewed", number)) for number in range(500)}
    statuses = await asyncio.gather(
        *(processor.process(each, events[each], within=SOON) for each in [*events, *events])
    )
    assert set(statuses) == {DeliveryStatus.IN_PROGRESS}
    await processor.drain(30)
    assert sorted(map(int, seen)) == list(range(500))
    assert processor.unhandled == {}


@pytest.mark.parametrize("bound", ["capacity", "dedup_size"])
async def test_bounds_are_at_least_one(bound: str) -> None:
    with pytest.raises(ValueError, match=bound):
        DeliveryProcessor(Webhooks(), **{bound: 0})  # type: ignore[arg-type]


class SlowStore:
    """A store of several processes whose server does not respond until `released` is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.released = asyncio.Event()
        self.error = error
        self.finished = dict[str, bool]()
        self.is_closed = False

    async def claim(self, webhook_id: str) -> Literal["claimed", "in_progress", "handled"]:
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return "claimed"

    async def finish(self, webhook_id: str, *, handled: bool) -> None:
        self.finished[webhook_id] = handled

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("error", [None, OSError("no route")])
async def test_an_event_that_is_not_claimed_in_time_is_not_acknowledged(error: Exception | None) -> None:
    work, store = Work(), SlowStore(error)
    work.be_quick()
    processor = DeliveryProcessor(work.hooks, deduplicate=store)
    assert await processor.process("a", EVENT, within=SOON) is DeliveryStatus.REFUSED
    assert processor.unhandled == {}
    store.released.set()
    expected = DeliveryStatus.HANDLED if error is None else DeliveryStatus.FAILED
    assert await processor.process("a", EVENT, within=SOON) is expected
    assert work.calls == (error is None)


async def test_an_event_that_is_claimed_during_the_shutdown_is_left_to_others() -> None:
    work, store = Work(), SlowStore()
    processor = DeliveryProcessor(work.hooks, deduplicate=store)

    async def swallow_cancellation(webhook_id: str) -> Literal["claimed"]:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return "claimed"

    store.claim = swallow_cancellation  # type: ignore[method-assign]
    receiving = asyncio.create_task(processor.process("a", EVENT, within=SOON))
    await asyncio.sleep(1)
    await processor.drain(0)
    assert await receiving is DeliveryStatus.REFUSED
    assert (work.calls, store.finished, store.is_closed) == (0, {"a": False}, True)
