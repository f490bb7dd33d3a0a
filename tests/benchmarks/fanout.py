"""Compare fan-outs in virtual time: an oracle, two common hand-written loops, and `run_many`.

python tests/benchmarks/fanout.py                   every size, the mix of the documented figures
python tests/benchmarks/fanout.py --mixes all       ... and every other mix
python tests/benchmarks/fanout.py --curve           the trade-off: `run_many` with other values of its constants
python tests/benchmarks/fanout.py --memory          100,000 companies from a generator, and a server without history
"""

# ruff: noqa: T201 - it prints for people
import argparse
import asyncio
import heapq
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from random import Random
from resource import RUSAGE_SELF, getrusage

from multidict import CIMultiDict

from codat_commerce_async import CodatCommerce, Quota
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.policies import Timeouts
from codat_commerce_async.simulator import RequestQuota, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock, run_in_virtual_time
from codat_commerce_async.syncing import _scheduler
from codat_commerce_async.syncing._scheduler import Objective

__all__ = ["MIXES", "Figures", "measure"]

PER_MINUTE = 900
# Concurrent requests, as many as in `run_many`.
MAX_TASKS = 32
PAUSE = 5.0
AT_ONCE = 100
SHARES = (0.01, 0.03, 0.06, 0.1, 0.15, 0.25, 0.5)
GAINS = (2e-5, 1e-4, 2e-4, 1e-3, 5e-3)


def log_normal(rng: Random) -> float:
    """Median 45 s with a sigma of 0.9, and three in a hundred between 10 and 25 minutes."""
    if rng.random() < 0.03:
        return rng.uniform(600.0, 1500.0)
    return rng.lognormvariate(math.log(45.0), 0.9)


def two_kinds(rng: Random) -> float:
    """Seven in ten take about 25 s, the others about 7 minutes."""
    usual = 25.0 if rng.random() < 0.7 else 420.0
    return rng.lognormvariate(math.log(usual), 0.2)


MIXES: dict[str, Callable[[Random], float]] = {
    "log-normal": log_normal,
    "two-kinds": two_kinds,
    "uniform": lambda rng: rng.uniform(60.0, 600.0),
    "exponential": lambda rng: rng.expovariate(1 / 300.0),
    "constant": lambda rng: 120.0,
}


@dataclass
class Figures:
    """The results of one fan-out; times in seconds."""

    name: str
    seconds: float
    requests: float
    mean_delay: float
    late_delay: float
    cpu: float

    def __str__(self) -> str:
        return (
            f"{self.name:<28} {self.seconds:9.1f} {self.requests:9.2f} "
            f"{self.mean_delay:10.2f} {self.late_delay:10.2f} {self.cpu:8.2f}"
        )


HEAD = (
    f"{'':<28} {'time':>9} {'requests':>9} {'delay':>10} {'delay':>10} {'CPU':>8}\n"
    f"{'':<28} {'s':>9} {'/company':>9} {'mean, s':>10} {'95 %, s':>10} {'s':>8}"
)


@dataclass
class Field:
    """A simulated Codat, a client of it, and when each sync was known to have ended."""

    simulator: Simulator
    codat: CodatCommerce
    companies: Sequence[str]
    known_at: dict[str, float] = field(default_factory=dict)

    def known(self, company_id: str) -> None:
        """Record that the end of the company's sync is known now."""
        if company_id in self.known_at:
            raise AssertionError(f"{company_id} ended twice")
        self.known_at[company_id] = self.simulator.now()

    def ends(self, company_id: str) -> float:
        """Return when the company's only sync ends."""
        (sync,) = self.simulator.syncs(company_id)
        return sync.ends


Strategy = Callable[[Field], Awaitable[None]]


def oracle(*, polls_first: bool) -> Strategy:
    """Know every end in advance and poll once after it; due polls are sent before starts, or after them."""

    async def run(codat: Field) -> None:
        loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(MAX_TASKS)
        to_start, due, wakeup = deque(codat.companies), [(math.inf, "")], asyncio.Event()

        async def start(company_id: str) -> None:
            await codat.codat.sync.request(company_id)
            wait = codat.ends(company_id) - codat.simulator.now()
            heapq.heappush(due, (loop.time() + wait, company_id))
            wakeup.set()
            slots.release()

        async def poll(company_id: str) -> None:
            (sync,) = codat.simulator.syncs(company_id)
            status = await codat.codat.sync.get(company_id, sync.sync_id)
            assert status.is_terminal
            codat.known(company_id)
            slots.release()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(2 * len(codat.companies)):
                await slots.acquire()
                while not to_start and due[0][0] > loop.time():
                    wakeup.clear()
                    await until(wakeup, due[0][0])
                if due[0][0] <= loop.time() and (polls_first or not to_start):
                    tasks.create_task(poll(heapq.heappop(due)[1]))
                else:
                    tasks.create_task(start(to_start.popleft()))

    return run


async def until(wakeup: asyncio.Event, when: float) -> None:
    """Wait for the event, at most until this time."""
    try:
        async with asyncio.timeout_at(None if math.isinf(when) else when):
            await wakeup.wait()
    except TimeoutError:
        pass


def every_five_seconds(at_once: int | None) -> Strategy:
    """Poll every sync each five seconds; at most that many companies at once, from the start to the end."""

    async def run(codat: Field) -> None:
        room = asyncio.Semaphore(at_once or len(codat.companies))

        async def run_one(company_id: str) -> None:
            async with room:
                await codat.codat.sync.request(company_id)
                ended = False
                while not ended:
                    await asyncio.sleep(PAUSE)
                    ended = (await codat.codat.sync.get_status(company_id)).is_terminal
            codat.known(company_id)

        await asyncio.gather(*map(run_one, codat.companies))

    return run


def run_many(objective: Objective) -> Strategy:
    """Use `run_many`."""

    async def run(codat: Field) -> None:
        async with codat.codat.sync.run_many(codat.companies, objective=objective) as outcomes:
            async for outcome in outcomes:
                assert outcome.error is None, outcome
                codat.known(outcome.company_id)

    return run


STRATEGIES: dict[str, Strategy] = {
    "oracle, polls first": oracle(polls_first=True),
    "oracle, starts first": oracle(polls_first=False),
    "semaphore of 100, each 5 s": every_five_seconds(AT_ONCE),
    "no bound, each 5 s": every_five_seconds(None),
    "run_many, throughput": run_many("throughput"),
    "run_many, latency": run_many("latency"),
}


def measure(name: str, mix: str, companies: int, seed: int) -> Figures:
    """Return the figures of one strategy."""
    began = time.process_time()
    figures = run_in_virtual_time(_measure(name, mix, companies, seed))
    figures.cpu = time.process_time() - began
    return figures


async def _measure(name: str, mix: str, companies: int, seed: int) -> Figures:
    wall_clock, random, requests = loop_wall_clock(), Random(seed), 0
    simulator = Simulator(
        seed=seed,
        now=wall_clock,
        durations=MIXES[mix],
        outcomes={2000: 0.98, 5130: 0.02},
        quota=RequestQuota(per_minute=1000, per_day=None),
        log_size=1,
    )

    def latency() -> float:
        nonlocal requests
        requests += 1
        return random.uniform(0.1, 0.3)

    ids = [simulator.add_linked_company() for _ in range(companies)]
    client = CodatCommerce(
        "key",
        transport=InMemoryTransport(simulator, latency=latency),
        wall_clock=wall_clock,
        random=random,
        quota=Quota(per_minute=PER_MINUTE),
    )
    async with client as codat:
        fan_out = Field(simulator, codat, ids)
        await STRATEGIES[name](fan_out)
    delays = sorted(fan_out.known_at[one] - fan_out.ends(one) for one in ids)
    assert all(simulator.syncs_started(one) == 1 for one in ids)
    return Figures(
        name=name,
        seconds=asyncio.get_running_loop().time(),
        requests=requests / companies,
        mean_delay=sum(delays) / companies,
        late_delay=delays[int(0.95 * companies)],
        cpu=0.0,
    )


def ids(companies: int) -> Iterator[str]:
    """Yield that many company ids, without keeping them."""
    for number in range(companies):
        yield f"{number:08x}-0000-4000-8000-000000000000"


class Forgetful:
    """A server that knows running syncs only, so that all growth of memory is the client's."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._ends: dict[str, float] = {}

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Return the response to one request."""
        await asyncio.sleep(self._random.uniform(0.1, 0.3))
        company_id = next(part for part in request.target.split("/") if part.count("-") == 4)
        now = asyncio.get_running_loop().time()
        if request.method == "POST":
            self._ends[company_id] = now + log_normal(self._random)
        if company_id not in self._ends:  # a run with a journal reads one status before its first start
            return Response(404, CIMultiDict(), b"{}")
        code = 1000
        if self._ends[company_id] <= now:
            code = 2000
            del self._ends[company_id]
        status = {"companyId": company_id, "commerceSyncId": f"c-{company_id}", "syncStatusCode": code}
        if request.method != "POST":
            status["syncId"] = f"s-{company_id}"
        return Response(200, CIMultiDict(), json.dumps(status).encode())

    async def aclose(self) -> None:
        """Nothing is open."""


async def fan_out_forgetfully(companies: int, seed: int, journal: str | None) -> int:
    """Fan out over that many companies from a generator; return the maximum that ran at once."""
    wall_clock, most = loop_wall_clock(), 0
    client = CodatCommerce("key", transport=Forgetful(seed), wall_clock=wall_clock, random=Random(seed))
    async with client as codat, codat.sync.run_many(ids(companies), journal=journal) as run:
        count = 0
        async for outcome in run:
            assert outcome.ok
            count += 1
            if not count % 100:
                most = max(most, run.report.running)
        assert count == companies
    return most


def measure_memory(companies: int, seed: int, *, with_journal: bool) -> None:
    """Print the memory and time of one fan-out, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        # Load and allocate what is independent of the size.
        run_in_virtual_time(fan_out_forgetfully(200, seed, f"{folder}/first" if with_journal else None))
        before, began = getrusage(RUSAGE_SELF).ru_maxrss, time.process_time()
        journal = f"{folder}/second" if with_journal else None
        most = run_in_virtual_time(fan_out_forgetfully(companies, seed, journal))
        grown, cpu = getrusage(RUSAGE_SELF).ru_maxrss - before, time.process_time() - began
    print(f"{companies:>9} {grown / 1024:10.1f} {most:12} {cpu / companies * 1e6:18.0f}", flush=True)


def show_memory(seed: int, *, with_journal: bool) -> None:
    """Print the memory and time of fan-outs of several sizes."""
    print(f"from a generator, seed {seed}, {'with' if with_journal else 'without'} a journal")
    print(f"{'companies':>9} {'memory, MB':>10} {'most at once':>12} {'CPU, us/company':>18}")
    for companies in (1_000, 10_000, 30_000, 100_000):
        option = ["--journal"] if with_journal else []
        command = [sys.executable, __file__, "--memory-of", str(companies), "--seeds", str(seed), *option]
        subprocess.run(command, check=True)  # noqa: S603 - this script itself


def show_curve(mixes: Sequence[str], sizes: Sequence[int], seeds: Sequence[int]) -> None:
    """Print the results of other values of the two constants."""
    for mix, companies, seed in product(mixes, sizes, seeds):
        print(f"\n{mix}, {companies} companies, seed {seed}\n{HEAD}")
        print(measure("oracle, polls first", mix, companies, seed), flush=True)
        for name, values in (("_COST_SHARE", SHARES), ("_MIN_GAIN", GAINS)):
            for value in values:
                with constant(name, value):
                    figures = measure("run_many, throughput", mix, companies, seed)
                figures.name = f"{name[1:].lower()} {value:g}"
                print(figures, flush=True)


@contextmanager
def constant(name: str, value: float) -> Iterator[None]:
    """Replace one of the constants of the poll cost."""
    before = getattr(_scheduler, name)
    setattr(_scheduler, name, {**before, "throughput": value} if isinstance(before, dict) else value)
    try:
        yield
    finally:
        setattr(_scheduler, name, before)


def show_figures(mixes: Sequence[str], sizes: Sequence[int], seeds: Sequence[int], only: str) -> None:
    """Print the figures of every strategy."""
    for mix, companies, seed in product(mixes, sizes, seeds):
        print(f"\n{mix}, {companies} companies, seed {seed}\n{HEAD}")
        for name in STRATEGIES:
            if only in name:
                print(measure(name, mix, companies, seed), flush=True)


def main() -> None:
    """Run what the options select."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--companies", type=int, nargs="+", default=[50, 1_000, 10_000])
    parser.add_argument("--mixes", nargs="+", default=["log-normal"], choices=[*MIXES, "all"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", default="", help="strategies with this in their names")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--journal", action="store_true", help="with --memory: keep a journal")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    mixes = list(MIXES) if "all" in options.mixes else options.mixes
    if options.memory_of is not None:
        measure_memory(options.memory_of, options.seeds[0], with_journal=options.journal)
    elif options.memory:
        show_memory(options.seeds[0], with_journal=options.journal)
    elif options.curve:
        show_curve(mixes, options.companies, options.seeds)
    else:
        show_figures(mixes, options.companies, options.seeds, options.only)


if __name__ == "__main__":
    main()
