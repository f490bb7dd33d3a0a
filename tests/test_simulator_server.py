"""The simulator on a real socket, called by plain aiohttp."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from urllib.request import Request, urlopen

import aiohttp
import pytest
from yarl import URL

from codat_commerce_async.simulator import Fault, FaultKind, FaultPlan, Simulator
from tests.support.simulated import authorization

KEY = "6f1c1a5e-3d5c-4b5e-9a39-0c9b7c6a1d11"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # Each request gets its own connection: on a used one aiohttp repeats a GET by itself.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(headers=authorization(), connector=connector) as session:
        yield session


async def test_a_sync_can_be_started_and_polled(session: aiohttp.ClientSession) -> None:
    async with Simulator() as simulator:
        company_id = simulator.add_linked_company()
        url = f"{simulator.url}/companies/{company_id}/sync/commerce"
        async with session.post(f"{url}/latest", json={}, headers={"Idempotency-Key": KEY}) as response:
            assert (response.status, response.content_type) == (200, "application/json")
            commerce_id = (await response.json())["commerceSyncId"]
        async with session.get(f"{simulator.url}/meta/companies/{company_id}/sync/commerce/status") as response:
            assert (await response.json())["commerceSyncId"] == commerce_id
        assert simulator.requests[0].idempotency_key == KEY


async def test_a_quoted_path_arrives_as_it_was_sent(session: aiohttp.ClientSession) -> None:
    async with Simulator() as simulator:
        simulator.add_company(company_id="a/b ü")
        path = "/companies/a%2Fb%20%C3%BC/connections?query=status%3DLinked"
        async with session.get(URL(simulator.url + path, encoded=True)) as response:
            assert response.status == 200
        assert (simulator.requests[0].path, simulator.requests[0].query) == tuple(path.split("?"))


async def test_it_is_served_on_loopback_and_on_the_port_that_was_requested() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with Simulator(port=port) as simulator:
        assert simulator.url == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError, match="address already in use"):
            async with Simulator(port=port):
                pass


async def test_it_can_be_served_again_and_remembers(session: aiohttp.ClientSession) -> None:
    simulator = Simulator()
    async with simulator:
        simulator.add_company()
        with pytest.raises(RuntimeError, match="already"):
            await simulator.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        _ = simulator.url
    async with simulator, session.get(f"{simulator.url}/companies") as response:
        assert (await response.json())["totalResults"] == 1


@pytest.mark.parametrize("kind", [FaultKind.LOST_BEFORE, FaultKind.LOST_AFTER])
async def test_a_lost_connection_closes_without_a_response(session: aiohttp.ClientSession, kind: FaultKind) -> None:
    async with Simulator(faults=FaultPlan(script={"create-company": [kind]})) as simulator:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(f"{simulator.url}/companies", json={"name": "A"})
        assert len(simulator.company_ids()) == (kind is FaultKind.LOST_AFTER)


@pytest.mark.parametrize("kind", [FaultKind.RESET_BEFORE, FaultKind.RESET_AFTER])
async def test_a_reset_connection_is_reset(session: aiohttp.ClientSession, kind: FaultKind) -> None:
    async with Simulator(faults=FaultPlan(script={"create-company": [kind]})) as simulator:
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await session.post(f"{simulator.url}/companies", json={"name": "A"})
        assert isinstance(caught.value, ConnectionResetError) or caught.value.errno == 104
        assert len(simulator.company_ids()) == (kind is FaultKind.RESET_AFTER)


async def test_a_cut_off_body_is_cut_off(session: aiohttp.ClientSession) -> None:
    async with (
        Simulator(faults=FaultPlan(script={"*": [FaultKind.CUT_OFF]})) as simulator,
        session.get(f"{simulator.url}/companies") as response,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_an_endless_body_continues_until_the_client_hangs_up(session: aiohttp.ClientSession) -> None:
    async with Simulator(faults=FaultPlan(script={"*": [FaultKind.ENDLESS]})) as simulator:
        async with session.get(f"{simulator.url}/companies") as response:
            for _ in range(64):
                assert len(await response.content.readexactly(65_536)) == 65_536
        async with session.get(f"{simulator.url}/companies") as response:
            assert (await response.json())["totalResults"] == 0


async def test_a_late_response_outlasts_a_timeout_while_the_work_is_done(session: aiohttp.ClientSession) -> None:
    faults = FaultPlan(script={"create-company": [Fault(FaultKind.LATE, seconds=60)]})
    async with Simulator(faults=faults) as simulator:
        url, headers = f"{simulator.url}/companies", {"Idempotency-Key": KEY}
        with pytest.raises(TimeoutError):
            await session.post(url, json={"name": "A"}, headers=headers, timeout=aiohttp.ClientTimeout(total=0.05))
        assert len(simulator.company_ids()) == 1
        async with session.post(url, json={"name": "A"}, headers=headers) as response:
            assert response.status == 409
        simulator.advance(60)
        async with session.post(url, json={"name": "A"}, headers=headers) as response:
            assert response.status == 200


async def get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as response:
        return await response.read()


@pytest.mark.virtual_time
async def test_leaving_drops_what_is_still_under_way(session: aiohttp.ClientSession) -> None:
    before = asyncio.all_tasks()
    faults = FaultPlan(script={"*": [Fault(FaultKind.LATE, seconds=3600), FaultKind.ENDLESS]})
    async with Simulator(faults=faults) as simulator:
        late = asyncio.create_task(get(session, f"{simulator.url}/companies"))
        await asyncio.sleep(1)
        assert len(simulator.requests) == 1
        endless = await session.get(f"{simulator.url}/companies")
    with contextlib.suppress(aiohttp.ClientError):
        await late
    endless.close()
    assert late.done()
    assert asyncio.all_tasks() == before


async def test_responses_that_any_shell_can_show_arrive_as_they_are(session: aiohttp.ClientSession) -> None:
    kinds = [FaultKind.BAD_GATEWAY, FaultKind.GATEWAY_TIMEOUT_AFTER, FaultKind.REDIRECT, FaultKind.EMPTY]
    async with Simulator(faults=FaultPlan(script={"*": kinds})) as simulator:
        seen = []
        for _ in kinds:
            async with session.get(f"{simulator.url}/companies", allow_redirects=False) as response:
                seen.append((response.status, response.content_type, len(await response.read()) > 0))
    assert seen == [
        (502, "text/html", True),
        (504, "text/html", False),
        (302, "text/html", False),
        (200, "application/json", False),
    ]


async def exchange_raw(simulator: Simulator, request: bytes) -> bytes:
    """Return the whole response to raw bytes; the request has to announce that the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(simulator.url).port)
    writer.write(request)
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    return response


def status_of(response: bytes) -> int:
    return int(response.split()[1])


@pytest.mark.parametrize("credentials", [b"Basic \xff", b"Basic \xc3\xa9", b"\xf0\x9f\x8d\xb5", b"Basic \xed\xa0\x80"])
async def test_an_authorization_that_is_not_ascii_is_a_401(credentials: bytes) -> None:
    async with Simulator() as simulator:
        head = b"GET /companies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        response = await exchange_raw(simulator, head + b"Authorization: " + credentials + b"\r\n\r\n")
        assert status_of(response) == 401
        assert [seen.status for seen in simulator.requests] == [401]


@pytest.mark.parametrize("header", [b"Idempotency-Key", b"Content-Type", b"X-Anything"])
async def test_no_header_that_is_not_ascii_is_a_500(header: bytes) -> None:
    async with Simulator() as simulator:
        key = authorization()["Authorization"].encode()
        head = b"POST /companies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: " + key
        request = head + b"\r\n" + header + b": \xff\xc3\xa9\r\nContent-Length: 12\r\n\r\n" + b'{"name":"A"}'
        assert status_of(await exchange_raw(simulator, request)) in {200, 400, 415}


PAGES = ["/", "/simulator/state", "/companies"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.0.7",
        "[2001:db8::1]:80",
        "[",
        "",
    ],
)
async def test_a_host_that_is_not_this_machine_is_refused(session: aiohttp.ClientSession, host: str, path: str) -> None:
    async with Simulator() as simulator:
        headers = {"Host": host, "Accept": "text/html"}
        async with session.get(simulator.url + path, headers=headers) as response:
            assert response.status == 421
            assert "codat" not in (await response.text()).lower()
        assert simulator.requests == ()


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:80", "127.8.9.1", "[::1]:8080"]
)
async def test_loopback_names_and_addresses_are_served(session: aiohttp.ClientSession, host: str, path: str) -> None:
    async with Simulator() as simulator:
        headers = {"Host": host, "Accept": "text/html"}
        async with session.get(simulator.url + path, headers=headers) as response:
            assert response.status == 200


async def test_a_second_host_cannot_hide_behind_a_good_one() -> None:
    async with Simulator() as simulator:
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        assert status_of(await exchange_raw(simulator, request)) >= 400


def test_a_thread_of_its_own_serves_it_without_an_event_loop() -> None:
    simulator = Simulator()
    for _ in range(2):
        with simulator:
            simulator.add_company()
            with urlopen(Request(f"{simulator.url}/companies", headers=authorization())) as response:  # noqa: S310 - http
                assert json.load(response)["totalResults"] == len(simulator.company_ids())
        with pytest.raises(RuntimeError, match="enter it"):
            _ = simulator.url
    assert [thread.name for thread in threading.enumerate() if "simulator" in thread.name] == []


def test_an_error_at_the_start_of_the_serving_thread_is_raised() -> None:
    with Simulator() as simulator:
        with pytest.raises(RuntimeError, match="already"):
            simulator.__enter__()
        with pytest.raises(OSError, match="in use"), Simulator(port=URL(simulator.url).port or 0):
            pass
        assert simulator.url
