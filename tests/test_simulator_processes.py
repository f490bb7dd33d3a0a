"""The simulator counts requests per client process, by the User-Agent, and reports the busiest minute as JSON."""

import asyncio
import json
from urllib.request import urlopen

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import Simulator
from tests.support.cases import all_cases


async def test_requests_are_counted_per_process_and_reported_as_json() -> None:
    async with Simulator() as simulator:
        company_id = simulator.add_linked_company()
        for process, number in (("11", 2), ("22", 3), (None, 1)):
            user_agent = None if process is None else f"worker/1.0 process/{process}"
            async with CodatCommerce(simulator.api_key, base_url=simulator.url, user_agent=user_agent) as codat:
                for _ in range(number):
                    await codat.connections.list(company_id)
        state = json.loads(await asyncio.to_thread(lambda: urlopen(f"{simulator.url}/simulator/state").read()))  # noqa: S310
    assert state["requests"]["byProcess"] == {"11": 2, "22": 3} == simulator.requests_by_process
    assert (state["quota"]["peakPerMinute"], state["requests"]["total"]) == (6, 6)


@all_cases("user_agent", ["", " ", "two\r\nlines", "caf\xe9"])
def test_a_user_agent_is_printable_text(user_agent: str) -> None:
    with pytest.raises(ValueError, match="user_agent must be printable ASCII"):
        CodatCommerce("key", user_agent=user_agent)
