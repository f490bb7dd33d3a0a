"""Find out why the syncs of a night failed, and group the companies by who has to act.

CODAT_API_KEY=... python examples/diagnose_failures.py JOURNAL
"""

import asyncio
import sys
from collections import defaultdict

from codat_commerce_async import CodatCommerce, Diagnosis, Journal, Resolver


async def main(path: str) -> dict[Resolver, list[Diagnosis]]:
    """Return the diagnoses of the newest run of a journal, by the first resolver."""
    found: dict[Resolver, list[Diagnosis]] = defaultdict(list)
    async with Journal.open(path) as journal, CodatCommerce.from_env() as codat:
        for outcome in await journal.outcomes():
            if outcome.status is not None and outcome.status.failed:
                diagnosis = await codat.sync.diagnose(outcome)
                found[diagnosis.resolver].append(diagnosis)
    for resolver, diagnoses in found.items():
        print(f"{resolver}: {resolver.description}")
        for diagnosis in diagnoses:
            print(f"  {diagnosis.company_id}: {diagnosis.cause}")
            for action in diagnosis.actions:
                print(f"    {action}")
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the script and the journal
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
