"""All stores of the shared quota follow the same rules, step by step, and hold the rate."""

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from codat_commerce_async.distributed import (
    FileQuotaStore,
    MemoryQuotaStore,
    PostgresQuotaStore,
    QuotaStore,
    RedisQuotaStore,
    StoreUnavailableError,
)
from codat_commerce_async.distributed._limits import Limits
from codat_commerce_async.distributed._state import GRANTED, LATER, MAX_PERMITS, QuotaReport, QuotaResult
from codat_commerce_async.errors import SharedQuotaError
from codat_commerce_async.policies import Quota
from tests.support.cases import all_cases
from tests.support.servers import postgres, valkey
from tests.support.unusable import MISTAKES, fill_disk, unusable_paths

NOON = 1_705_320_000.0
UrlOf = Callable[[str], str]
COMPANIES = ("", "c1", "c2", "c3")


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def report(process: str = "p1", **changes: Any) -> QuotaReport:
    limits = Limits(Quota(per_minute=changes.pop("rate", 600))).whole
    base: QuotaReport = {
        "address": "default",
        "client": "default",
        "process": process,
        "leaves": 0,
        "interval": limits["interval"],
        "tolerance": limits["tolerance"],
        "per_minute": 600,
        "concurrent": 100,
        "per_company": 10,
        "held": {},
        "reserved": 0,
        "runs": {},
        "sequence": 0,
        "pauses": {},
        "exhausted": [],
        "remaining": [],
        "permits": [],
    }
    base.update(changes)  # type: ignore[typeddict-item]
    return base


def permits(number: int, company: str = "", *, background: int = 0, starts_work: int = 0) -> list[tuple[str, int, int]]:
    return [(company, background, starts_work)] * number


@contextlib.asynccontextmanager
async def store_of(kind: str, clock: Clock, directory: Path, url_of: UrlOf) -> AsyncIterator[QuotaStore]:
    store: QuotaStore
    if kind == "redis":
        store = RedisQuotaStore(url_of(kind), prefix=directory.name, clock=clock)
    elif kind == "postgres":
        url = url_of(kind)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS codat_quota")
        store = PostgresQuotaStore(url, clock=clock)
    else:
        store = MemoryQuotaStore(clock) if kind == "memory" else FileQuotaStore(directory / "quota.db", clock=clock)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture(scope="module")
def url_of() -> Iterator[UrlOf]:
    """Start each kind of server once."""
    urls: dict[str, str] = {}
    with contextlib.ExitStack() as stack:

        def started(kind: str) -> str:
            if kind not in urls:
                urls[kind] = stack.enter_context(valkey() if kind == "redis" else postgres()).url
            return urls[kind]

        yield started


KINDS = [
    "memory",
    "file",
    pytest.param("redis", marks=pytest.mark.real),
    pytest.param("postgres", marks=pytest.mark.real),
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=KINDS)
async def store(
    request: pytest.FixtureRequest, clock: Clock, tmp_path: Path, url_of: UrlOf
) -> AsyncIterator[QuotaStore]:
    async with store_of(request.param, clock, tmp_path, url_of) as made:
        yield made


def approx(value: object) -> Any:
    return pytest.approx(value)


def granted(result: QuotaResult) -> int:
    return sum(kind == GRANTED for kind, _ in result["permits"])


async def send_all(
    store: QuotaStore, clock: Clock, seconds: float, *, rate: int = 600, processes: int = 1
) -> list[float]:
    """Return the times of the slots that a fleet receives that requests as many permits as it can."""
    slots, end, step = [], clock.now + seconds, 0
    while clock.now < end:
        step += 1
        requests = permits(MAX_PERMITS)
        result = await store.exchange(report(f"p{step % processes}", rate=rate, permits=requests))
        slots += [clock.now + delay for kind, delay in result["permits"] if kind == GRANTED]
        clock.now += 0.1
    return sorted(slots)


def busiest_minute(slots: list[float]) -> int:
    first = most = 0
    for last, time in enumerate(slots):
        while slots[first] <= time - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


async def test_no_minute_exceeds_the_rate_and_nearly_all_of_it_is_used(store: QuotaStore, clock: Clock) -> None:
    slots = await send_all(store, clock, 150.0, rate=300, processes=3)
    assert busiest_minute(slots) <= 300
    assert len(slots) >= 0.985 * 300 * 150 / 60


async def test_a_new_store_starts_without_a_burst(store: QuotaStore) -> None:
    result = await store.exchange(report(permits=permits(16)))
    slots = [delay for kind, delay in result["permits"] if kind == GRANTED]
    interval = Limits(Quota(per_minute=600)).interval
    assert slots == approx([number * interval for number in range(5)])
    assert [kind for kind, _ in result["permits"]] == [GRANTED] * 5 + [LATER] * 11


@pytest.mark.parametrize("jump", [-3600.0, -5.0, 5.0, 3600.0])
async def test_a_clock_that_is_set_causes_no_burst_and_no_long_pause(
    store: QuotaStore, clock: Clock, jump: float
) -> None:
    before = await send_all(store, clock, 30.0)
    moved = clock.now
    clock.now += jump
    after = await send_all(store, clock, 40.0)
    real = [*before, *(time - jump for time in after)]
    # A jump by less than the interval of reports may allow one burst more, of 1 % of the rate.
    assert busiest_minute(sorted(real)) <= 600 + 7
    assert after[0] - jump - moved < 1.0


async def test_slots_of_a_process_that_is_silent_are_released_after_30_seconds(store: QuotaStore, clock: Clock) -> None:
    await store.exchange(report("dead", held={"c1": 10}))
    waiting = report("other", permits=permits(1, "c1"))
    for passed in range(0, 30, 5):
        clock.now = NOON + passed
        result = await store.exchange(waiting)
        assert (granted(result), result["processes"]) == (0, 2)
    clock.now = NOON + 30.1
    result = await store.exchange(waiting)
    assert (granted(result), result["processes"]) == (1, 1)


async def test_a_process_that_leaves_frees_its_slots_at_once(store: QuotaStore) -> None:
    await store.exchange(report("p1", held={"c1": 10}))
    await store.exchange(report("p1", leaves=1))
    result = await store.exchange(report("p2", permits=permits(1, "c1")))
    assert (granted(result), result["processes"]) == (1, 1)


async def test_concurrency_is_limited_over_all_processes(store: QuotaStore) -> None:
    await store.exchange(report("p1", rate=None, held={"c1": 2, "": 1}))
    result = await store.exchange(
        report("p2", rate=None, per_company=3, concurrent=6, permits=[*permits(2, "c1"), *permits(6, "c2")])
    )
    assert granted(result) == 3  # one of c1, two of c2, which then are six in all
    assert [kind for kind, _ in result["permits"][:2]] == [0, 2]


async def test_a_pause_holds_for_all_and_is_followed_by_an_even_rate(store: QuotaStore, clock: Clock) -> None:
    await store.exchange(report("p1", pauses={"": 20.0, "c1": 30.0}))
    result = await store.exchange(report("p2", permits=permits(1)))
    assert (granted(result), result["pause"]) == (0, approx(20.0))
    clock.now += 20.0
    result = await store.exchange(report("p2", permits=permits(16)))
    assert granted(result) == 3  # half a second, for two processes
    result = await store.exchange(report("p2", permits=permits(1, "c1")))
    assert [tuple(each) for each in result["permits"]] == [(2, approx(10.0))]


async def test_an_exhausted_day_holds_for_all_until_a_newer_response_reports_otherwise(
    store: QuotaStore, clock: Clock
) -> None:
    await store.exchange(report("p1", exhausted=[3600.0, NOON + 3600]))
    clock.now += 10.0
    # Headers of a response that is older than the exhaustion
    result = await store.exchange(report("p2", remaining=[50, 3590.0, 12.0], permits=permits(1)))
    assert (granted(result), result["exhausted"], result["reset_at"]) == (0, approx(3590.0), NOON + 3600)
    result = await store.exchange(report("p2", remaining=[50, 3590.0, 0.0], permits=permits(1)))
    assert (granted(result), result["exhausted"], result["remaining"]) == (1, 0.0, 49)


async def test_headers_of_an_old_response_do_not_raise_the_daily_quota(store: QuotaStore, clock: Clock) -> None:
    await store.exchange(report("p1", remaining=[500, 3600.0, 0.0]))
    assert (await store.exchange(report("p1", permits=permits(3))))["remaining"] == 497
    await store.exchange(report("p1", leaves=1))
    clock.now += 100.0
    assert (await store.exchange(report("p2", remaining=[600, 3500.0, 60.0])))["remaining"] == 497
    assert (await store.exchange(report("p2", remaining=[400, 3500.0, 60.0])))["remaining"] == 400
    assert (await store.exchange(report("p2", remaining=[450, 3500.0, 0.0])))["remaining"] == 450
    # The next day
    assert (await store.exchange(report("p2", remaining=[1000, 86400.0, 0.0])))["remaining"] == 1000


async def test_starts_wait_while_the_rest_of_the_day_is_reserved(store: QuotaStore) -> None:
    await store.exchange(report("p1", remaining=[10, 3600.0, 0.0], reserved=4))
    await store.exchange(report("p2", runs={"run": 6}, sequence=1))
    start = report("p2", permits=permits(1, starts_work=1), sequence=1)
    result = await store.exchange(start)
    assert (result["permits"][0][0], result["reserved"]) == (4, 10)
    result = await store.exchange(report("p2", runs={"run": -2}, sequence=2, permits=permits(1, starts_work=1)))
    assert (granted(result), result["reserved"]) == (1, 8)


async def test_a_repeated_report_changes_the_reservation_of_a_run_once(store: QuotaStore) -> None:
    repeated = report("p1", runs={"run": 6}, sequence=1, held={"c1": 1})
    for _ in range(3):
        assert (await store.exchange(repeated))["reserved"] == 6
    # It outlives the process that made it.
    assert (await store.exchange(report("p1", leaves=1)))["reserved"] == 6


async def test_reservations_of_a_run_expire_with_the_day(store: QuotaStore, clock: Clock) -> None:
    await store.exchange(report("p1", remaining=[10, 60.0, 0.0], runs={"run": 6}, sequence=1))
    clock.now += 61.0
    assert (await store.exchange(report("p1")))["reserved"] == 0


async def test_addresses_have_a_rate_each_and_clients_a_daily_quota_each(store: QuotaStore) -> None:
    await store.exchange(report("p1", address="a1", exhausted=[60.0, 0.0], pauses={"": 10.0}))
    same_client = await store.exchange(report("p2", address="a2"))
    assert (same_client["exhausted"], same_client["pause"]) == (approx(60.0), 0.0)
    same_address = await store.exchange(report("p3", address="a1", client="other"))
    assert (same_address["exhausted"], same_address["pause"]) == (0.0, approx(10.0))


async def test_a_process_learns_the_limits_of_another_one_that_is_live(store: QuotaStore, clock: Clock) -> None:
    one, other = report("p1", per_minute=500), report("p2", concurrent=7, per_company=3)
    assert (await store.exchange(one))["limits"] == [500, 100, 10]
    assert (await store.exchange(other))["limits"] == [500, 100, 10]
    assert (await store.exchange(one))["limits"] == [600, 7, 3]
    # Of another client, only the rate is shared.
    assert (await store.exchange(report("p3", client="other")))["limits"] == [500, 100, 10]
    assert (await store.exchange(report("p4", address="elsewhere")))["limits"] == [600, 100, 10]
    # After a restart of all processes with another quota, also when one of them was killed.
    clock.now += 31.0
    assert (await store.exchange(report("p5", per_minute=700)))["limits"] == [700, 100, 10]


def random_report(random: Random) -> QuotaReport:
    made = report(
        f"p{random.randrange(4)}",
        rate=random.choice([None, 100, 600]),
        per_minute=random.choice([100, 600]),
        address=random.choice(["a1", "a2"]),
        held={company: random.randrange(1, 4) for company in random.sample(COMPANIES, random.randrange(3))},
        reserved=random.randrange(3),
        leaves=int(random.random() < 0.05),
        concurrent=random.choice([8, 100]),
        per_company=random.choice([4, 10]),
        permits=[
            (random.choice(COMPANIES), random.randrange(2), random.randrange(2)) for _ in range(random.randrange(17))
        ],
    )
    if random.random() < 0.1:
        made["pauses"] = {random.choice(COMPANIES): random.choice([0.0, 0.3, 5.0])}
    if random.random() < 0.05:
        made["exhausted"] = [random.choice([2.0, 100.0]), random.choice([0.0, NOON])]
    if random.random() < 0.3:
        made["remaining"] = [random.randrange(60), random.choice([10.0, 500.0]), random.choice([0.0, 0.5, 3.0])]
    if random.random() < 0.2:
        made["runs"] = {random.choice(["r1", "r2"]): random.randrange(-5, 9)}
        made["sequence"] = random.randrange(200)
    return made


@pytest.mark.real
@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_the_scripts_of_the_servers_follow_the_same_rules(
    kind: str, clock: Clock, tmp_path: Path, url_of: UrlOf
) -> None:
    random, expected = Random(7), MemoryQuotaStore(clock)
    async with store_of(kind, clock, tmp_path, url_of) as other:
        for step in range(3000):
            clock.now += random.choice([0.0, 0.001, 0.1, 0.1, 0.7, 4.0])
            if random.random() < 0.01:
                clock.now += random.choice([-500.0, -1.0, 11.0, 100.0])
            made = random_report(random)
            want, found = await expected.exchange(made), await other.exchange(made)
            assert plain(found) == plain(want), (step, made)


def plain(result: QuotaResult) -> dict[str, Any]:
    """Return a result with its numbers rounded to what JSON in Lua keeps."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [rounded(each) for each in value]
        return round(value, 4) + 0.0

    return {name: rounded(value) for name, value in result.items()}


async def test_a_file_that_another_process_locks_is_unavailable_after_a_second(tmp_path: Path) -> None:
    store = FileQuotaStore(tmp_path / "quota.db")
    await store.exchange(report())
    with contextlib.closing(sqlite3.connect(tmp_path / "quota.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(StoreUnavailableError, match="locked by another process"):
            await store.exchange(report())
        assert 0.9 < loop.time() - started < 1.5
        other.execute("ROLLBACK")
    assert (await store.exchange(report()))["processes"] == 1
    await store.aclose()


@pytest.fixture
def unusable() -> Iterator[Path]:
    with unusable_paths() as root:
        yield root


@all_cases("name, mistake", MISTAKES)
async def test_a_path_that_cannot_work_is_reported_as_a_mistake(unusable: Path, name: str, mistake: str) -> None:
    with pytest.raises(SharedQuotaError, match=f"^the shared quota cannot be kept in .*/{name}: {mistake}; "):
        await FileQuotaStore(unusable / name).exchange(report())


async def test_a_full_disk_is_an_outage_and_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch)
    with pytest.raises(StoreUnavailableError, match="disk is full"):
        await FileQuotaStore(tmp_path / "quota.db").exchange(report())


async def test_a_state_that_cannot_be_read_is_unavailable_and_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "quota.db"
    store = FileQuotaStore(path)
    await store.exchange(report())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM codat_quota_1")
        with pytest.raises(StoreUnavailableError, match="the row of the state is missing"):
            await store.exchange(report())
        assert (await store.exchange(report()))["processes"] == 1
        other.execute("UPDATE codat_quota_1 SET state = x'0102'")
        with pytest.raises(StoreUnavailableError, match=r"quota.db: unexpected character"):
            await store.exchange(report())
        assert other.execute("SELECT state FROM codat_quota_1").fetchall() == [(b"\x01\x02",)]
        for state in (b"null", b"[]", b'{"addresses": [], "clients": {}}', b'{"addresses": {"ip": {}}, "clients": {}}'):
            other.execute("UPDATE codat_quota_1 SET state = ?", (state,))
            with pytest.raises(StoreUnavailableError, match=r"quota.db: "):
                await store.exchange({**report(), "address": "ip"})
            assert other.execute("SELECT state FROM codat_quota_1").fetchall() == [(state,)]
    await store.aclose()


async def test_several_connections_to_one_file_follow_the_same_rules(clock: Clock, tmp_path: Path) -> None:
    random, expected = Random(11), MemoryQuotaStore(clock)
    stores = [FileQuotaStore(tmp_path / "quota.db", clock=clock) for _ in range(2)]
    for step in range(800):
        clock.now += random.choice([0.0, 0.001, 0.1, 0.7, 4.0, 4.0])
        if random.random() < 0.02:
            clock.now += random.choice([-500.0, -1.0, 11.0, 100.0])
        made = random_report(random)
        want, found = await expected.exchange(made), await random.choice(stores).exchange(made)
        assert plain(found) == plain(want), (step, made)
    for store in stores:
        await store.aclose()


async def test_no_password_is_shown_when_a_server_cannot_be_reached() -> None:
    for store in (
        RedisQuotaStore("redis://user:secret-1@127.0.0.1:1/0"),
        PostgresQuotaStore("postgresql://user:secret-1@127.0.0.1:1/db"),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            await store.exchange(report())
        assert "secret-1" not in f"{caught.value!r} {caught.value} {store!r}"
        await store.aclose()
    for make in (RedisQuotaStore, PostgresQuotaStore):
        with pytest.raises(ValueError, match="must be") as invalid:
            make("host=x secret-1")
        assert "secret-1" not in str(invalid.value)


def test_a_rate_of_few_requests_has_an_interval() -> None:
    intervals = {number: Limits(Quota(per_minute=number)).interval for number in (1, 2, 99, 950, 1000)}
    assert min(intervals.values()) > 0
    assert intervals[950] * (950 - 10) == approx(60.001)
    assert math.isclose(intervals[1], 60.001)
