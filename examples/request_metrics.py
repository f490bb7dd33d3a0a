"""Measure the requests of a client with hooks: how many, how slow, how often repeated, and why.

CODAT_API_KEY=... python examples/request_metrics.py COMPANY_ID
"""

import asyncio
import sys
from collections import Counter

from codat_commerce_async import CodatCommerce, Hooks
from codat_commerce_async.hooks import Paused, RequestEnded, Retried


class Metrics:
    """The counts of one client. Hooks run on the event loop, so they only count."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int | None]] = Counter()
        self.seconds = 0.0
        self.retries: Counter[str] = Counter()
        self.paused = 0.0

    def hooks(self) -> Hooks:
        """Return the hooks that count."""
        return Hooks(on_request_ended=self._request_ended, on_retry=self._retried, on_pause=self._paused)

    def _request_ended(self, event: RequestEnded) -> None:
        self.requests[event.operation, event.status] += 1
        self.seconds += event.elapsed

    def _retried(self, event: Retried) -> None:
        self.retries[event.error_type] += 1

    def _paused(self, event: Paused) -> None:
        self.paused += event.seconds


async def main(company_id: str) -> Metrics:
    """Sync a company, and print what it took."""
    metrics = Metrics()
    async with CodatCommerce.from_env(hooks=metrics.hooks()) as codat:
        await codat.sync.run(company_id, raise_on_failure=False)
    for (operation, status), number in sorted(metrics.requests.items(), key=str):
        print(f"{operation} {status}: {number}")
    print(f"{metrics.seconds:.2f} s on the wire, {metrics.retries.total()} retries, {metrics.paused:.0f} s paused")
    return metrics


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the script and the company
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
