"""Start the sync of one company, store its handle, and wait until it has ended.

CODAT_API_KEY=... python examples/start_and_wait.py COMPANY_ID
"""

import asyncio
import sys

from codat_commerce_async import CodatCommerce, SyncFailedError, SyncWaitTimeoutError


async def main(company_id: str) -> int:
    """Return the exit status: 0 if the sync succeeded."""
    async with CodatCommerce.from_env() as codat:
        handle = await codat.sync.start(company_id)
        # Store the handle in a file or a database to find the sync again after a restart.
        print(f"started: {handle.to_json()}")
        try:
            status = await codat.sync.wait(handle, timeout=1800)
        except SyncFailedError as error:
            print(f"failed: {error}")
            return 1
        except SyncWaitTimeoutError as error:
            print(f"still running: {error.handle.to_json()}")
            return 1
        print(f"done: {status.state.description}")
        return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the script and the company
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(sys.argv[1])))
