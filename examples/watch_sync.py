"""Start a sync, and print each change of its status until it has ended.

CODAT_API_KEY=... python examples/watch_sync.py COMPANY_ID
"""

import asyncio
import sys
from contextlib import aclosing

from codat_commerce_async import CodatCommerce, PollPolicy


async def main(company_id: str) -> int:
    """Return the exit status: 0 if the sync succeeded."""
    succeeded = False
    async with CodatCommerce.from_env(poll=PollPolicy(interval=1.0, max_interval=10.0)) as codat:
        handle = await codat.sync.start(company_id)
        # aclosing ends the polls when the loop is left early.
        async with aclosing(codat.sync.watch(handle, timeout=3600)) as changes:
            async for status in changes:
                print(f"{status.sync_status_code} {status.sync_status}: {status.state.description}")
                succeeded = status.succeeded
    return 0 if succeeded else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the script and the company
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(sys.argv[1])))
