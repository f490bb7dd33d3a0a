"""`Simulator`: a Codat of one's own, to set up, to call, and to ask what happened."""

import copy
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from threading import RLock
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import parse_qs, urlsplit

from codat_commerce_async.simulator._api.api import Api
from codat_commerce_async.simulator._api.faults import FaultPlan, FaultStep, to_steps
from codat_commerce_async.simulator._api.http import RecordedRequest, Request, Response
from codat_commerce_async.simulator._api.routes import OPERATIONS
from codat_commerce_async.simulator._page.overview import serialize_state
from codat_commerce_async.simulator._page.page import browsed
from codat_commerce_async.simulator._server import Server
from codat_commerce_async.simulator._state.catalog import PLATFORMS
from codat_commerce_async.simulator._state.clock import Clock
from codat_commerce_async.simulator._state.configuration_rules import validation_errors
from codat_commerce_async.simulator._state.quota import RequestQuota, RequestQuotaState
from codat_commerce_async.simulator._state.records import STATUSES, Company, ScriptedSync, Sync
from codat_commerce_async.simulator._state.serializers import serialize_company
from codat_commerce_async.simulator._state.store import Store
from codat_commerce_async.simulator._state.syncs import NewSync, SyncRules, period_to_latest, usual_duration
from codat_commerce_async.simulator._thread import ServerThread

__all__ = ["Simulator"]

_EVEN = {2000: 0.9, 2040: 0.1}
_MOMENT = 1e-3

T = TypeVar("T")
R = TypeVar("R")


def _one_thread_at_a_time(cls: type[T]) -> type[T]:
    """Let each public method and property of a class hold the object's lock."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property) and member.fget is not None:
            setattr(cls, name, property(_locked(member.fget), doc=member.__doc__))
        elif callable(member):
            setattr(cls, name, _locked(member))
    return cls


def _locked(method: Callable[..., R]) -> Callable[..., R]:
    @wraps(method)
    def locked(self: "Simulator", *args: object, **options: object) -> R:
        with self._lock:
            return method(self, *args, **options)

    return locked


@_one_thread_at_a_time
class Simulator:
    """Codat's Sync for Commerce API, simulated. `handle` needs no socket.

    `async with` serves it on loopback from the running event loop, `with` from a thread of its own: for code that
    blocks, and for more than one event loop. Its methods may be called from any thread.

    Its clock starts at `now()` and runs `speed` simulated seconds per real one; everything that Codat times
    follows it, only `Retry-After` and the seconds of a `Fault` are real ones. The same seed, calls and
    times give the same answers. What is not given behaves as Codat's documentation says; where that is
    silent, as follows, which is this simulator's reading and no fact about Codat:

    - asking after a company's newest sync while there is none answers 404, listing its syncs an empty list;
    - a sync's period is taken while the sync runs and once it went well, not after it failed;
    - a disabled configuration, or a missing link, ends a sync with 4000 within a second;
    - a second use of an idempotency key at another endpoint is a 422, and a key on GET or PUT means nothing;
    - the error texts, the keys of the Sync flow's texts and the options of configurations are made up.

    At most one fault befalls an exchange. It does not simulate the bound on concurrent requests, the blocking of an
    address that goes on beyond the quota, the data behind a sync, Link, time zones (a daily sync runs at its hour in
    UTC), or the parts of Codat's query language that compare by more than equality. Webhooks wait in `events` until
    a `WebhookSender` posts them.

    In a browser, `url` shows all of this as it happens; the page takes no key and is in neither log nor quota.
    """

    def __init__(
        self,
        *,
        api_key: str = "simulator-key",
        seed: int = 0,
        speed: float = 1.0,
        port: int = 0,
        now: Callable[[], float] | None = None,
        faults: FaultPlan | None = None,
        quota: RequestQuota | None = None,
        durations: Callable[[random.Random], float] = usual_duration,
        outcomes: Mapping[int, float] | None = None,
        visibility_delay: float = 0.0,
        find_by_commerce_id: bool = False,
        daily_schedule: bool = False,
        company_limit: int | None = None,
        clock_skew: float = 0.0,
        log_size: int = 10_000,
    ) -> None:
        for name, function in (("now", now), ("durations", durations)):
            if iscoroutinefunction(function):
                raise TypeError(f"{name} must be a plain function, not a coroutine function (`async def`)")
        self._lock = RLock()
        rules = SyncRules(durations, _EVEN if outcomes is None else outcomes, visibility_delay, find_by_commerce_id)
        self.api_key = api_key
        self._clock = Clock(time.time if now is None else now, speed)
        self._store = Store(seed=seed, rules=rules, daily_schedule=daily_schedule, company_limit=company_limit)
        self._quota = RequestQuotaState(quota or RequestQuota(), lambda: self._store.linked_companies, self._store.emit)
        self._api = Api(
            self._store,
            self._clock,
            api_key=api_key,
            quota=self._quota,
            faults=(faults or FaultPlan()).injector(OPERATIONS),
            clock_skew=clock_skew,
            log_size=log_size,
            seed=seed,
        )
        self._server = Server(lambda request: browsed(request, self.state) or self.handle(request), port)
        self._thread = ServerThread(self._server)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.stop()

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()

    @property
    def url(self) -> str:
        """The base URL while it is served; RuntimeError otherwise."""
        return self._server.url

    @property
    def client_id(self) -> str:
        """The id of the client that the API key belongs to."""
        return self._store.client_id

    def handle(self, request: Request) -> Response:
        """The response to a request; its `fault` and `delay` are for the caller to act out."""
        return self._api.handle(request)

    def now(self) -> float:
        """The simulated time, in epoch seconds."""
        return self._clock.now()

    def advance(self, seconds: float) -> None:
        """Move the simulated time on; what is due by then happens."""
        self._clock.advance(seconds)
        self._run_due_events()

    def finish_syncs(self) -> None:
        """Move the simulated time on until every running sync has ended, but for those that never end."""
        now = self._run_due_events()
        ends = [sync.ends for sync in self._store.statistics.latest_running(None) if math.isfinite(sync.ends)]
        # The sum of two times can be rounded to just before the later one.
        self.advance(max(ends) - now + _MOMENT if ends else 0.0)

    def next_due(self) -> float | None:
        """Say when something happens by itself next (a sync ends, a daily one starts), in simulated time."""
        self._run_due_events()
        return self._store.next_due()

    def add_company(self, name: str | None = None, *, company_id: str | None = None) -> str:
        """A new company's id."""
        name = f"Company {len(self._store.companies) + 1}" if name is None else name
        return self._store.add_company(self._run_due_events(), name, company_id).id

    def add_connection(self, company_id: str, platform_key: str, *, status: str = "Linked") -> str:
        """A new connection's id."""
        if platform_key not in PLATFORMS:
            raise ValueError(f"platform_key takes one of {', '.join(PLATFORMS)}")
        now = self._run_due_events()
        return self._store.add_connection(self._company(company_id), PLATFORMS[platform_key], now, _status(status)).id

    def add_linked_company(
        self,
        name: str | None = None,
        *,
        company_id: str | None = None,
        commerce: str = "fztf",
        accounting: str = "gbol",
    ) -> str:
        """The id of a new company that can sync: commerce and accounting are linked."""
        company_id = self.add_company(name, company_id=company_id)
        self.add_connection(company_id, commerce)
        self.add_connection(company_id, accounting)
        return company_id

    def delete_company(self, company_id: str) -> None:
        """Delete a company; its syncs are forgotten."""
        now = self._run_due_events()
        self._store.delete_company(self._company(company_id).id, now)

    def set_connection_status(self, company_id: str, connection_id: str, status: str) -> None:
        """Change a connection's status, as the merchant would."""
        now, company = self._run_due_events(), self._company(company_id)
        self._store.set_status(company, company.connections[connection_id], _status(status), now)

    def delete_connection(self, company_id: str, connection_id: str) -> None:
        """Delete a connection."""
        now, company = self._run_due_events(), self._company(company_id)
        self._store.delete_connection(company, company.connections[connection_id], now)

    def complete_sync_flow(self, url: str) -> bool:
        """Walk through a Sync flow as its merchant; False when the passcode is used or too old."""
        now, parts = self._run_due_events(), urlsplit(url)
        company = self._company(parts.path.split("/")[1])
        passcode = parse_qs(parts.query).get("otp", [""])[0]
        if not self._store.redeem_passcode(company.id, passcode, now):
            return False
        for connection in company.connections.values():
            self._store.set_status(company, connection, "Linked", now)
        return True

    def company_ids(self) -> tuple[str, ...]:
        """Every company, in the order of creation."""
        return tuple(self._store.companies)

    def company(self, company_id: str) -> Mapping[str, object]:
        """A company with its connections, as the API shows it."""
        self._run_due_events()
        return serialize_company(self._company(company_id))

    def configuration(self, company_id: str) -> Mapping[str, object]:
        """A company's configuration as Codat holds it."""
        return self._store.configuration(self._company(company_id))

    def set_configuration(self, company_id: str, configuration: Mapping[str, object]) -> None:
        """Replace a company's configuration; ValueError for one that the API would refuse."""
        now, company = self._run_due_events(), self._company(company_id)
        if found := validation_errors(dict(configuration)):
            raise ValueError("; ".join(message for _, message in found))
        self._store.set_configuration(company, copy.deepcopy(dict(configuration)), now)

    def script_sync(self, company_id: str, *outcomes: ScriptedSync | int) -> None:
        """Say how the company's next syncs go, one outcome (or code) each."""
        self._company(company_id).script.extend(_outcome(outcome) for outcome in outcomes)

    def start_external_sync(self, company_id: str, outcome: ScriptedSync | int | None = None) -> str:
        """The id of a new sync that was not requested through the API."""
        now, company = self._run_due_events(), self._company(company_id)
        planned = None if outcome is None else _outcome(outcome)
        request = NewSync(period_to_latest(company, now), source="external", outcome=planned)
        return self._store.start_sync(company, now, request).sync_id

    def syncs(self, company_id: str) -> tuple[Sync, ...]:
        """What ran for a company, by start; `sync.code(simulator.now())` says where it has got to."""
        self._run_due_events()
        return tuple(self._company(company_id).syncs)

    def syncs_started(self, company_id: str) -> int:
        """How many syncs were started through the API."""
        return sum(sync.source == "api" for sync in self._company(company_id).syncs)

    def set_fault(self, operation: str, *planned: FaultStep) -> None:
        """Plan what befalls the next exchanges of an operation (`"*"`: of any), after what is planned."""
        self._api.faults.plan(operation, to_steps(planned))

    def set_faults(self, faults: FaultPlan) -> None:
        """Replace everything that was said about faults."""
        self._api.faults = faults.injector(OPERATIONS)

    def set_remaining_quota(self, remaining: int) -> None:
        """Use up today's quota but for so many requests."""
        self._quota.set_remaining(remaining, self._run_due_events())

    def rotate_api_key(self, api_key: str) -> None:
        """Take another API key from now on; the old one is answered with 403."""
        self._api.rotate_key(api_key)
        self.api_key = api_key

    def state(self) -> Mapping[str, object]:
        """Counts, and the latest of everything, as the page on the simulator's address shows them."""
        self._run_due_events()
        return serialize_state(self._store, self._quota, self._api, self._clock)

    @property
    def requests(self) -> Sequence[RecordedRequest]:
        """The last requests, oldest first; never with an `Authorization`."""
        return tuple(self._api.requests)

    def expire_account(self) -> None:
        """Answer everything with 402 from now on, as for an account whose time is over."""
        self._api.expired = True

    def renew_account(self) -> None:
        """Answer as usual again."""
        self._api.expired = False

    @property
    def peak_per_minute(self) -> int:
        """The most requests that reached Codat within any 60 simulated seconds."""
        return self._quota.peak_per_minute

    @property
    def events(self) -> Sequence[Mapping[str, object]]:
        """What webhooks would have told, oldest first, as their envelopes."""
        self._run_due_events()
        return tuple(self._store.events)

    def take_events(self) -> Sequence[Mapping[str, object]]:
        """The events, which are no longer in the queue then."""
        taken = self.events
        self._store.events.clear()
        return taken

    def _run_due_events(self) -> float:
        now = self._clock.now()
        self._store.run_due_events(now)
        return now

    def _company(self, company_id: str) -> Company:
        company = self._store.companies.get(company_id)
        if company is None:
            raise KeyError(f"the simulator knows no company {company_id}")
        return company


def _status(status: str) -> str:
    if status not in STATUSES:
        raise ValueError(f"status takes one of {', '.join(STATUSES)}")
    return status


def _outcome(outcome: ScriptedSync | int) -> ScriptedSync:
    return ScriptedSync(outcome) if isinstance(outcome, int) else outcome
