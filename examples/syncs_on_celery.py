"""Run syncs on Celery, which has no `async def` tasks: one event loop in a thread per worker process.

CODAT_SHARED_QUOTA=codat-quota.db celery --app examples.syncs_on_celery worker --pool threads --concurrency 25
"""

import asyncio
import os
import threading

from celery import Celery

from codat_commerce_async import CodatCommerce, Reschedule, SyncOutcome, SyncTicket

app = Celery("syncs", broker=os.environ.get("CELERY_BROKER", "redis://127.0.0.1"))
_STEP = "codat_sync_step"
_starting = threading.Lock()


class Steps:
    """The client and the stepper of this process, on an event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="codat", daemon=True).start()
        self._codat = CodatCommerce.from_env()
        self._stepper = self._codat.sync.stepper()

    async def _step(self, text: str) -> Reschedule | SyncOutcome:
        return await self._stepper.step(SyncTicket.from_json(text))

    def step(self, text: str) -> Reschedule | SyncOutcome:
        """Perform one step, and wait for it."""
        return asyncio.run_coroutine_threadsafe(self._step(text), self._loop).result()

    async def _close(self) -> None:
        await self._codat.aclose()

    def close(self) -> None:
        """Close the client."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)


_steps: list[Steps] = []


def steps() -> Steps:
    """Return the steps of this process, which the first task creates."""
    with _starting:
        if not _steps:
            _steps.append(Steps())
        return _steps[0]


# Whatever a step raises concerns all companies, such as a wrong key: the ticket stays in the queue.
@app.task(
    name=_STEP,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
    autoretry_for=(Exception,),
    max_retries=None,
    retry_backoff=10,
    retry_backoff_max=300,
)
def step(text: str) -> None:
    """Perform one step of a ticket, and queue it again or save its outcome."""
    match steps().step(text):
        case Reschedule(ticket, seconds):
            app.send_task(_STEP, (ticket.to_json(),), countdown=seconds)
        case outcome:
            save(outcome)


def save(outcome: SyncOutcome) -> None:
    """Store an outcome, which may be delivered more than once: a database would upsert it by its ticket."""
    print(outcome.to_json())


def feed(run_id: str, company_ids: list[str]) -> None:
    """Queue a run of at most 10,000 companies."""
    for ticket in SyncTicket.for_run(run_id, company_ids):
        app.send_task(_STEP, (ticket.to_json(),))
