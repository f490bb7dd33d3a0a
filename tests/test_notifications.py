"""Notifications wake the waiters of a company at once, and no others."""

import asyncio

import pytest

from codat_commerce_async.syncing._notifications import Notifier

pytestmark = pytest.mark.virtual_time


async def sleepers(notifier: Notifier, *company_ids: str) -> list[asyncio.Task[float]]:
    async def sleep(company_id: str) -> float:
        with notifier.subscribed(company_id) as subscription:
            await subscription.sleep(30.0)
        return asyncio.get_running_loop().time()

    tasks = [asyncio.create_task(sleep(company_id)) for company_id in company_ids]
    await asyncio.sleep(1.0)
    return tasks


async def test_a_notification_wakes_all_waiters_of_the_company_and_no_others() -> None:
    notifier = Notifier()
    tasks = await sleepers(notifier, "a", "a", "b")
    assert notifier.notify("a") == 2
    assert await asyncio.gather(*tasks) == [1.0, 1.0, 30.0]


async def test_a_notification_without_waiters_wakes_none() -> None:
    notifier = Notifier()
    assert notifier.notify("a") == 0
    assert await asyncio.gather(*await sleepers(notifier, "a")) == [30.0]


async def test_two_notifications_at_once_wake_once() -> None:
    notifier = Notifier()
    tasks = await sleepers(notifier, "a")
    assert (notifier.notify("a"), notifier.notify("a")) == (1, 0)
    assert await asyncio.gather(*tasks) == [1.0]


async def test_a_sleeper_that_has_ended_or_was_cancelled_is_not_notified() -> None:
    notifier = Notifier()
    cancelled, finished = await sleepers(notifier, "a", "a")
    cancelled.cancel()
    await finished
    assert notifier.notify("a") == 0


async def test_a_sleep_that_a_notification_has_ended_leaves_no_timer() -> None:
    notifier = Notifier()
    tasks = await sleepers(notifier, "a")
    notifier.notify("a")
    await asyncio.gather(*tasks)
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio's
    assert [timer for timer in scheduled if not timer.cancelled()] == []


async def test_a_notification_at_the_very_end_of_the_sleep_does_no_harm() -> None:
    notifier = Notifier()
    with notifier.subscribed("a") as subscription:
        task = asyncio.create_task(subscription.sleep(5.0))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(5.0, notifier.notify, "a")
        await task
    assert asyncio.get_running_loop().time() == 5.0


async def test_a_notification_before_the_sleep_is_not_lost() -> None:
    notifier = Notifier()
    with notifier.subscribed("a") as subscription:
        assert (notifier.notify("a"), notifier.notify("a")) == (1, 0)
        await subscription.sleep(30.0)
        assert asyncio.get_running_loop().time() == 0.0
        assert (subscription.take(), subscription.take()) == (True, False)
        await subscription.sleep(30.0)
    assert asyncio.get_running_loop().time() == 30.0


async def test_a_subscriber_that_comes_while_another_leaves_is_notified() -> None:
    notifier = Notifier()
    with notifier.subscribed("a"):
        pass
    with notifier.subscribed("a") as later:
        with notifier.subscribed("a"):
            pass
        assert notifier.notify("a") == 1
        assert later.take()
