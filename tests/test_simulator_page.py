"""The summary of a simulator, and the page that shows it, in a real browser where there is one."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import aiohttp
import pytest

from codat_commerce_async.simulator import ScriptedSync, Simulator
from tests.support.browser import Page, chromium, open_page, running
from tests.support.simulated import SimulatedApi, authorization

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
LIVE = "document.getElementById('link').dataset.state === 'live'"


def counts(part: Any) -> dict[str, int]:
    return {name: value for name, value in part.items() if isinstance(value, int)}


def test_the_state_counts_companies_and_syncs_by_how_they_went() -> None:
    api = SimulatedApi()
    ids = [api.simulator.add_linked_company() for _ in range(5)]
    api.simulator.add_company()
    outcomes: tuple[ScriptedSync | int, ...] = (2000, 2040, 5130, ScriptedSync.never_ends())
    for company_id, outcome in zip(ids, outcomes, strict=False):
        api.simulator.script_sync(company_id, outcome)
        api.request_sync(company_id)
    api.wait(300)
    state: Any = api.simulator.state()
    assert counts(state["companies"]) == {
        "total": 6,
        "linked": 5,
        "idle": 2,
        "running": 1,
        "succeeded": 2,
        "failed": 1,
    }
    assert counts(state["syncs"]) == {"running": 1, "succeeded": 2, "failed": 1}
    assert [sync["companyId"] for sync in state["syncs"]["latestRunning"]] == [ids[3]]
    assert [(sync["companyId"], sync["code"]) for sync in state["syncs"]["latestFailed"]] == [(ids[2], 5130)]
    assert {sync["companyId"] for sync in state["syncs"]["latestEnded"]} == set(ids[:3])


def test_a_deleted_company_is_gone_from_the_state_with_what_it_ran() -> None:
    api = SimulatedApi()
    company_id, other = (api.simulator.add_linked_company() for _ in range(2))
    api.simulator.script_sync(company_id, 5130, ScriptedSync.never_ends())
    api.request_sync(company_id)
    api.wait(300)
    api.request_sync(company_id)
    api.simulator.delete_company(company_id)
    state: Any = api.simulator.state()
    assert [company["id"] for company in state["companies"]["latest"]] == [other]
    assert (state["syncs"]["running"], state["companies"]["running"], state["companies"]["failed"]) == (0, 0, 0)
    assert [sync["company"] for sync in state["syncs"]["latestFailed"]] == [None]


def test_a_sync_beside_a_running_one_leaves_the_company_running() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.script_sync(company_id, ScriptedSync(2000, duration=500), ScriptedSync.overlaps())
    api.request_sync(company_id)
    api.request_sync(company_id)
    api.wait(10)
    state: Any = api.simulator.state()
    assert (state["companies"]["running"], state["syncs"]["running"], state["syncs"]["failed"]) == (1, 1, 1)
    api.wait(500)
    state = api.simulator.state()
    # The one that started last decides, as it does for Codat's `latest`.
    assert (state["companies"]["failed"], state["syncs"]["succeeded"]) == (1, 1)


def test_the_state_stays_small_however_much_there_is() -> None:
    api = SimulatedApi()
    sizes = []
    for _ in range(2):
        for number in range(400):
            company_id = api.simulator.add_linked_company(f"Company {number:04}")
            api.simulator.start_external_sync(company_id, 5130 if number % 3 else ScriptedSync.never_ends())
        for _ in range(150):
            api.send("GET", "/companies")
        api.wait(600)
        sizes.append(len(json.dumps(api.simulator.state())))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    state: Any = api.simulator.state()
    assert (state["companies"]["total"], state["requests"]["total"]) == (800, 300)
    names = [company["name"] for company in state["companies"]["latest"]]
    assert len(names) == 300
    assert names == sorted(names)


def test_the_state_reports_of_the_quota_and_the_requests() -> None:
    api = SimulatedApi()
    api.simulator.set_fault("list-companies", "lost_after")
    api.send("GET", "/companies")
    api.send("GET", "/nowhere", headers=authorization("a wrong key"))
    state: Any = api.simulator.state()
    assert state["quota"] == {
        "perDay": 1000,
        "leftToday": 999,
        "resets": 1_700_092_800.0,
        "perMinute": 1000,
        "lastMinute": 1,
        "peakPerMinute": 1,
    }
    assert (state["requests"]["total"], state["requests"]["faulty"]) == (2, 1)
    newest, oldest = state["requests"]["latest"]
    assert oldest["correlationId"] is None
    assert re.fullmatch("[0-9a-f]{32}", newest["correlationId"])
    assert (oldest["operation"], oldest["status"], oldest["fault"]) == ("list-companies", 200, "lost_after")
    assert (newest["operation"], newest["path"], newest["status"]) == ("", "/nowhere", 401)


async def test_the_page_needs_no_key_and_leaves_no_trace() -> None:
    async with Simulator(api_key="opens-everything") as simulator, aiohttp.ClientSession() as session:
        served = []
        for path in ("/", "/simulator/page.css", "/simulator/page.js", "/simulator/state"):
            async with session.get(simulator.url + path, headers=BROWSER) as response:
                served.append((response.status, response.content_type))
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                assert simulator.api_key not in await response.text()
        assert served == [(200, f"text/{kind}") for kind in ("html", "css", "javascript")] + [(200, "application/json")]
        assert simulator.requests == ()
        assert simulator.peak_per_minute == 0


async def test_requests_for_other_paths_get_codats_response() -> None:
    async with Simulator() as simulator, aiohttp.ClientSession() as session:
        statuses = []
        for method, path, headers in (
            ("GET", "/", authorization()),
            ("GET", "/", {}),
            ("POST", "/", BROWSER | authorization()),
            ("GET", "/simulator/", authorization()),
            ("GET", "/simulator/../page.css", authorization()),
        ):
            async with session.request(method, simulator.url + path, headers=headers) as response:
                statuses.append((response.status, response.content_type))
        assert statuses == [(status, "application/json") for status in (404, 401, 404, 404, 404)]
        assert len(simulator.requests) == 5


def test_the_page_requests_nothing_from_elsewhere() -> None:
    page = files("codat_commerce_async.simulator").joinpath("_page")
    texts = [
        file.read_text(encoding="utf-8") for file in page.iterdir() if file.name.endswith((".html", ".css", ".js"))
    ]
    addresses = {address for text in texts for address in re.findall(r"(?:https?:)?//[\w.]+[^\s'\")]*", text)}
    assert {address for address in addresses if "." in address} == {"http://www.w3.org/2000/svg"}
    assert not any("innerHTML" in text for text in texts)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = chromium()
    with running(program, tmp_path_factory.mktemp("profile")) as address:
        yield address


async def sideways(page: Page) -> bool:
    """Whether one has to scroll sideways."""
    found = await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return bool(found)


async def test_the_page_shows_many_syncs_live_on_every_screen(browser: str) -> None:
    async with Simulator(api_key="opens-everything", speed=0.01) as simulator, open_page(browser) as page:
        ids = [simulator.add_linked_company(f"Shop {number}") for number in range(200)]
        for number, company_id in enumerate(ids[:90]):
            simulator.start_external_sync(
                company_id, ScriptedSync(5130 if number < 10 else 2000, duration=60 * (number < 60))
            )
        simulator.advance(30)
        await page.emulate(1280, 900)
        await page.go(f"{simulator.url}/")
        await page.until(LIVE)
        assert await page.evaluate("document.querySelectorAll('#tiles [data-state=running]').length") == 60
        assert "60 syncing" in await page.evaluate("document.getElementById('tiles').getAttribute('aria-label')")
        await page.evaluate("document.querySelector('details').open = true")
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                await page.emulate(width, 844, scheme)
                weak = [text for ratio, text in await page.contrasts() if ratio < 4.5]
                assert (width, scheme, weak, await sideways(page)) == (width, scheme, [], False)
        simulator.advance(40)
        await page.until("document.getElementById('companies-failed').textContent === '10'")
        assert await page.evaluate("document.querySelectorAll('#tiles [data-state=failed]').length") == 10
        assert "opens-everything" not in await page.evaluate("document.documentElement.outerHTML")
        assert page.complaints == []


async def test_the_page_is_used_by_keyboard(browser: str) -> None:
    async with Simulator(speed=0.01) as simulator, open_page(browser) as page:
        company_id = simulator.add_linked_company("Alder Bakery")
        simulator.start_external_sync(company_id, ScriptedSync(5130, duration=0, message="No such tax rate."))
        await page.go(f"{simulator.url}/")
        await page.until(LIVE)
        assert "No such tax rate." not in await page.text()
        await page.press("Tab", "Tab", "Tab", "Tab", "ArrowRight", "ArrowRight")
        assert await page.evaluate("document.activeElement.value") == "latestFailed"
        assert "No such tax rate." in await page.text()
        await page.evaluate("document.getElementById('pause').focus()")
        await page.press(" ")
        await page.until("document.getElementById('link').textContent === 'paused'")
        assert await page.evaluate("document.getElementById('pause').textContent") == "Resume"
        await page.press("Enter")
        await page.until(LIVE)
        assert page.complaints == []


async def test_the_page_takes_what_it_gets_for_text(browser: str) -> None:
    name = "<img src=x onerror=\"document.title='broken in'\">"
    async with Simulator() as simulator, open_page(browser) as page:
        simulator.start_external_sync(simulator.add_linked_company(name), ScriptedSync.never_ends())
        await page.go(f"{simulator.url}/")
        await page.until(LIVE)
        assert name in await page.text()
        assert await page.evaluate("document.title") == "Simulated Codat"
        assert page.complaints == []


async def test_the_page_reports_when_the_simulator_is_gone(browser: str) -> None:
    async with open_page(browser) as page:
        async with Simulator() as simulator:
            await page.go(f"{simulator.url}/")
            await page.until(LIVE)
        await page.until("document.getElementById('link').textContent === 'no response'")
