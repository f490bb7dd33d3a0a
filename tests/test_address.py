"""One rate limiter for several clients, and the warning about clients that have one each."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from codat_commerce_async import CodatCommerce, LocalRateLimiter, Operation, Quota, QuotaExhaustedError, RateLimiter
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.policies import Timeouts
from codat_commerce_async.simulator import Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from tests.support.scripted import ScriptedTransport, client_of, respond

GET = Operation("a-read", "GET", "/companies/{companyId}/things", object)
HOST = "https://codat.example.com"
TOMORROW = datetime(2024, 1, 16, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_clients_of_other_tests() -> Iterator[None]:
    gc.collect()
    yield
    gc.collect()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "codat_commerce_async.quota" and record.levelno == logging.WARNING
    ]


@pytest.mark.virtual_time
async def test_clients_that_share_a_limiter_stay_within_one_quota_together() -> None:
    limiter, sent = LocalRateLimiter(Quota(per_minute=60)), []
    loop = asyncio.get_running_loop()

    class Recording(ScriptedTransport):
        async def send(self, request: Request, timeouts: Timeouts) -> Response:
            sent.append(loop.time())
            return await super().send(request, timeouts)

    clients = [
        CodatCommerce(f"key {number % 2}", transport=Recording([respond()]), rate_limiter=limiter)
        for number in range(3)
    ]
    await asyncio.gather(*(clients[number % 3].call(GET, "c") for number in range(180)))
    assert max(sum(first <= time < first + 60.0 for time in sent) for first in sent) == 60
    assert limiter.in_flight == 0


@pytest.mark.virtual_time
async def test_the_daily_quota_of_one_key_does_not_stop_a_client_with_another() -> None:
    limiter = LocalRateLimiter(Quota())
    spent = respond(429, None, {"X-Rate-Limit-Remaining": "0", "Retry-After": "7200"})
    one, other = (
        CodatCommerce(key, transport=ScriptedTransport([response]), rate_limiter=limiter)
        for key, response in (("one", spent), ("other", respond(200, 1)))
    )
    for _ in range(2):
        with pytest.raises(QuotaExhaustedError):
            await one.call(GET, "c")
    assert await other.call(GET, "c") == 1
    same = CodatCommerce("one", transport=ScriptedTransport([respond(200, 1)]), rate_limiter=limiter)
    with pytest.raises(QuotaExhaustedError):
        await same.call(GET, "c")


@pytest.mark.virtual_time
async def test_a_reset_that_one_key_waits_for_does_not_delay_another() -> None:
    first = LocalRateLimiter(Quota(per_minute=60, wait_for_reset=True))
    assert first.for_account("one") is first
    second = first.for_account("two")
    assert first.mark_exhausted(7200.0, TOMORROW)
    waiting = [asyncio.create_task(first.acquire(None)) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(100):
        await second.acquire("c")
        second.release("c")
    assert asyncio.get_running_loop().time() < 120.0
    await asyncio.gather(*waiting)
    assert asyncio.get_running_loop().time() >= 7200.0
    assert (first.in_flight, first.waiting) == (3, 0)


def test_a_local_limiter_is_a_limiter() -> None:
    limiter: RateLimiter = LocalRateLimiter()
    assert limiter.min_interval == 60.0 / 900


@pytest.mark.parametrize("address", [HOST, f"{HOST}/", f"{HOST.upper().replace('HTTPS', 'https')}/prefix"])
def test_a_second_client_that_counts_separately_is_warned_of(caplog: pytest.LogCaptureFixture, address: str) -> None:
    clients = [CodatCommerce("one", base_url=HOST), CodatCommerce("two", base_url=address)]
    [message] = warnings_of(caplog)
    assert "codat.example.com" in message
    assert "pass rate_limiter=limiter to each client" in message
    clients.append(CodatCommerce("three", base_url=HOST))
    assert len(warnings_of(caplog)) == 1


def test_a_client_with_its_own_limiter_beside_clients_that_share_one_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = LocalRateLimiter()
    clients = [CodatCommerce(f"{number}", base_url=HOST, rate_limiter=limiter) for number in range(3)]
    assert warnings_of(caplog) == []
    clients.append(CodatCommerce("key", base_url=HOST, rate_limiter=LocalRateLimiter()))
    assert len(warnings_of(caplog)) == 1


async def test_closed_and_collected_clients_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    closed = CodatCommerce("one", base_url=HOST)
    await closed.aclose()
    CodatCommerce("two", base_url=HOST)
    gc.collect()
    client = CodatCommerce("three", base_url=HOST)
    assert warnings_of(caplog) == []
    assert (closed.closed, client.closed) == (True, False)


def test_other_servers_loopback_and_other_transports_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    loopback = [
        "http://localhost:1",
        "http://127.0.0.1:1",
        "http://127.8.8.8:1",
        "http://[::1]:1",
        "http://a.localhost",
    ]
    simulator = Simulator()
    clients = [
        *(CodatCommerce("key", base_url=address) for address in loopback for _ in range(2)),
        *(CodatCommerce("key", transport=InMemoryTransport(simulator)) for _ in range(2)),
        *(client_of(respond())[0] for _ in range(2)),
        CodatCommerce("key", base_url=HOST),
        CodatCommerce("key", base_url="https://other.example.com"),
    ]
    assert len(clients) == 16
    assert warnings_of(caplog) == []
