"""The example application `examples/web_app.py` in a real browser, with real processes: about 80 seconds."""

import asyncio
import importlib.util
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from codat_commerce_async.simulator import FaultPlan, ScriptedSync, Simulator
from tests.support.browser import Page, chromium, open_page, running

pytestmark = pytest.mark.real

_spec = importlib.util.spec_from_file_location("web_app", Path(__file__).parents[1] / "examples" / "web_app.py")
assert _spec is not None
assert _spec.loader is not None
web_app: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(web_app)

NAMES = {name for name, *_ in web_app.MERCHANTS}
FAILING = {name for name, _, _, cause in web_app.MERCHANTS if cause is not None} | {"Juniper Records"}
ROWS = """Object.fromEntries([...document.querySelectorAll('#merchants > li')].map((row) => [
    row.querySelector('.name').textContent,
    {state: row.querySelector('.pill').dataset.state, text: row.innerText,
     disabled: row.querySelector('button').getAttribute('aria-disabled')}]))"""
LISTED = f"document.querySelectorAll('#merchants .name').length === {len(NAMES)}"
IDLE = "!document.querySelector('.track:not([hidden])')"
LINK = "document.getElementById('link').dataset.state"
NOTICES = "document.getElementById('notices').innerText"
HOSTS = "[...new Set(performance.getEntriesByType('resource').map((one) => new URL(one.name).host))]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = chromium()
    with running(program, tmp_path_factory.mktemp("profile")) as address:
        yield address


class Demo(NamedTuple):
    simulator: Simulator
    server: Any
    page: Page

    def company(self, name: str) -> str:
        """The id of a merchant."""
        return next(one for one in self.simulator.company_ids() if self.simulator.company(one)["name"] == name)

    async def until(self, condition: str, seconds: float = 40.0) -> None:
        """Wait until a condition holds in the page."""
        deadline = time.monotonic() + seconds
        while not await self.page.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline, (condition, await self.page.text())
            await asyncio.sleep(0.05)

    async def sync(self, name: str) -> None:
        """Click the button of a merchant."""
        await self.page.evaluate(f"document.querySelector('[aria-label=\"Sync {name}\"]').click()")

    async def rows(self) -> dict[str, Any]:
        """What the page shows of each merchant, by name."""
        rows: dict[str, Any] = await self.page.evaluate(ROWS)
        return rows

    async def accessible(self) -> set[tuple[str, str]]:
        """The roles and names that assistive technology finds."""
        nodes = (await self.page.call("Accessibility.getFullAXTree"))["nodes"]
        return {(one["role"]["value"], one["name"]["value"]) for one in nodes if "role" in one and "name" in one}


@asynccontextmanager
async def shown(browser: str, workers: int = 1, width: int = 1280, scheme: str = "light") -> AsyncIterator[Demo]:
    async with web_app.demo(0, workers, durations=(2.0, 5.0)) as (simulator, server), open_page(browser) as page:
        await web_app.until_ready(server.url)
        await page.emulate(width, 900, scheme)
        await page.go(server.url)
        demo = Demo(simulator, server, page)
        await demo.until(LISTED)
        yield demo
        assert page.complaints == []
        assert await page.evaluate(HOSTS) == [server.url.removeprefix("http://")]


async def test_each_sync_ends_as_scripted_and_failures_have_a_reason_and_a_next_step(browser: str) -> None:
    async with shown(browser, workers=2) as demo:
        assert set(await demo.rows()) == NAMES
        await demo.until("document.querySelectorAll('#processes tr').length === 2")
        await demo.page.evaluate("document.getElementById('sync-all').click()")
        await demo.until("document.querySelector('.track:not([hidden])')")
        for row in (await demo.rows()).values():
            assert row["disabled"] == str(row["state"] in {"starting", "running", "diagnosing"}).lower()
        await demo.until(f"document.querySelector('.pill[data-state=failed]') && {IDLE}")
        rows = await demo.rows()
        assert {name for name, row in rows.items() if row["state"] == "failed"} == FAILING
        assert {row["state"] for row in rows.values()} == {"failed", "succeeded"}
        assert all("Next step" in rows[name]["text"] for name in FAILING)
        assert "A required account has no selection (giftCards)." in rows["Cedar and Sons"]["text"]
        assert "Xero (deauthorized)" in rows["Elm Street Books"]["text"]
        assert [demo.simulator.syncs_started(one) for one in demo.simulator.company_ids()] == [1] * len(NAMES)
        found = await demo.accessible()
        assert {("button", f"Sync {name}") for name in NAMES} <= found
        assert {("heading", "Merchants"), ("button", "Sync all"), ("meter", "Daily quota")} <= found
        for scheme in ("light", "dark"):
            await demo.page.emulate(1280, 900, scheme)
            assert [text for ratio, text in await demo.page.contrasts() if ratio < 4.5] == []
        # What failed for a moment succeeds the next time, and is announced.
        await demo.page.evaluate("document.querySelector('[aria-label=\"Sync Juniper Records\"]').click()")
        await demo.until("document.getElementById('spoken').textContent.includes('Juniper Records: succeeded.')")


async def test_a_double_click_starts_one_sync_also_with_two_processes_and_the_keyboard_alone(browser: str) -> None:
    async with shown(browser, workers=2) as demo:
        alder, birchwood = demo.company("Alder Bakery"), demo.company("Birchwood Cycles")
        await demo.page.press("Tab", "Tab", "Tab", "Enter", "Enter")
        focused = "document.activeElement.getAttribute('aria-label')"
        assert await demo.page.evaluate(focused) == "Sync Alder Bakery"
        started = await demo.page.evaluate(
            "Promise.all(Array.from({length: 6}, () => "
            f"fetch('/merchants/{birchwood}/syncs', {{method: 'POST'}}).then((one) => one.json())))"
        )
        assert sorted(one["started"] for one in started) == [False] * 5 + [True]
        await demo.until("document.querySelectorAll('.pill[data-state=succeeded]').length === 2")
        assert await demo.page.evaluate(focused) == "Sync Alder Bakery"
        assert [demo.simulator.syncs_started(one) for one in (alder, birchwood)] == [1, 1]
        async with aiohttp.ClientSession(headers={"Sec-Fetch-Site": "cross-site"}) as other_site:
            for path in ("syncs", f"merchants/{alder}/syncs"):
                async with other_site.post(f"{demo.server.url}/{path}") as response:
                    assert response.status == 403


async def test_a_sync_that_was_started_elsewhere_and_a_webhook_appear(browser: str) -> None:
    async with shown(browser) as demo:
        hazel = demo.company("Hazel Outdoor")
        connections: Any = demo.simulator.company(hazel)["dataConnections"]
        demo.simulator.set_connection_status(hazel, connections[0]["id"], "Unlinked")
        await demo.until("document.getElementById('webhooks').innerText.includes('connection.disconnected')", 2.0)
        await demo.until("document.getElementById('merchants').innerText.includes('Shopify (unlinked)')")
        demo.simulator.start_external_sync(demo.company("Dogwood Florist"), ScriptedSync(2000, duration=5))
        await demo.until("document.getElementById('merchants').innerText.includes('started elsewhere')")
        await demo.until("document.querySelector('.pill[data-state=succeeded]')")
        assert "started elsewhere" in (await demo.rows())["Dogwood Florist"]["text"]


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def group_has_ended(group: int) -> None:
    """Wait until no process of a process group is left: killed ones count until their parent has collected them."""
    for _ in range(200):
        if not group_exists(group):
            return
        await asyncio.sleep(0.05)
    pytest.fail("a process of the killed server is left")


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGTERM), (2, signal.SIGKILL)])
async def test_the_page_continues_when_the_server_restarts_during_a_sync(
    browser: str, workers: int, number: signal.Signals
) -> None:
    async with shown(browser, workers) as demo:
        alder, pid = demo.company("Alder Bakery"), demo.server.pid
        demo.simulator.script_sync(alder, ScriptedSync(2000, duration=6))
        await demo.sync("Alder Bakery")
        await demo.until("document.querySelector('.pill[data-state=running]')")
        os.kill(pid, number)
        await demo.until(f"{LINK} === 'lost'", 5.0)
        await demo.until(f"{LINK} === 'live'")
        assert demo.server.pid != pid
        await group_has_ended(pid)  # no worker of the killed server is left
        await demo.until("document.querySelector('.pill[data-state=succeeded]')")
        assert demo.simulator.syncs_started(alder) == 1
        # The browser reports the connections that the kill has broken.
        assert all("net::ERR_" in one for one in demo.page.complaints)
        assert demo.page.complaints == [] or number == signal.SIGKILL
        demo.page.complaints.clear()


async def test_loading_and_a_server_that_does_not_respond_are_shown_until_it_does(browser: str) -> None:
    async with shown(browser) as demo:
        await demo.page.call("Network.setBlockedURLs", urls=["*/events"])
        await demo.page.go(demo.server.url)
        await demo.until("document.querySelector('#merchants[aria-busy=true] .skeleton')")
        await demo.until(f"{NOTICES}.includes('The server cannot be reached.')", 10.0)
        assert all("ERR_BLOCKED" in one for one in demo.page.complaints)
        demo.page.complaints.clear()
        await demo.page.call("Network.setBlockedURLs", urls=[])
        await demo.until(f"{LISTED} && {LINK} === 'live' && !{NOTICES}")
        # The connection is open, but the server does not send.
        os.kill(demo.server.pid, signal.SIGSTOP)
        try:
            await demo.until(f"{LINK} === 'lost'", 10.0)
            await demo.until(f"{NOTICES}.includes('What you see may be out of date.')", 10.0)
            assert ("alert", "") in await demo.accessible()
        finally:
            os.kill(demo.server.pid, signal.SIGCONT)
        await demo.until(f"{LINK} === 'live' && !{NOTICES}")


async def test_a_failure_of_codat_and_a_list_without_merchants_are_explained(browser: str) -> None:
    async with shown(browser, width=390, scheme="dark") as demo:
        demo.simulator.set_faults(FaultPlan(rate=1.0, kinds=["lost_before"]))
        await demo.until(f"{NOTICES}.includes('No response from Codat.')")
        assert [text for ratio, text in await demo.page.contrasts() if ratio < 4.5] == []
        demo.simulator.set_faults(FaultPlan())
        await demo.until(f"!{NOTICES}")
        for company_id in demo.simulator.company_ids():
            demo.simulator.delete_company(company_id)
        empty = "document.getElementById('none').innerText"
        await demo.until(f"{empty}.includes('No merchants yet')")
        assert await demo.page.evaluate("document.getElementById('sync-all').getAttribute('aria-disabled')") == "true"
        demo.simulator.set_faults(FaultPlan(rate=1.0, kinds=["unavailable"]))
        await demo.until(f"{empty}.includes('The merchants cannot be listed')")
        assert await demo.page.evaluate("document.documentElement.scrollWidth") <= 390
        demo.simulator.set_faults(FaultPlan())
        await demo.until(f"{empty}.includes('No merchants yet')")
        demo.simulator.add_linked_company("Maple Toys")
        await demo.until("document.getElementById('merchants').innerText.includes('Maple Toys')")


async def test_an_exhausted_quota_is_shown_with_its_reset_on_a_phone(browser: str) -> None:
    async with shown(browser, width=390, scheme="dark") as demo:
        demo.simulator.set_remaining_quota(0)
        await demo.page.evaluate("document.querySelector('[aria-label=\"Sync Alder Bakery\"]').click()")
        await demo.until("document.querySelector('.pill[data-state=not-started]')")
        await demo.until("document.getElementById('notices').innerText.includes('quota is exhausted')")
        resets = "document.getElementById('quota-reset').innerText"
        await demo.until(f"/Exhausted. It resets on .*[0-9]/.test({resets})")
        assert "resets on" in (await demo.rows())["Alder Bakery"]["text"]
        assert await demo.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert demo.simulator.syncs_started(demo.company("Alder Bakery")) == 0
