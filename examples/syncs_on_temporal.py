"""Run syncs on Temporal: the loop is a workflow, and each start or poll is an activity.

The workflow sleeps between the steps, so no worker is occupied.
"""

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from codat_commerce_async import CodatCommerce, Reschedule, SyncStepper, SyncTicket

_QUEUE = "codat"


class Activities:
    """The steps of this process; create it once, with `codat.sync.stepper()`."""

    def __init__(self, stepper: SyncStepper) -> None:
        self._stepper = stepper

    @activity.defn
    async def step(self, text: str) -> tuple[str, float, str]:
        """Perform one step: return the ticket and the seconds until its next step, or the outcome."""
        match await self._stepper.step(SyncTicket.from_json(text)):
            case Reschedule(ticket, seconds):
                return ticket.to_json(), seconds, ""
            case outcome:
                return "", 0.0, outcome.to_json()


@workflow.defn
class SyncCompany:
    """Sync one company."""

    @workflow.run
    async def run(self, text: str) -> str:
        """Return the outcome. Whatever a step raises concerns all companies, so it is repeated."""
        retry = RetryPolicy(initial_interval=timedelta(seconds=10), maximum_interval=timedelta(minutes=5))
        while True:
            text, seconds, outcome = await workflow.execute_activity_method(
                Activities.step, text, start_to_close_timeout=timedelta(minutes=10), retry_policy=retry
            )
            if outcome:
                return outcome
            await workflow.sleep(seconds)


async def work(client: Client) -> None:
    """Run a worker."""
    async with CodatCommerce.from_env() as codat:
        steps = Activities(codat.sync.stepper())
        await Worker(client, task_queue=_QUEUE, workflows=[SyncCompany], activities=[steps.step]).run()


async def start(client: Client, run_id: str, company_ids: list[str]) -> None:
    """Start a workflow per company; the ticket's id is the workflow's, so a second one is refused while it runs."""
    for ticket in SyncTicket.for_run(run_id, company_ids):
        await client.start_workflow(SyncCompany.run, ticket.to_json(), id=ticket.id, task_queue=_QUEUE)
