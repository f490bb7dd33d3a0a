"""Sync many companies, so many at a time; one that fails does not stop the others.

CODAT_API_KEY=... python examples/many_companies.py COMPANY_ID...
"""

import asyncio
import sys
from collections.abc import Iterator

from codat_commerce_async import CodatCommerce, CodatError

AT_ONCE = 50


async def main(company_ids: list[str]) -> int:
    """Return the exit status: 0 when every sync went well."""
    failed: list[str] = []
    async with CodatCommerce.from_env() as codat:
        # The workers share one iterator: each takes the next company when it is done with its last.
        queue = iter(company_ids)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(company_ids))):
                group.create_task(work(codat, queue, failed))
    print(f"{len(company_ids) - len(failed)} done, {len(failed)} failed")
    return 1 if failed else 0


async def work(codat: CodatCommerce, queue: Iterator[str], failed: list[str]) -> None:
    """Sync one company after the other, as long as there are any."""
    for company_id in queue:
        try:
            status = await codat.sync.run(company_id)
        except CodatError as error:
            failed.append(company_id)
            print(f"{company_id}: {error}")
        else:
            print(f"{company_id}: {status.outcome.value}")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(sys.argv[1:])))
