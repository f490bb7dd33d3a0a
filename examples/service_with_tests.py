"""A service that reports the end of a sync to its merchant, and its tests on the simulator.

python -m pytest examples/service_with_tests.py

The fixtures `codat_simulator` and `codat` come with the library. Both tests take a few hundredths of a second.
"""

import pytest

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import Simulator


async def sync_for(codat: CodatCommerce, company_id: str) -> str:
    """Sync a company, and return the sentence that its merchant reads."""
    status = await codat.sync.run(company_id, raise_on_failure=False)
    if status.succeeded:
        return "Your books are up to date."
    diagnosis = await codat.sync.diagnose(status)
    return f"We could not update your books: {diagnosis.actions[0].text}."


@pytest.mark.asyncio
async def test_a_merchant_reads_that_the_books_are_up_to_date(codat_simulator: Simulator, codat: CodatCommerce) -> None:
    shop = codat_simulator.add_linked_company()
    codat_simulator.set_fault("request-sync", "lost_after")  # Codat starts the sync, but its response is lost
    assert await sync_for(codat, shop) == "Your books are up to date."
    assert codat_simulator.syncs_started(shop) == 1


@pytest.mark.asyncio
async def test_a_merchant_reads_what_to_do(codat_simulator: Simulator, codat: CodatCommerce) -> None:
    shop = codat_simulator.add_linked_company()
    codat_simulator.cause_failure(shop, "inactive_customer")
    assert "activate the customer in the accounting software" in await sync_for(codat, shop)
