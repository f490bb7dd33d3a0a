"""Sync the past of a company month by month, the oldest month first; stop at the first month that fails.

CODAT_API_KEY=... python examples/backfill.py COMPANY_ID YEAR
"""

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

from codat_commerce_async import CodatCommerce, SyncFailedError


def months_of(year: int) -> Iterator[tuple[datetime, datetime]]:
    """Yield the start and the end of each month, in UTC."""
    starts = [datetime(year, month, 1, tzinfo=UTC) for month in range(1, 13)] + [datetime(year + 1, 1, 1, tzinfo=UTC)]
    yield from pairwise(starts)


async def main(company_id: str, year: int) -> int:
    """Return the exit status: 0 if all months were synced."""
    async with CodatCommerce.from_env() as codat:
        for start, finish in months_of(year):
            try:
                # Of a period, no other sync is ever adopted: Codat does not report the period of a sync.
                status = await codat.sync.run(company_id, date_range=(start, finish))
            except SyncFailedError as error:
                print(f"{start:%Y-%m}: {error}")
                return 1
            print(f"{start:%Y-%m}: {status.state.description}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:  # noqa: PLR2004 - the script, the company and the year
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]))))
