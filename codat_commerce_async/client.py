"""The client: its settings, resources and lifecycle."""

import math
import os
import ssl
import time
import warnings
from collections.abc import Callable, Mapping
from random import Random, SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypedDict, TypeVar, Unpack, get_type_hints, overload

from attrs import evolve

from codat_commerce_async._core.address import warn_of_separate_limiters
from codat_commerce_async._core.callbacks import check_function
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.instrumentation import Instrumentation
from codat_commerce_async._core.lazy import LazyModule
from codat_commerce_async._core.lifecycle import Clock, Lifecycle
from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter
from codat_commerce_async._core.operation import Operation, Query
from codat_commerce_async._core.pipeline import Pipeline, check_operation
from codat_commerce_async._core.rate_limiter import OnPause, PauseSource, RateLimiter
from codat_commerce_async._core.secrecy import hides_arguments
from codat_commerce_async._core.transport import (
    AiohttpTransport,
    Connector,
    Session,
    Transport,
    parse_base_url,
)
from codat_commerce_async._core.validation import check_instance, check_methods
from codat_commerce_async.hooks import Hooks
from codat_commerce_async.models.call import ApiResponse, RateLimit
from codat_commerce_async.policies import CallOptions, PollPolicy, Quota, RetryPolicy, Timeouts
from codat_commerce_async.syncing._notifications import Notifier

if TYPE_CHECKING:
    from codat_commerce_async.resources import advanced_controls as _advanced_controls
    from codat_commerce_async.resources import connections as _connections
    from codat_commerce_async.resources import integrations as _integrations
    from codat_commerce_async.resources import platform as _platform
    from codat_commerce_async.resources import sync as _sync
    from codat_commerce_async.resources import sync_flow_settings as _sync_flow_settings
else:
    # Each resource is loaded on first use: creating its models takes longer than loading all the rest.
    _advanced_controls = LazyModule("codat_commerce_async.resources.advanced_controls")
    _connections = LazyModule("codat_commerce_async.resources.connections")
    _integrations = LazyModule("codat_commerce_async.resources.integrations")
    _platform = LazyModule("codat_commerce_async.resources.platform")
    _sync = LazyModule("codat_commerce_async.resources.sync")
    _sync_flow_settings = LazyModule("codat_commerce_async.resources.sync_flow_settings")

__all__ = ["BASE_URL", "CodatCommerce", "Settings"]

T = TypeVar("T")
ResourceT = TypeVar("ResourceT")

BASE_URL = "https://api.codat.io"


class Settings(TypedDict, total=False):
    """The settings of a client besides its key, as `CodatCommerce` documents them."""

    base_url: str
    """The URL of the API."""

    session: Session | None
    """An aiohttp session to send with, which stays yours."""

    connector: Connector | None
    """An aiohttp connector for the client's own session."""

    proxy: str | None
    """The URL of an HTTP proxy."""

    ssl_context: ssl.SSLContext | None
    """The TLS settings."""

    trust_env: bool
    """Whether to use the proxy settings of the environment and `.netrc`."""

    user_agent: str | None
    """Text to append to the User-Agent header."""

    retry: RetryPolicy | None
    """How often, and for how long, a call is attempted."""

    poll: PollPolicy | None
    """How often a running sync is polled."""

    timeouts: Timeouts | None
    """How long one attempt may take."""

    quota: Quota | None
    """How many requests the client may send."""

    rate_limiter: RateLimiter | None
    """A limiter to share with other clients."""

    shared_quota: str | os.PathLike[str] | None
    """The path or URL of the store in which processes share the quota."""

    hooks: Hooks | None
    """Functions to call on calls, requests, retries and pauses."""

    transport: Transport | None
    """Replaces aiohttp."""

    wall_clock: Callable[[], float]
    """Returns the time in epoch seconds."""

    random: Random | None
    """The source of jitter and idempotency keys."""


class _Resource(Generic[ResourceT]):
    """Create a resource of a client on first use; on the client's class, return the class of the resource.

    The latter is what documentation tools and `unittest.mock.create_autospec` use.
    """

    def __init__(self, make: "Callable[[CodatCommerce], ResourceT]") -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type[object]) -> type[ResourceT]: ...

    @overload
    def __get__(self, client: "CodatCommerce", owner: type[object]) -> ResourceT: ...

    def __get__(self, client: "CodatCommerce | None", owner: type[object]) -> ResourceT | type[ResourceT]:
        if client is None:
            kind: type[ResourceT] = get_type_hints(self._make)["return"]
            return kind
        # An attribute of the client takes precedence over this descriptor from now on.
        resource = client.__dict__[self._name] = self._make(client)
        return resource


class CodatCommerce:
    """A client for Codat's Sync for Commerce API. Use it with `async with`, or close it with `aclose`.

    Creating a client touches neither the network nor the event loop. The client belongs to the event loop that uses it
    first, and must not be shared by threads.

    Args:
        api_key: The API key, raw or encoded as Codat's portal shows it (`Basic ...`).
        auth_header: The value of the Authorization header, instead of `api_key`.
        base_url: The URL of the API, for a simulator or a proxy of your own.
        session: An aiohttp session to send with; it is neither closed nor altered. By default the client has its own.
        connector: An aiohttp connector for the client's own session; it is not closed.
        proxy: The URL of an HTTP proxy.
        ssl_context: The TLS settings, for example with your own certificate authority.
        trust_env: Whether to use the proxy settings of the environment and `.netrc`, as aiohttp does.
        user_agent: Text to append to the User-Agent header, such as the name of your service. The simulator counts
            requests by `process/...` in it.
        retry: How often, and for how long, a call is attempted.
        poll: How often a running sync is polled.
        timeouts: How long one attempt may take.
        quota: How many requests the client may send; not together with `rate_limiter`.
        rate_limiter: A limiter to share. Codat's limit per minute holds for an IP address, so give all clients of one
            process the same `LocalRateLimiter`. By default the client has its own.
        shared_quota: The path of a file in which all processes of this machine share the quota, or the URL of a Redis
            or PostgreSQL server (`redis://`, `postgresql://`) for several machines; not together with `rate_limiter`.
            See `codat_commerce_async.distributed`.
        hooks: Functions to call on calls, requests, retries and pauses.
        transport: Replaces aiohttp, for example by a fake in tests; the settings of the connection are ignored then.
        wall_clock: Returns the time in epoch seconds, for simulations.
        random: The source of jitter and idempotency keys, for simulations.

    Raises:
        TypeError: A setting has the wrong type.
        ValueError: A setting is out of range, or excludes another.

    Example:
        ```python
        async with CodatCommerce.from_env(retry=RetryPolicy(deadline=60), quota=Quota(per_minute=450)) as client:
            status = await client.sync.run(company_id)
        ```
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
        user_agent: str | None = None,
        retry: RetryPolicy | None = None,
        poll: PollPolicy | None = None,
        timeouts: Timeouts | None = None,
        quota: Quota | None = None,
        rate_limiter: RateLimiter | None = None,
        shared_quota: str | os.PathLike[str] | None = None,
        hooks: Hooks | None = None,
        transport: Transport | None = None,
        wall_clock: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        _check_values(retry=retry, poll=poll, timeouts=timeouts, quota=quota, hooks=hooks, random=random)
        if transport is not None:
            check_methods("transport", transport, "Transport", "send", "aclose")
        check_function("wall_clock", wall_clock)
        _check_limits(rate_limiter, quota, shared_quota)
        self._base_url = parse_base_url(base_url)
        credentials = Credentials(api_key, auth_header)
        self._lifecycle = Lifecycle()
        instrumentation = Instrumentation(hooks or Hooks(), self._base_url, wall_clock)
        limiter = rate_limiter or _own_limiter(shared_quota, quota or Quota(), instrumentation.paused)
        # Only a limiter that this client created is closed with it.
        self._aclose_limiter = getattr(limiter, "aclose", None) if shared_quota is not None else None
        # `aclose` removes the listener, because a limiter that was passed in may outlive the client.
        self._on_pause: OnPause = instrumentation.shared_limiter_paused
        self._pause_source = rate_limiter if isinstance(rate_limiter, PauseSource) else None
        self._transport = transport or AiohttpTransport(
            self._base_url,
            credentials,
            session=session,
            connector=connector,
            proxy=proxy,
            ssl_context=ssl_context,
            trust_env=trust_env,
            user_agent=user_agent,
        )
        self._pipeline = Pipeline(
            self._transport,
            _for_account(limiter, credentials),
            self._lifecycle,
            instrumentation,
            credentials=credentials,
            retry=retry or RetryPolicy(),
            timeouts=timeouts or Timeouts(),
            clock=Clock(self._lifecycle, wall_clock),
            random=random or SystemRandom(),
        )
        self._poll_policy = poll or PollPolicy()
        self._notifier = Notifier()
        if transport is None:
            warn_of_separate_limiters(self, self._base_url, limiter)
        # Last, because a limiter that is shared must not keep a client that could not be created.
        if self._pause_source is not None:
            self._pause_source.add_pause_listener(self._on_pause)

    @classmethod
    @hides_arguments
    def from_env(cls, **settings: Unpack[Settings]) -> Self:
        """Return a client for the key in CODAT_API_KEY, at CODAT_BASE_URL if that is set.

        With CODAT_SHARED_QUOTA, it shares its quota with other processes, as the setting `shared_quota` does. With
        CODAT_SPEED, for a simulator whose time runs faster, the client polls and retries that many times as fast, with
        no limit per minute. Durations that it reports, such as `progress.elapsed` of a run, stay seconds of real time.
        The pytest fixtures set all of these but CODAT_SHARED_QUOTA. `settings` are those of `CodatCommerce`, and take
        precedence.

        Raises:
            ValueError: CODAT_API_KEY is not set, CODAT_SPEED is not a number above 0, or a setting is out of range.
            TypeError: A setting has the wrong type.
        """
        api_key = os.environ.get("CODAT_API_KEY")
        if not api_key:
            raise ValueError("CODAT_API_KEY is not set; put the API key from Codat's portal into it")
        if "base_url" not in settings and os.environ.get("CODAT_BASE_URL"):
            settings["base_url"] = os.environ["CODAT_BASE_URL"]
        shared_quota = os.environ.get("CODAT_SHARED_QUOTA")
        if shared_quota and settings.get("rate_limiter") is None and "shared_quota" not in settings:
            settings["shared_quota"] = shared_quota
        if speed := os.environ.get("CODAT_SPEED"):
            settings = _settings_at_speed(_parse_speed(speed), settings)
        return cls(api_key, **settings)

    @_Resource
    def connections(self) -> "_connections.ConnectionsResource":
        """Return the resource for the connections of companies to their platforms."""
        return _connections.ConnectionsResource(self._pipeline)

    @_Resource
    def sync(self) -> "_sync.SyncResource":
        """Return the resource to start syncs, poll them and wait for their end."""
        return _sync.SyncResource(self._pipeline, self._poll_policy, self._notifier)

    @_Resource
    def integrations(self) -> "_integrations.IntegrationsResource":
        """Return the resource for the platforms that Codat connects to."""
        return _integrations.IntegrationsResource(self._pipeline)

    @_Resource
    def advanced_controls(self) -> "_advanced_controls.AdvancedControlsResource":
        """Return the resource for companies and their configuration."""
        return _advanced_controls.AdvancedControlsResource(self._pipeline)

    @_Resource
    def sync_flow_settings(self) -> "_sync_flow_settings.SyncFlowSettingsResource":
        """Return the resource for the texts and settings of the Sync flow."""
        return _sync_flow_settings.SyncFlowSettingsResource(self._pipeline)

    @_Resource
    def platform(self) -> "_platform.PlatformResource":
        """Return the resource of Codat's Platform API: companies, connections, reads, writes and webhook consumers."""
        return _platform.PlatformResource(self._pipeline)

    @property
    def rate_limit(self) -> RateLimit | None:
        """The daily request quota as the last response reported it; None if none has reported one."""
        return self._pipeline.quota.rate_limit

    def update_rate_limit(self, limit: RateLimit) -> None:
        """Apply a daily quota that another source has reported, such as a webhook.

        `limit` with nothing remaining has the effect of a response that reports an exhausted quota. It is ignored when
        its reset has passed, or when a response has reported a newer quota.

        Args:
            limit: The quota that the other source has reported.
        """
        check_instance("limit", limit, RateLimit)
        self._lifecycle.check_open()
        self._pipeline.quota.update(limit)

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._lifecycle.closed

    async def call(
        self,
        operation: Operation[T],
        *path: str,
        query: Query | None = None,
        body: object | None = None,
        **options: Unpack[CallOptions],
    ) -> T:
        """Make a call of your own operation and return its decoded response, with retries, limits and hooks.

        Args:
            operation: The operation to call.
            *path: The values of the operation's path parameters, in order.
            query: The query parameters; one that is None is left out.
            body: What is sent as JSON.

        Raises:
            CodatError: The call failed; the class names the reason.

        Example:
            ```python
            LIST_COMPANIES = Operation("list-companies", "GET", "/companies", object)
            companies = await codat.call(LIST_COMPANIES, query={"pageSize": 1})
            ```
        """
        check_operation(operation)
        return await self._pipeline.call(operation, *path, query=query, body=body, **options)

    async def send(
        self,
        operation: Operation[T],
        *path: str,
        query: Query | None = None,
        body: object | None = None,
        **options: Unpack[CallOptions],
    ) -> ApiResponse[T]:
        """Like `call`, but return the value together with the status, the headers, the quota and the attempts.

        Args:
            operation: The operation to call.
            *path: The values of the operation's path parameters, in order.
            query: The query parameters; one that is None is left out.
            body: What is sent as JSON.

        Raises:
            CodatError: The call failed; the class names the reason.
        """
        check_operation(operation)
        return await self._pipeline.send(operation, *path, query=query, body=body, **options)

    async def aclose(self) -> None:
        """Close the client: all of its calls and waits raise ClientClosedError at once. May be called twice."""
        self._lifecycle.close()
        if self._pause_source is not None:
            self._pause_source.remove_pause_listener(self._on_pause)
        await self._transport.aclose()
        if self._aclose_limiter is not None:
            await self._aclose_limiter()

    async def __aenter__(self) -> Self:
        self._lifecycle.check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if "_lifecycle" not in vars(self):
            return "<CodatCommerce, not yet constructed>"  # a traceback with locals may show it so
        state = "closed" if self.closed else "open"
        return f"<CodatCommerce {self._base_url} {state}>"

    def __del__(self) -> None:
        transport = getattr(self, "_transport", None)
        if isinstance(transport, AiohttpTransport) and transport.is_open:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)


_TYPES: Mapping[str, type] = {
    "retry": RetryPolicy,
    "poll": PollPolicy,
    "timeouts": Timeouts,
    "quota": Quota,
    "hooks": Hooks,
    "random": Random,
}


def _check_values(**settings: object) -> None:
    """Raise TypeError for a setting of the wrong type; None stands for the default."""
    for name, value in settings.items():
        if value is not None:
            check_instance(name, value, _TYPES[name])


def _check_limits(
    rate_limiter: RateLimiter | None, quota: Quota | None, shared_quota: str | os.PathLike[str] | None
) -> None:
    """Raise TypeError or ValueError for limits that exclude each other."""
    if rate_limiter is None:
        return
    check_methods("rate_limiter", rate_limiter, "RateLimiter", "acquire", "release")
    if quota is not None:
        raise ValueError("quota must not be combined with rate_limiter, which has its own quota")
    if shared_quota is not None:
        raise ValueError("shared_quota must not be combined with rate_limiter; pass a SharedRateLimiter as that")


def _parse_speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError("CODAT_SPEED must be a number above 0")
    return speed


def _settings_at_speed(speed: float, given: Settings) -> Settings:
    """Return the settings, with all pauses divided by `speed` where a policy is not given."""
    changed = given.copy()
    if given.get("poll") is None:
        poll = PollPolicy()
        changed["poll"] = evolve(
            poll,
            initial_delay=poll.initial_delay / speed,
            interval=poll.interval / speed,
            max_interval=poll.max_interval / speed,
        )
    if given.get("retry") is None:
        retry = RetryPolicy()
        initial, longest = retry.initial_backoff / speed, retry.max_backoff / speed
        changed["retry"] = evolve(retry, initial_backoff=initial, max_backoff=longest)
    if given.get("quota") is None and given.get("rate_limiter") is None:
        changed["quota"] = Quota(per_minute=None)
    return changed


def _own_limiter(shared_quota: str | os.PathLike[str] | None, quota: Quota, on_pause: OnPause) -> RateLimiter:
    """Return the limiter of a client to which none was passed."""
    if shared_quota is None:
        return LocalRateLimiter(quota, on_pause=on_pause)
    from codat_commerce_async.distributed._open import shared_limiter  # noqa: PLC0415 - most clients share no quota

    return shared_limiter(shared_quota, quota, on_pause)


def _for_account(limiter: RateLimiter, credentials: Credentials) -> RateLimiter:
    """Return the limiter for the daily quota of this key; it receives a hash, not the key."""
    return limiter.for_account(hash(credentials.header)) if isinstance(limiter, LocalRateLimiter) else limiter
