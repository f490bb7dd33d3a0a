"""Suspended machines and wall clocks that are set while a sync is started: never two syncs of one request.

A start is stopped at each of its awaits in turn: the machine is suspended there, or the process is killed, the clock
set, and the start resumed by another process. By hand: python -m tests.simulations.clocks --seeds 5
"""

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.idempotency import FirstUse
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.simulator.virtual_time import run_in_virtual_time
from codat_commerce_async.syncing._start import start
from codat_commerce_async.syncing.request import SyncRequest
from tests.support.independent import IndependentServer

__all__ = ["Counts", "killed_and_set", "suspended"]

T = TypeVar("T")

_MORNING = 1_705_305_600.0
_COMPANY = "company-1"
_MINUTE, _HOUR = 60.0, 3600.0
SUSPENSIONS = (_MINUTE, 20 * _MINUTE, 84 * _MINUTE, 91 * _MINUTE, 3 * _HOUR, 8 * _HOUR)
CLOCK_CHANGES = (-2 * _HOUR, -30 * _MINUTE, -_MINUTE, 0.0, _MINUTE, 30 * _MINUTE, 2 * _HOUR)
RESUMES_AFTER = (5 * _MINUTE, 80 * _MINUTE, 89 * _MINUTE, 2 * _HOUR, 4 * _HOUR, 48 * _HOUR)


@dataclass
class Counts:
    """How the starts ended; `wrong` names those that started two syncs."""

    runs: int = 0
    started: int = 0
    adopted: int = 0
    unknown: int = 0
    wrong: list[str] = field(default_factory=list)

    def count(self, server: IndependentServer, result: SyncHandle | CodatError | None, what: str) -> None:
        self.runs += 1
        if isinstance(result, SyncHandle):
            self.started += 1
            self.adopted += result.adopted
        else:
            self.unknown += 1
        ours = [sync for sync in server.syncs if sync.key is not None]
        if len(ours) > 1:
            self.wrong.append(f"{what}: started {len(ours)} times, reports {result!r}")

    def __str__(self) -> str:
        return (
            f"{self.runs} starts, {self.started} reported a sync ({self.adopted} adopted), {self.unknown} did not, "
            f"{len(self.wrong)} started twice" + "".join(f"\n  {each}" for each in self.wrong[:20])
        )


class _Killed(BaseException):
    """The process is no more."""


class _Stepped:
    """Awaits a coroutine and calls `at` with the number of each of its steps, before the step is taken."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], at: Callable[[int], None]) -> None:
        self._coroutine = coroutine
        self._at = at
        self.steps = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner, value = self._coroutine.__await__(), None
        error: BaseException | None = None
        while True:
            self.steps += 1
            try:
                self._at(self.steps - 1)
            except _Killed as killed:
                # What the dying process still does in memory is lost.
                error = killed
            try:
                waits_for = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                return stop.value
            value, error = None, None
            try:
                value = yield waits_for
            except BaseException as raised:  # noqa: BLE001 - passed on unchanged
                error = raised


class _Machine:
    """The true time, and a wall clock that is `set_by` seconds off; suspended, the loop's clock stands still."""

    def __init__(self) -> None:
        self.suspended = 0.0
        self.set_by = 0.0

    def true_time(self) -> float:
        return _MORNING + asyncio.get_running_loop().time() + self.suspended

    def wall_clock(self) -> float:
        return self.true_time() + self.set_by


@dataclass
class _Entry:
    """What a journal keeps of a start."""

    key: str | None = None
    first_use: FirstUse | None = None


async def _start(client: CodatCommerce, entry: _Entry, *, warm: bool) -> SyncHandle:
    context = client.sync.context

    async def persist_key(key: str) -> None:
        await asyncio.sleep(0.01)
        entry.key, entry.first_use = key, FirstUse(context.clock.now(), None, context.clock.server_offset)
        await asyncio.sleep(0.01)

    if warm and context.clock.server_offset is None:
        with contextlib.suppress(CodatError):
            await client.sync.list(_COMPANY)
    return await start(
        context,
        SyncRequest(company_id=_COMPANY),
        {"idempotency_key": entry.key} if entry.key else {},
        first_use=entry.first_use,
        persist_key=persist_key,
    )


async def _result(starting: Any) -> SyncHandle | CodatError | None:
    try:
        handle: SyncHandle = await starting
    except CodatError as error:
        return error
    except _Killed:
        return None
    return handle


def _server(seed: int, machine: _Machine) -> IndependentServer:
    rng = Random(seed)
    fails, loses = rng.choice(((0.0, 0.9), (0.9, 0.0), (0.5, 0.5), (0.2, 0.6)))
    return IndependentServer(rng, machine.true_time, fails=fails, loses=loses)


def _client(seed: int, server: IndependentServer, machine: _Machine) -> CodatCommerce:
    return CodatCommerce("key", transport=server, wall_clock=machine.wall_clock, random=Random(seed + 1000))


def suspended(seed: int) -> Counts:
    """Suspend the machine at each await of a start in turn, for each of the times."""
    counts = Counts()
    for seconds in SUSPENSIONS:
        step = 0
        while run_in_virtual_time(_suspended(seed, step, seconds, counts)):
            step += 1
    return counts


async def _suspended(seed: int, step: int, seconds: float, counts: Counts) -> bool:
    machine = _Machine()
    server = _server(seed, machine)

    def at(number: int) -> None:
        machine.suspended += seconds if number == step else 0.0

    async with _client(seed, server, machine) as client:
        stepped = _Stepped(_start(client, _Entry(), warm=True), at)
        counts.count(server, await _result(stepped), f"seed {seed}, suspended for {seconds:g} s at step {step}")
    return stepped.steps > step


def killed_and_set(seed: int, *, every: int = 1) -> Counts:
    """Kill the process at each await of a start, set the clock, and resume the start in another process."""
    counts = Counts()
    for warm in (False, True):
        for number, (change, later) in enumerate(_changes()):
            step = number % every
            while run_in_virtual_time(_killed(seed, step, change, later, counts, warm=warm)):
                step += every
    return counts


def _changes() -> Iterator[tuple[float, float]]:
    return ((change, later) for change in CLOCK_CHANGES for later in RESUMES_AFTER)


async def _killed(seed: int, step: int, change: float, later: float, counts: Counts, *, warm: bool) -> bool:
    machine, entry = _Machine(), _Entry()
    server = _server(seed, machine)

    def at(number: int) -> None:
        if number == step:
            raise _Killed

    async with _client(seed, server, machine) as client:
        stepped = _Stepped(_start(client, entry, warm=warm), at)
        await _result(stepped)
    await asyncio.sleep(later)
    machine.set_by = change
    async with _client(seed + 1, server, machine) as client:
        result = await _result(_start(client, entry, warm=False))
    what = f"seed {seed}, killed at step {step}, clock set by {change:g} s, resumed after {later:g} s, warm {warm}"
    counts.count(server, result, what)
    return stepped.steps > step


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("codat_commerce_async").setLevel(logging.ERROR)
    wrong = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for name, counts in (("suspended", suspended(seed)), ("killed and set", killed_and_set(seed))):
            wrong += len(counts.wrong)
            sys.stdout.write(f"seed {seed}, {name}: {counts}\n")
            sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
