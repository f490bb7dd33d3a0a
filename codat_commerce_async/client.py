"""The client: settings in, resources out."""

import math
import os
import ssl
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from random import Random, SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypedDict, TypeVar, Unpack, get_type_hints, overload

from codat_commerce_async._core.address import note_client
from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.instrumentation import Instrumentation
from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.lifecycle import Clock, Lifecycle
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.rate_limiter import LocalRateLimiter, RateLimiter
from codat_commerce_async._core.request import Query
from codat_commerce_async._core.secrecy import hides_arguments
from codat_commerce_async._core.transport import (
    AiohttpTransport,
    Connector,
    Session,
    Transport,
    parse_base_url,
)
from codat_commerce_async.hooks import Hooks
from codat_commerce_async.models.call import ApiResponse, RateLimit
from codat_commerce_async.policies import CallOptions, PollPolicy, Quota, RetryPolicy, Timeouts
from codat_commerce_async.syncing._notifications import Notifier

if TYPE_CHECKING:
    from codat_commerce_async.resources import advanced_controls as _advanced_controls
    from codat_commerce_async.resources import connections as _connections
    from codat_commerce_async.resources import integrations as _integrations
    from codat_commerce_async.resources import sync as _sync
    from codat_commerce_async.resources import sync_flow_settings as _sync_flow_settings
else:
    # Each resource is loaded by whoever uses it: its models take longer to make than all the rest.
    _advanced_controls = LazyModule("codat_commerce_async.resources.advanced_controls")
    _connections = LazyModule("codat_commerce_async.resources.connections")
    _integrations = LazyModule("codat_commerce_async.resources.integrations")
    _sync = LazyModule("codat_commerce_async.resources.sync")
    _sync_flow_settings = LazyModule("codat_commerce_async.resources.sync_flow_settings")

__all__ = ["BASE_URL", "CodatCommerce", "Settings"]

T = TypeVar("T")
ResourceT = TypeVar("ResourceT")

BASE_URL = "https://api.codat.io"


class Settings(TypedDict, total=False):
    """What a client takes besides its key; `CodatCommerce` says what each is for."""

    base_url: str
    session: Session | None
    connector: Connector | None
    proxy: str | None
    ssl_context: ssl.SSLContext | None
    trust_env: bool
    retry: RetryPolicy | None
    poll: PollPolicy | None
    timeouts: Timeouts | None
    quota: Quota | None
    rate_limiter: RateLimiter | None
    hooks: Hooks | None
    transport: Transport | None
    wall_clock: Callable[[], float]
    random: Random | None


class _Resource(Generic[ResourceT]):
    """A resource of a client, made when it is first used; on the client's class, the class of the resource.

    The latter is what documentation tools and `unittest.mock.create_autospec` go by.
    """

    def __init__(self, make: "Callable[[CodatCommerce], ResourceT]") -> None:
        self.func = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type[object]) -> type[ResourceT]: ...

    @overload
    def __get__(self, client: "CodatCommerce", owner: type[object]) -> ResourceT: ...

    def __get__(self, client: "CodatCommerce | None", owner: type[object]) -> ResourceT | type[ResourceT]:
        if client is None:
            kind: type[ResourceT] = get_type_hints(self.func)["return"]
            return kind
        # An attribute of the client's own goes before this descriptor from now on.
        resource = client.__dict__[self._name] = self.func(client)
        return resource


class CodatCommerce:
    """Codat's Sync for Commerce API, to be used with `async with` or closed with `aclose`.

    Takes the API key, raw or as the ready value of the Authorization header. Making a client touches neither network
    nor event loop; it then belongs to the loop that uses it first, and is not for several threads. A `session` that is
    given is borrowed: it is neither closed nor altered. Codat's ceiling per minute holds for an IP address: give the
    clients of one process the same `rate_limiter`, a `LocalRateLimiter`. `wall_clock` (epoch seconds) and `random` are
    there for simulations.

    Raises ValueError for settings that cannot work.
    """

    @hides_arguments
    def __init__(
        self,
        api_key: str | None = None,
        *,
        auth_header: str | None = None,
        base_url: str = BASE_URL,
        session: Session | None = None,
        connector: Connector | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trust_env: bool = False,
        retry: RetryPolicy | None = None,
        poll: PollPolicy | None = None,
        timeouts: Timeouts | None = None,
        quota: Quota | None = None,
        rate_limiter: RateLimiter | None = None,
        hooks: Hooks | None = None,
        transport: Transport | None = None,
        wall_clock: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        for name, value, kind in (
            ("retry", retry, RetryPolicy),
            ("poll", poll, PollPolicy),
            ("timeouts", timeouts, Timeouts),
            ("quota", quota, Quota),
            ("hooks", hooks, Hooks),
        ):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} takes a {kind.__name__}, not {type(value).__name__}")
        check_function("wall_clock", wall_clock)
        if quota is not None and rate_limiter is not None:
            raise ValueError("a rate limiter of your own has its own quota; give one or the other")
        self._base_url = parse_base_url(base_url)
        credentials = Credentials(api_key, auth_header)
        self._lifetime = Lifecycle()
        observer = Instrumentation(hooks or Hooks(), self._base_url, wall_clock)
        limiter = rate_limiter or LocalRateLimiter(quota or Quota(), on_pause=observer.paused)
        self._transport = transport or AiohttpTransport(
            self._base_url,
            credentials,
            session=session,
            connector=connector,
            proxy=proxy,
            ssl_context=ssl_context,
            trust_env=trust_env,
        )
        self._caller = Pipeline(
            self._transport,
            _for_account(limiter, credentials),
            self._lifetime,
            observer,
            credentials=credentials,
            retry=retry or RetryPolicy(),
            timeouts=timeouts or Timeouts(),
            clock=Clock(self._lifetime, wall_clock),
            random=random or SystemRandom(),
        )
        self._poll = poll or PollPolicy()
        self._hints = Notifier()
        if transport is None:
            note_client(self, self._base_url, limiter)

    @classmethod
    @hides_arguments
    def from_env(cls, **settings: Unpack[Settings]) -> Self:
        """Return a client for the key in CODAT_API_KEY, at CODAT_BASE_URL if that is set.

        With CODAT_PACE, for a simulator whose time runs faster, it polls and retries so many times as fast, and is not
        bound to a number of requests per minute; settings that are given take precedence. The pytest fixtures set all
        three. Raises ValueError when there is no key, or a pace that is no number above 0.
        """
        api_key = os.environ.get("CODAT_API_KEY")
        if not api_key:
            raise ValueError("CODAT_API_KEY is not set; put the API key from Codat's portal into it")
        if "base_url" not in settings and os.environ.get("CODAT_BASE_URL"):
            settings["base_url"] = os.environ["CODAT_BASE_URL"]
        if pace := os.environ.get("CODAT_PACE"):
            settings = _paced_settings(_pace(pace), settings)
        return cls(api_key, **settings)

    @_Resource
    def connections(self) -> "_connections.ConnectionsResource":
        """What ties companies to their platforms."""
        return _connections.ConnectionsResource(self._caller)

    @_Resource
    def sync(self) -> "_sync.SyncResource":
        """Syncs: ask for them, look at them, see them through to their end."""
        return _sync.SyncResource(self._caller, self._poll, self._hints)

    @_Resource
    def integrations(self) -> "_integrations.IntegrationsResource":
        """The platforms that Codat connects to."""
        return _integrations.IntegrationsResource(self._caller)

    @_Resource
    def advanced_controls(self) -> "_advanced_controls.AdvancedControlsResource":
        """Companies and their configuration."""
        return _advanced_controls.AdvancedControlsResource(self._caller)

    @_Resource
    def sync_flow_settings(self) -> "_sync_flow_settings.SyncFlowSettingsResource":
        """What merchants see in the Sync flow."""
        return _sync_flow_settings.SyncFlowSettingsResource(self._caller)

    @property
    def rate_limit(self) -> RateLimit | None:
        """The day's request quota as the last answer reported it; None before there was one."""
        return self._caller.quota.rate_limit

    def update_rate_limit(self, limit: RateLimit) -> None:
        """Take in what was learned elsewhere of the day's request quota, from a webhook say.

        With nothing remaining, it is as if an answer had said so. Ignored once its reset has passed, or when an answer
        has told more since.
        """
        self._lifetime.enter()
        self._caller.quota.update(limit)

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._lifetime.closed

    async def call(
        self,
        operation: Operation[T],
        *path: str,
        query: Query | None = None,
        body: object | None = None,
        **options: Unpack[CallOptions],
    ) -> T:
        """The answer to an operation of your own, with everything that the built-in ones get.

        `path` are the values for the places in its path, in order; `body` is sent as JSON.
        """
        return await self._caller.call(operation, *path, query=query, body=body, **options)

    async def send(
        self,
        operation: Operation[T],
        *path: str,
        query: Query | None = None,
        body: object | None = None,
        **options: Unpack[CallOptions],
    ) -> ApiResponse[T]:
        """Like `call`, but the value comes with the status, the headers and the quota that Codat reported."""
        return await self._caller.send(operation, *path, query=query, body=body, **options)

    async def aclose(self) -> None:
        """Close the client: whoever sleeps or waits in it gets ClientClosedError at once. May be called twice."""
        self._lifetime.close()
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        self._lifetime.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if "_lifetime" not in vars(self):
            return "<CodatCommerce, not yet constructed>"  # a traceback with locals may show it so
        state = "closed" if self.closed else "open"
        return f"<CodatCommerce {self._base_url} {state}>"

    def __del__(self) -> None:
        transport = getattr(self, "_transport", None)
        if isinstance(transport, AiohttpTransport) and transport.is_open:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)


def _pace(text: str) -> float:
    try:
        pace = float(text)
    except ValueError:
        pace = math.nan
    if not (math.isfinite(pace) and pace > 0):
        raise ValueError("CODAT_PACE must be a number above 0")
    return pace


def _paced_settings(pace: float, given: Settings) -> Settings:
    """Return the settings, with all pauses divided by `pace` where a policy is not given."""
    paced = given.copy()
    if given.get("poll") is None:
        poll = PollPolicy()
        paced["poll"] = replace(
            poll,
            initial_delay=poll.initial_delay / pace,
            interval=poll.interval / pace,
            max_interval=poll.max_interval / pace,
        )
    if given.get("retry") is None:
        retry = RetryPolicy()
        initial, longest = retry.initial_backoff / pace, retry.max_backoff / pace
        paced["retry"] = replace(retry, initial_backoff=initial, max_backoff=longest)
    if given.get("quota") is None and given.get("rate_limiter") is None:
        paced["quota"] = Quota(per_minute=None)
    return paced


def _for_account(limiter: RateLimiter, credentials: Credentials) -> RateLimiter:
    """The limiter, counting the daily quota of this key; the key itself stays where it is."""
    return limiter.for_account(hash(credentials.header())) if isinstance(limiter, LocalRateLimiter) else limiter
