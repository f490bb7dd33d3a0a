"""`Simulator`: set up a simulated Codat, call it, and inspect what happened."""

import copy
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from threading import RLock
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import parse_qs, urlsplit

from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async._core.validation import (
    check_instance,
    check_int,
    check_number,
    check_seconds,
    check_str,
    require,
)
from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.simulator._api.api import Api
from codat_commerce_async.simulator._api.faults import FaultPlan, FaultStep, fault_injector, to_steps
from codat_commerce_async.simulator._api.http import RecordedRequest, Request, Response
from codat_commerce_async.simulator._api.routes import OPERATIONS
from codat_commerce_async.simulator._page.overview import serialize_state
from codat_commerce_async.simulator._page.page import page_response
from codat_commerce_async.simulator._server import Server
from codat_commerce_async.simulator._state.catalog import PLATFORMS
from codat_commerce_async.simulator._state.clock import SimulatedClock
from codat_commerce_async.simulator._state.configuration import validation_errors
from codat_commerce_async.simulator._state.quota import RequestQuota, RequestQuotaState
from codat_commerce_async.simulator._state.records import STATUSES, Company, PushRecord, ScriptedSync, Sync
from codat_commerce_async.simulator._state.serializers import serialize_company
from codat_commerce_async.simulator._state.store import Store
from codat_commerce_async.simulator._state.syncs import (
    NewSync,
    SyncRules,
    period_to_latest,
    usual_duration,
    usual_outcomes,
)
from codat_commerce_async.simulator._thread import ServerThread

__all__ = ["Simulator"]

_MOMENT = 1e-3

T = TypeVar("T")
R = TypeVar("R")


def _one_thread_at_a_time(cls: type[T]) -> type[T]:
    """Run each public method and property of a class under the object's lock."""
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

    `async with` serves it on loopback from the running event loop, `with` from its own thread: for code that blocks,
    and for several event loops. Its methods may be called from any thread.

    Its clock starts at `now()` and runs `speed` simulated seconds per real second. All of Codat's times follow it,
    except for `Retry-After` and the seconds of a `Fault`, which are real. The same seed, calls and times give the same
    responses. The simulator follows Codat's documentation. In cases that are not documented it does the following,
    which Codat may do differently:

    - the newest sync of a company without syncs is a 404, the list of its syncs is empty;
    - a sync occupies its period while it runs and after it has succeeded, not after it has failed;
    - with a disabled configuration or a missing link, a sync ends with 4000 within a second;
    - an idempotency key that is reused at another endpoint gets a 422; a key on GET or PUT is ignored;
    - error texts, the keys of the Sync flow's texts and the options of configurations are invented.

    A request has at most one fault. Not simulated are the limit on concurrent requests, the blocking of an address that
    continues beyond the quota, the data behind a sync, Link, time zones (a daily sync starts at its hour in UTC), and
    comparisons other than equality in Codat's query language. Webhooks are in `events` until a `WebhookSender` posts
    them.

    In a browser, `url` shows the state as it changes; the page needs no key, is not logged and does not count against
    the quota.

    Args:
        api_key: The key that requests must have.
        seed: The seed of ids, durations and outcomes.
        speed: Simulated seconds per real second.
        port: The port to serve at; 0 for any.
        now: Returns the time that the clock starts at, in epoch seconds.
        faults: The faults of requests.
        quota: The limits on requests; Codat's by default.
        durations: Returns how many simulated seconds a sync takes.
        outcomes: The shares of final status codes and causes.
        visibility_delay: Seconds after which a started sync becomes visible.
        find_by_commerce_id: Whether the status can be requested by the commerce sync id too.
        daily_schedule: Whether daily syncs of the configurations are started.
        company_limit: The number of companies above which creating one is refused with 402.
        clock_skew: Seconds by which the `Date` header is ahead.
        log_size: The number of requests that are kept.

    Example:
        ```python
        async with Simulator(seed=7, speed=100) as simulator:
            shop = simulator.add_linked_company("Alder Bakery")
            simulator.script_sync(shop, ScriptedSync(5130, duration=90, message="No such tax rate."))
            async with CodatCommerce(simulator.api_key, base_url=simulator.url) as client:
                status = await client.sync.run(shop, raise_on_failure=False)
        assert status.error_message == "No such tax rate."
        ```
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
        outcomes: Mapping[int | FailureCause, float] | None = None,
        visibility_delay: float = 0.0,
        find_by_commerce_id: bool = False,
        daily_schedule: bool = False,
        company_limit: int | None = None,
        clock_skew: float = 0.0,
        log_size: int = 10_000,
    ) -> None:
        check_str("api_key", api_key)
        require(bool(api_key), "api_key", "a key that requests have to send", api_key)
        check_int("seed", seed)
        check_int("port", port, at_least=0, at_most=65535)
        check_int("log_size", log_size, at_least=0)
        check_seconds("clock_skew", abs(check_number("clock_skew", clock_skew)), finite=True)
        check_instance("quota", quota or RequestQuota(), RequestQuota)
        check_instance("faults", faults or FaultPlan(), FaultPlan)
        if company_limit is not None:
            check_int("company_limit", company_limit, at_least=0)
        if now is not None:
            check_function("now", now)
        self._lock = RLock()
        rules = SyncRules(
            durations, usual_outcomes() if outcomes is None else outcomes, visibility_delay, find_by_commerce_id
        )
        self.api_key = api_key
        self._clock = SimulatedClock(time.time if now is None else now, speed)
        self._store = Store(seed=seed, rules=rules, daily_schedule=daily_schedule, company_limit=company_limit)
        self._quota = RequestQuotaState(quota or RequestQuota(), lambda: self._store.linked_companies, self._store.emit)
        self._api = Api(
            self._store,
            self._clock,
            api_key=api_key,
            quota=self._quota,
            faults=fault_injector(faults or FaultPlan(), OPERATIONS),
            clock_skew=clock_skew,
            log_size=log_size,
            seed=seed,
        )
        self._server = Server(lambda request: page_response(request, self.state) or self.handle(request), port)
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
        """The base URL.

        Raises:
            RuntimeError: The simulator is not entered.
        """
        return self._server.url

    @property
    def client_id(self) -> str:
        """The id of the client that the API key belongs to."""
        return self._store.client_id

    def handle(self, request: Request) -> Response:
        """Return the response to a request; the caller has to apply its `fault` and `delay`.

        Args:
            request: The request.
        """
        return self._api.handle(request)

    def now(self) -> float:
        """Return the simulated time in epoch seconds."""
        return self._clock.now()

    def advance(self, seconds: float) -> None:
        """Advance the simulated time, and run the events that are due by then.

        Args:
            seconds: Simulated seconds.
        """
        self._clock.advance(seconds)
        self._run_due_events()

    def finish_syncs(self) -> None:
        """Advance the simulated time until all running syncs have ended, except for those that never end."""
        now = self._run_due_events()
        ends = [sync.ends for sync in self._store.statistics.latest_running(None) if math.isfinite(sync.ends)]
        # The sum of two times can be rounded down to just before the later one.
        self.advance(max(ends) - now + _MOMENT if ends else 0.0)

    def next_due(self) -> float | None:
        """Return the simulated time of the next event (a sync ends, a daily one starts); None without one."""
        self._run_due_events()
        return self._store.next_due()

    def add_company(self, name: str | None = None, *, company_id: str | None = None) -> str:
        """Add a company and return its id.

        Args:
            name: The name; None for a number.
            company_id: The id; None for a generated one.
        """
        name = f"Company {len(self._store.companies) + 1}" if name is None else name
        return self._store.add_company(self._run_due_events(), name, company_id).id

    def add_connection(self, company_id: str, platform_key: str, *, status: str = "Linked") -> str:
        """Add a connection and return its id.

        Args:
            company_id: The id of the company.
            platform_key: The platform's four letters.
            status: The status of the connection.
        """
        if platform_key not in PLATFORMS:
            raise ValueError(f"platform_key must be one of {', '.join(PLATFORMS)} (got {platform_key!r})")
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
        """Add a company with linked commerce and accounting platforms, and return its id.

        Args:
            name: The name; None for a number.
            company_id: The id; None for a generated one.
            commerce: The four letters of the commerce platform.
            accounting: The four letters of the accounting platform.
        """
        company_id = self.add_company(name, company_id=company_id)
        self.add_connection(company_id, commerce)
        self.add_connection(company_id, accounting)
        return company_id

    def delete_company(self, company_id: str) -> None:
        """Delete a company and its syncs.

        Args:
            company_id: The id of the company.
        """
        now = self._run_due_events()
        self._store.delete_company(self._company(company_id).id, now)

    def set_connection_status(self, company_id: str, connection_id: str, status: str) -> None:
        """Change the status of a connection.

        Args:
            company_id: The id of the company.
            connection_id: The id of the connection.
            status: The new status.
        """
        now, company = self._run_due_events(), self._company(company_id)
        self._store.set_status(company, company.connections[connection_id], _status(status), now)

    def delete_connection(self, company_id: str, connection_id: str) -> None:
        """Delete a connection.

        Args:
            company_id: The id of the company.
            connection_id: The id of the connection.
        """
        now, company = self._run_due_events(), self._company(company_id)
        self._store.delete_connection(company, company.connections[connection_id], now)

    def complete_sync_flow(self, url: str) -> bool:
        """Complete a Sync flow as its merchant; return False if the passcode is used or too old.

        Args:
            url: The URL that `get_sync_flow_url` returned.
        """
        now, parts = self._run_due_events(), urlsplit(url)
        company = self._company(parts.path.split("/")[1])
        passcode = parse_qs(parts.query).get("otp", [""])[0]
        if not self._store.redeem_passcode(company.id, passcode, now):
            return False
        for connection in company.connections.values():
            self._store.set_status(company, connection, "Linked", now)
        return True

    def company_ids(self) -> tuple[str, ...]:
        """Return the ids of all companies, in the order of their creation."""
        return tuple(self._store.companies)

    def company(self, company_id: str) -> Mapping[str, object]:
        """Return a company with its connections, as the API does.

        Args:
            company_id: The id of the company.
        """
        self._run_due_events()
        return serialize_company(self._company(company_id))

    def configuration(self, company_id: str) -> Mapping[str, object]:
        """Return a company's configuration.

        Args:
            company_id: The id of the company.
        """
        return self._store.configuration(self._company(company_id))

    def set_configuration(self, company_id: str, configuration: Mapping[str, object]) -> None:
        """Replace a company's configuration; raise ValueError if the API would refuse it.

        Args:
            company_id: The id of the company.
            configuration: The configuration in Codat's JSON.
        """
        now, company = self._run_due_events(), self._company(company_id)
        if found := validation_errors(dict(configuration)):
            raise ValueError("; ".join(message for _, message in found))
        self._store.set_configuration(company, copy.deepcopy(dict(configuration)), now)

    def script_sync(self, company_id: str, *outcomes: ScriptedSync | FailureCause | int) -> None:
        """Script the outcomes of the company's next syncs, in order; an int is a final code, a cause fails the sync.

        Args:
            company_id: The id of the company.
            *outcomes: The outcomes, in order.
        """
        self._company(company_id).script.extend(_outcome(outcome) for outcome in outcomes)

    def cause_failure(self, company_id: str, cause: FailureCause | str) -> None:
        """Let the company's syncs fail because of a cause, until it is repaired, or corrected through the API.

        The state of the company shows it: an unmapped account is without a selection in its configuration, a
        de-authorized connection has that status. With `DUPLICATE_PERIOD` and `OVERLAPPING_PERIOD`, a sync of the
        period is started, and only the next one fails. With `DELETED_COMPANY`, the syncs fail like those of a deleted
        company, which `delete_company` removes.

        Args:
            company_id: The id of the company.
            cause: The cause.
        """
        now, company = self._run_due_events(), self._company(company_id)
        self._store.cause_failure(company, FailureCause(cause), now)

    def repair(self, company_id: str) -> None:
        """Remove the causes of failures as the merchant or Codat: link the connections, restore the configuration.

        Args:
            company_id: The id of the company.
        """
        now, company = self._run_due_events(), self._company(company_id)
        self._store.repair(company, now)

    def add_push_operation(
        self,
        company_id: str,
        *,
        data_type: str = "journalEntries",
        error: str | None = None,
        items: Mapping[str, str] | None = None,
    ) -> str:
        """Add a push operation that has ended just now, and return its key; with an `error` it has failed.

        `items` are the messages of the validation errors, by the id of the item.

        Args:
            company_id: The id of the company.
            data_type: The data type that was written.
            error: Why the write failed; None for a success.
            items: The messages of the validation errors, by the id of the item.
        """
        now, company = self._run_due_events(), self._company(company_id)
        connection = next(
            (one for one in company.connections.values() if one.platform.source_type == "Accounting"), None
        )
        if connection is None:
            raise ValueError(f"company_id must be that of a company with an accounting connection (got {company_id!r})")
        refused = tuple((items or {}).items())
        push = PushRecord(self._store.new_id(), connection.id, data_type, now, now, error, refused)
        company.pushes.append(push)
        return push.key

    def start_external_sync(self, company_id: str, outcome: ScriptedSync | int | None = None) -> str:
        """Start a sync that was not requested through the API, and return its id.

        Args:
            company_id: The id of the company.
            outcome: The outcome; None for a random one.
        """
        now, company = self._run_due_events(), self._company(company_id)
        scripted = None if outcome is None else _outcome(outcome)
        request = NewSync(period_to_latest(company, now), source="external", outcome=scripted)
        return self._store.start_sync(company, now, request).sync_id

    def syncs(self, company_id: str) -> tuple[Sync, ...]:
        """Return a company's syncs in the order of their start; `sync.code(simulator.now())` is the current status.

        Args:
            company_id: The id of the company.
        """
        self._run_due_events()
        return tuple(self._company(company_id).syncs)

    def syncs_started(self, company_id: str) -> int:
        """Return the number of syncs that were started through the API.

        Args:
            company_id: The id of the company.
        """
        return sum(sync.source == "api" for sync in self._company(company_id).syncs)

    def set_fault(self, operation: str, *steps: FaultStep) -> None:
        """Append the faults of the next requests of an operation (`"*"`: of any).

        Args:
            operation: The name of the operation, `"*"` for any.
            *steps: The faults of the next requests, in order.
        """
        self._api.faults.plan(operation, to_steps(steps))

    def set_faults(self, faults: FaultPlan) -> None:
        """Replace all faults.

        Args:
            faults: The new faults.
        """
        self._api.faults = fault_injector(faults, OPERATIONS)

    def set_remaining_quota(self, remaining: int) -> None:
        """Set how many requests of today's quota are left.

        Args:
            remaining: The number of requests.
        """
        self._quota.set_remaining(remaining, self._run_due_events())

    def rotate_api_key(self, api_key: str) -> None:
        """Replace the API key; requests with the old one get 403.

        Args:
            api_key: The new key.
        """
        self._api.rotate_key(api_key)
        self.api_key = api_key

    def state(self) -> Mapping[str, object]:
        """Return counts, and the latest companies, syncs and requests, as the page at `url` shows them."""
        self._run_due_events()
        return serialize_state(self._store, self._quota, self._api, self._clock)

    @property
    def requests_by_process(self) -> Mapping[str, int]:
        """The number of requests per client process, as named by `process/NAME` in the User-Agent.

        `/simulator/state` has them too, as `requests.byProcess`, and the busiest 60 seconds as `quota.peakPerMinute`.
        """
        return dict(self._api.requests_by_process)

    @property
    def requests(self) -> Sequence[RecordedRequest]:
        """The last requests, oldest first, without their `Authorization`."""
        return tuple(self._api.requests)

    def expire_account(self) -> None:
        """Respond to every request with 402, as for an expired account."""
        self._api.expired = True

    def renew_account(self) -> None:
        """Undo `expire_account`."""
        self._api.expired = False

    @property
    def peak_per_minute(self) -> int:
        """The largest number of requests that reached Codat within any 60 simulated seconds."""
        return self._quota.peak_per_minute

    @property
    def events(self) -> Sequence[Mapping[str, object]]:
        """The events that wait for a `WebhookSender`, oldest first, as the bodies of webhooks."""
        self._run_due_events()
        return tuple(self._store.events)

    def take_events(self) -> Sequence[Mapping[str, object]]:
        """Return the events and remove them from the queue."""
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
            raise KeyError(f"the simulator has no company {company_id!r}")
        return company


def _status(status: str) -> str:
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)} (got {status!r})")
    return status


def _outcome(outcome: ScriptedSync | FailureCause | int) -> ScriptedSync:
    if isinstance(outcome, FailureCause):
        return ScriptedSync.failing(outcome)
    return ScriptedSync(outcome) if isinstance(outcome, int) else outcome
