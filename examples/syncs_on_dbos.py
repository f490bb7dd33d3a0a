"""Run syncs on DBOS: the loop is a workflow, which is resumed after a crash, and each start or poll is a step of it."""

import asyncio

from dbos import DBOS, SetWorkflowID

from codat_commerce_async import CodatCommerce, Reschedule, SyncStepper, SyncTicket

# A client belongs to an event loop, and DBOS has two: yours, and one for what it resumes.
_clients: dict[asyncio.AbstractEventLoop, tuple[CodatCommerce, SyncStepper]] = {}


def stepper() -> SyncStepper:
    """Return the stepper of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        codat = CodatCommerce.from_env()
        _clients[loop] = codat, codat.sync.stepper()
    return _clients[loop][1]


async def close() -> None:
    """Close the client of the running event loop."""
    codat, _ = _clients.pop(asyncio.get_running_loop())
    await codat.aclose()


# Whatever a step raises concerns all companies, such as a wrong key: it is repeated.
@DBOS.step(retries_allowed=True, interval_seconds=10.0, max_attempts=100, backoff_rate=1.5)
async def step(text: str) -> tuple[str, float, str]:
    """Perform one step: return the ticket and the seconds until its next step, or the outcome."""
    match await stepper().step(SyncTicket.from_json(text)):
        case Reschedule(ticket, seconds):
            return ticket.to_json(), seconds, ""
        case outcome:
            return "", 0.0, outcome.to_json()


@DBOS.workflow()
async def sync_company(text: str) -> str:
    """Sync one company, and return its outcome."""
    while True:
        text, seconds, outcome = await step(text)
        if outcome:
            return outcome
        await DBOS.sleep_async(seconds)


async def start(run_id: str, company_ids: list[str]) -> None:
    """Start a workflow per company; the ticket's id is the workflow's, so a second one does nothing."""
    for ticket in SyncTicket.for_run(run_id, company_ids):
        with SetWorkflowID(ticket.id):
            await DBOS.start_workflow_async(sync_company, ticket.to_json())
