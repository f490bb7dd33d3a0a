"""Start exactly one sync per request of your own, however often the request is repeated, also by another process.

CODAT_API_KEY=... python examples/start_exactly_once.py REQUEST_ID COMPANY_ID

Run it again with the same request id within 85 minutes: Codat returns the first sync instead of starting a second one.
"""

import asyncio
import sys
from uuid import UUID, uuid5

from codat_commerce_async import CodatCommerce, OutcomeUnknownError, SyncHandle

# A constant of your own, so that your keys are like no other program's.
NAMESPACE = UUID("0f3c7d52-7a50-4b0e-9d0c-5a1f4f0e8f11")


def key_of(request_id: str) -> str:
    """Return the idempotency key of a request: the same in every process."""
    return str(uuid5(NAMESPACE, request_id))


async def main(request_id: str, company_id: str) -> SyncHandle:
    """Start the sync of a request, and return its handle, which another process can wait for."""
    async with CodatCommerce.from_env() as codat:
        try:
            handle = await codat.sync.start(company_id, idempotency_key=key_of(request_id))
        except OutcomeUnknownError as error:
            # The same call settles it later; it never starts a second sync.
            print(f"not known yet, try again: {error}")
            raise
    print(handle.to_json())
    return handle


if __name__ == "__main__":
    if len(sys.argv) != 3:  # noqa: PLR2004 - the script, the request and the company
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
