"""Share Codat's quota between processes of one machine: start this program several times.

CODAT_API_KEY=... python examples/shared_quota.py QUOTA_FILE COMPANY_ID...

All processes that name the same file together send at most as many requests per minute as one client would.
"""

import asyncio
import sys
from pathlib import Path

from codat_commerce_async import CodatCommerce, Quota
from codat_commerce_async.distributed import FileQuotaStore, SharedRateLimiter


async def main(path: str, company_ids: list[str]) -> int:
    """Return how many of the companies have an accounting and a commerce connection that are linked."""
    linked = 0
    async with SharedRateLimiter(FileQuotaStore(Path(path)), Quota(per_minute=900)) as limiter:
        async with CodatCommerce.from_env(rate_limiter=limiter) as codat:
            for company_id in company_ids:
                page = await codat.connections.list(company_id, query="status=Linked")
                linked += len(page.results) > 1
        status = limiter.status
        print(f"{linked} linked; {status.processes} processes, {status.remaining_minute} requests left this minute")
    return linked


if __name__ == "__main__":
    if len(sys.argv) < 3:  # noqa: PLR2004 - the script, the file and a company
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
