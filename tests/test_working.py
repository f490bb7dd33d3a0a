"""What the workers of all task queues need: their end on SIGTERM, and a worker that runs again if it ends by itself."""

import asyncio
import signal

import pytest

from codat_commerce_async.syncing._working import on_stop_signal, run_until_stopped


class Worker:
    """A worker that ends with these results in turn, and then runs until it is cancelled."""

    def __init__(self, *results: Exception | None) -> None:
        self.results = list(results)
        self.is_running = asyncio.Event()
        self.runs = self.cancelled = 0

    async def run(self) -> None:
        self.runs += 1
        if self.results:
            if (error := self.results.pop(0)) is not None:
                raise error
            return
        self.is_running.set()
        while self.cancelled < 2:  # the first one requests an orderly end, which does not come
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled == 2:
                    raise


@pytest.mark.virtual_time
async def test_a_worker_that_ends_by_itself_or_fails_for_a_time_is_run_again() -> None:
    worker, loop = Worker(None, ConnectionError("restarted"), None), asyncio.get_running_loop()
    running = asyncio.create_task(run_until_stopped(worker.run, ConnectionError))
    await worker.is_running.wait()
    assert worker.runs == 4
    assert loop.time() == pytest.approx(3.0, abs=0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert worker.cancelled == 2
    assert loop.time() == pytest.approx(4.5, abs=0.1)


@pytest.mark.virtual_time
async def test_an_error_that_does_not_pass_is_raised() -> None:
    worker = Worker(ConnectionError("restarted"), KeyError("no such table"))
    with pytest.raises(KeyError):
        await run_until_stopped(worker.run, ConnectionError)
    assert worker.runs == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_worker_and_its_previous_handler_returns(number: signal.Signals) -> None:
    worker, present = Worker(), signal.getsignal(number)
    worker.cancelled = 1  # it ends at once
    running = asyncio.create_task(run_until_stopped(worker.run, ConnectionError))
    await worker.is_running.wait()
    signal.raise_signal(number)
    async with asyncio.timeout(10):
        await running
    assert signal.getsignal(number) is present


async def test_a_worker_in_another_thread_gets_no_signals() -> None:
    async def work() -> None:
        with on_stop_signal(lambda: None):
            await asyncio.sleep(0)

    present = signal.getsignal(signal.SIGTERM)
    await asyncio.to_thread(asyncio.run, work())
    assert signal.getsignal(signal.SIGTERM) is present
