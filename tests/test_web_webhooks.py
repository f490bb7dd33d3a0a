"""Webhooks of the simulator on real servers: handled once by two workers, one of which is killed or stopped."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from codat_commerce_async.simulator import Simulator, WebhookSender
from tests.support.deliveries import SECRET
from tests.support.servers import postgres, valkey
from tests.support.web_servers import Server, all_workers, leaks, overload, served, until, uvicorn

pytestmark = pytest.mark.real

COMPANIES = 5  # each connects with several events


class Service(NamedTuple):
    """A web server that receives webhooks, and the lines that its handler has written."""

    simulator: Simulator
    server: Server
    log: Path

    def lines(self, kind: str) -> list[tuple[str, str]]:
        """Return the process and the event of all lines of a kind."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [(pid, event_id) for word, pid, event_id in map(str.split, lines) if word == kind]


@asynccontextmanager
async def receiving(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
    handler_seconds: float,
    *options: str,
    claim_seconds: float = 60.0,
) -> AsyncIterator[Service]:
    log = tmp_path / "handled"
    with ExitStack() as servers:
        if store == "redis":
            store = servers.enter_context(valkey()).url
        elif store == "postgres":
            store = servers.enter_context(postgres()).url
        async with AsyncExitStack() as stack:
            simulator = await stack.enter_async_context(Simulator())
            settings = {
                "CODAT_API_KEY": simulator.api_key,
                "CODAT_BASE_URL": simulator.url,
                "SERVICE_STORE": store,
                "SERVICE_LOG": str(log),
                "SERVICE_HANDLER_SECONDS": str(handler_seconds),
                "SERVICE_CLAIM_SECONDS": str(claim_seconds),
            }
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            server = await stack.enter_async_context(served(tmp_path, uvicorn(*options)))
            yield Service(simulator, server, log)


async def post_to(server: Server, headers: Mapping[str, str], body: bytes) -> int:
    """Post a delivery on a connection of its own, so that any worker receives it; return 0 without a response."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{server.url}/codat/webhooks", headers=headers, data=body) as response,
        ):
            return response.status
    except aiohttp.ClientError:
        return 0


@pytest.mark.parametrize("store", ["file", "redis", "postgres"])
async def test_two_workers_handle_each_event_of_the_simulator_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    path = str(tmp_path / "deliveries.db") if store == "file" else store
    async with receiving(tmp_path, monkeypatch, path, 0.01, "--workers", "2") as service:
        workers = await all_workers(service.server)
        responses = Counter[int]()

        async def post(headers: Mapping[str, str], body: bytes) -> int:
            statuses = await asyncio.gather(*(post_to(service.server, headers, body) for _ in range(4)))
            responses.update(statuses)
            return max(statuses)  # what is not handled is delivered again

        sender = WebhookSender(service.simulator, post, SECRET)
        service.simulator.take_events()
        for _ in range(COMPANIES):
            service.simulator.add_linked_company()
        rounds = 1
        while await sender.deliver():
            rounds += 1
            assert rounds < 20
        handled = service.lines("ended")
        assert await service.server.stop() < 1.5 * overload()
    assert len({event_id for _, event_id in handled}) == len(handled) >= 2 * COMPANIES
    assert {pid for pid, _ in handled} == {str(pid) for pid in workers}
    assert set(responses) <= {204, 503}
    assert leaks(service.server) == []
    assert service.server.output.count("lifespan completed") == 2


async def test_an_event_is_handled_by_the_other_worker_when_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "deliveries.db")
    async with receiving(tmp_path, monkeypatch, path, 0.7, "--workers", "2", claim_seconds=1.0) as service:
        responses = list[int]()

        async def post(headers: Mapping[str, str], body: bytes) -> int:
            responses.append(await post_to(service.server, headers, body))
            return responses[-1]

        await all_workers(service.server)
        sender = WebhookSender(service.simulator, post, SECRET)
        service.simulator.take_events()
        company_id = service.simulator.add_linked_company()
        service.simulator.take_events()
        service.simulator.delete_company(company_id)
        delivering = asyncio.create_task(sender.deliver())
        await until(lambda: bool(service.lines("started")))
        ((killed, event_id),) = service.lines("started")
        os.kill(int(killed), signal.SIGKILL)
        while await delivering:
            await asyncio.sleep(0.1)
            delivering = asyncio.create_task(sender.deliver())
        assert [one for _, one in service.lines("ended")] == [event_id]
        assert service.lines("ended")[0][0] != killed
    # Until the claim of the killed worker had expired, the others did not touch the event.
    assert (responses[0], responses[-1]) == (0, 204)
    assert set(responses[1:-1]) == {503}


async def test_a_server_that_is_stopped_finishes_the_event_it_handles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving(tmp_path, monkeypatch, str(tmp_path / "deliveries.db"), 0.5) as service:
        statuses = list[int]()

        async def post(headers: Mapping[str, str], body: bytes) -> int:
            statuses.append(await post_to(service.server, headers, body))
            return statuses[-1]

        sender = WebhookSender(service.simulator, post, SECRET)
        service.simulator.take_events()
        service.simulator.add_linked_company()
        delivering = asyncio.create_task(sender.deliver())
        await until(lambda: bool(service.lines("started")))
        elapsed = await service.server.stop()
        await delivering
    assert statuses[0] == 204
    assert len(service.lines("ended")) == len([one for one in statuses if one == 204])
    assert elapsed < 2 * overload()
    assert service.server.output.count("lifespan completed") == 1
    assert leaks(service.server) == []
