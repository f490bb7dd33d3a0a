"""`diagnose`: print why a company's sync failed, who has to act and what to do."""

import json
import sys
from collections.abc import Iterator
from typing import Unpack

from codat_commerce_async._core.text import one_line
from codat_commerce_async.cli._args import DiagnoseOptions
from codat_commerce_async.cli._exit import EXIT_FAILED, EXIT_OK, EXIT_TRY_LATER, CommandError
from codat_commerce_async.cli._session import client_from_env, raise_if_key_refused, raise_if_quota_misconfigured
from codat_commerce_async.client import CodatCommerce, Settings
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.sync import BaseSyncStatus
from codat_commerce_async.syncing.diagnosis import Diagnosis, Evidence

__all__ = ["diagnose"]


async def diagnose(options: DiagnoseOptions, **settings: Unpack[Settings]) -> int:
    """Print the diagnosis of the given sync, or of the newest; `settings` are passed to the client."""
    async with client_from_env(**settings) as codat:
        try:
            status = await _status(codat, options.company_id, options.sync_id)
            found = await codat.sync.diagnose(status, background=False) if status.failed else None
        except CodatError as error:
            raise_if_key_refused(error)
            raise_if_quota_misconfigured(error)
            exit_status = EXIT_TRY_LATER if error.retryable else EXIT_FAILED
            raise CommandError(f"{options.company_id}: {error.message}", exit_status) from None
    if options.json:
        json.dump(None if found is None else found.to_dict(), sys.stdout, indent=1)
        print()
    elif found is None:
        print(f"the sync has not failed: {status.state.description}")
    else:
        print(*map(one_line, _lines(found)), sep="\n")
    return EXIT_OK


async def _status(codat: CodatCommerce, company_id: str, sync_id: str | None) -> BaseSyncStatus:
    if sync_id is None:
        return await codat.sync.get_status(company_id)
    return await codat.sync.get(company_id, sync_id)


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"company:  {found.company_id}"
    yield f"sync:     {found.sync_id or 'not known'}"
    yield f"cause:    {found.cause}: {found.summary}"
    for number, action in enumerate(found.actions, start=1):
        yield f"action {number}: {action}"
    yield f"new sync: {found.retry.description}"
    for each in found.evidence:
        yield f"evidence: {_evidence(each)}"
    for text in found.unchecked:
        yield f"not checked: {text}"


def _evidence(each: Evidence) -> str:
    items = [f"item {item.item_id}: {item.message}" for item in each.items]
    texts = (each.kind.replace("_", " "), each.id, each.data_type, each.status, each.message, *items)
    return ", ".join(text for text in texts if text)
