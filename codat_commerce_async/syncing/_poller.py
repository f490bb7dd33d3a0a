"""How the end of a running sync is awaited."""

import math
from collections.abc import AsyncGenerator, Iterator
from datetime import datetime
from random import Random

from codat_commerce_async._core.log import error_fields, logger_of
from codat_commerce_async._core.operation import is_id
from codat_commerce_async._core.text import excerpt
from codat_commerce_async.errors import (
    CodatError,
    NotFoundError,
    OutcomeUnknownError,
    QuotaExhaustedError,
    StatusError,
    SyncFailedError,
    SyncWaitTimeoutError,
)
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncState, SyncStatus
from codat_commerce_async.policies import CallOptions, PollOptions, PollPolicy, RetryPolicy
from codat_commerce_async.syncing._calls import SyncContext
from codat_commerce_async.syncing._notifications import Subscription
from codat_commerce_async.syncing._resolver import SyncResolver

__all__ = ["SyncPoller", "raise_if_failed", "wait", "watch"]

_logger = logger_of("sync")

# How long a sync may stay out of sight before its 404 is believed.
_NOT_FOUND_GRACE = 60.0
# How long the last look, which begins when the time is up, may take.
_FINAL_POLL_TIMEOUT = 15.0
# What a wait keeps of the day's requests, so that new work does not take its last looks.
_RESERVED_REQUESTS = 2


async def watch(
    context: SyncContext,
    handle: SyncHandle,
    poll: PollPolicy,
    timeout: float | None,
    options: PollOptions,
    *,
    adopt: bool = True,
) -> AsyncGenerator[SyncStatus, None]:
    """Every change of the sync's status, the first that is seen included, up to the terminal one.

    Raises SyncWaitTimeoutError when `timeout` seconds are over; the sync goes on.
    """
    watcher = SyncPoller(context, handle, timeout, options, adopt=adopt)
    context.rate_limiter.reserve(_RESERVED_REQUESTS)
    try:
        with context.notifier.subscribed(handle.company_id) as hints:
            for pause in _delays(poll, context.random, watcher.age()):
                await watcher.pause(pause, poll.interval, hints)
                watcher.check_not_before()
                last, is_notified = watcher.last, hints.take()
                status = await watcher.look()
                if status is not None:
                    if last is None or _has_changed(last, status):
                        yield status
                    if status.is_terminal:
                        return
                elif is_notified:
                    # The poll that the notification was for has found out nothing.
                    hints.notify()
                watcher.check_time()
    finally:
        context.rate_limiter.reserve(-_RESERVED_REQUESTS)


async def wait(
    context: SyncContext,
    handle: SyncHandle,
    poll: PollPolicy,
    timeout: float | None,
    options: PollOptions,
    *,
    adopt: bool = True,
) -> SyncStatus:
    """The terminal status of the sync, whether it ended well or not."""
    last = None
    # To its end, so that the watch is not left half done for the garbage collector to finish.
    async for status in watch(context, handle, poll, timeout, options, adopt=adopt):
        last = status
    assert last is not None  # noqa: S101 - for the type checker: a watch ends with a terminal status or raises
    return last


def raise_if_failed(handle: SyncHandle, status: SyncStatus) -> None:
    """Raise SyncFailedError if the sync failed."""
    if not status.failed:
        return
    said = f": {excerpt(status.error_message)}" if status.error_message else ""
    if handle.sync_id is None and is_id(status.sync_id):
        handle = handle.with_sync_id(status.sync_id)
    raise SyncFailedError(
        f"the sync of company {handle.company_id} failed with {status.sync_status_code}, {status.state.value}{said}",
        handle,
        status,
    )


class SyncPoller:
    """One wait: what it looks at, and how much time it has."""

    def __init__(
        self,
        context: SyncContext,
        handle: SyncHandle,
        timeout: float | None,
        options: PollOptions,
        *,
        adopt: bool = True,
    ) -> None:
        self._context = context
        self._clock = context.clock
        self._tracker = SyncResolver(context, handle, adopt=adopt)
        self._options = CallOptions(
            retry=options.get("retry", RetryPolicy.none()),
            headers=options.get("headers", {}),
            background=options.get("background", False),
        )
        self._began = context.clock.time()
        # A 404 counts from when Codat accepted the request, which a start may have taken long to achieve.
        self._last_seen = self._began - self._age(handle.accepted_at or handle.requested_at)
        self._timeout = timeout
        self.not_before = 0.0
        self._looked_at = -math.inf
        self.looks = 0
        self.last: SyncStatus | None = None

    def age(self) -> float:
        """Seconds since the sync was asked for; a sync that is only known by its id may be as old as can be."""
        return self._age(self._tracker.handle.requested_at)

    def _age(self, moment: datetime | None) -> float:
        if moment is None:
            return math.inf
        return max(0.0, (self._clock.server_time(self._clock.now()) - moment).total_seconds())

    async def pause(self, seconds: float, interval: float, hints: Subscription) -> None:
        """Sleep until the next poll: as long as the server asks at least, and not past the time that there is.

        A notification ends the sleep, but not before `interval` after the last poll.
        """
        now, left = self._clock.time(), self._left()
        latest = math.inf if left is None else left
        asked = min(self.not_before - now, latest)
        regular = max(min(seconds, latest), asked)
        shortest = min(max(self._looked_at + interval - now, asked), regular)
        if shortest > 0:
            await self._clock.sleep(shortest)
        rest = now + regular - self._clock.time()
        if rest > 0:
            async with self._context.lifecycle.scope():
                await hints.sleep(rest)

    def check_not_before(self) -> None:
        """Raise SyncWaitTimeoutError when the time is up before the server wants to be asked again."""
        if self._clock.time() < self.not_before:
            self.check_time()

    async def look(self) -> SyncStatus | None:
        """The status, or None when nothing could be seen this time."""
        self.looks += 1
        self.not_before = 0.0
        try:
            status = await self._tracker.look(self._poll_options())
        except NotFoundError:
            if self._clock.time() - self._last_seen > _NOT_FOUND_GRACE:
                raise
            return None
        except OutcomeUnknownError:
            # No poll will tell which of several syncs is ours.
            raise
        except CodatError as error:
            # After an error with `ambiguous` alone, the next response may be complete and readable.
            if not (error.retryable or error.ambiguous):
                raise
            self._handle_transient(error)
            return None
        finally:
            self._looked_at = self._clock.time()
        if status is not None:
            self._last_seen = self._clock.time()
            self._warn_of_unknown(status)
            self.last = status
        return status

    def check_time(self) -> None:
        """Raise SyncWaitTimeoutError when the time is up."""
        left = self._left()
        if left is not None and left <= 0:
            elapsed = self._clock.time() - self._began
            raise SyncWaitTimeoutError(
                f"the sync of company {self._tracker.handle.company_id} had not ended after {elapsed:.3g} s; "
                "it goes on at Codat, and its handle can be waited for again",
                self._tracker.handle,
                self.last,
                elapsed,
                self.looks,
            )

    @property
    def handle(self) -> SyncHandle:
        """What is known of the sync's ids by now."""
        return self._tracker.handle

    def _poll_options(self) -> CallOptions:
        left = self._left()
        if left is None:
            return self._options
        return {**self._options, "timeout": max(left, 0.0) + _FINAL_POLL_TIMEOUT}

    def _left(self) -> float | None:
        return None if self._timeout is None else self._began + self._timeout - self._clock.time()

    def _warn_of_unknown(self, status: SyncStatus) -> None:
        if status.state is not SyncState.UNKNOWN:
            return
        if self.last is None or self.last.sync_status_code != status.sync_status_code:
            _logger.warning(
                "unknown sync status code %s taken for running",
                status.sync_status_code,
                extra={"company_id": self.handle.company_id},
            )

    def _handle_transient(self, error: CodatError) -> None:
        asked = error.retry_after if isinstance(error, StatusError | QuotaExhaustedError) else None
        left = self._left()
        if isinstance(error, QuotaExhaustedError) and asked is not None and left is not None and asked > left:
            raise error
        self.not_before = self._clock.time() + (asked or 0.0)
        # The next poll is its retry.
        _logger.info(
            "could not poll the sync of company %s: %s",
            self.handle.company_id,
            error,
            extra={"company_id": self.handle.company_id, **error_fields(error)},
        )


def _delays(poll: PollPolicy, random: Random, age: float) -> Iterator[float]:
    """The pauses before each look: the first soon after the start, then growing, each spread by chance."""
    first = poll.initial_delay - age
    # A sync from before a restart is looked at soon, but not in step with all the others.
    yield (first * random.uniform(1.0, 1.0 + poll.jitter) if first > 0 else random.uniform(0.0, poll.initial_delay))
    pause = poll.interval
    while True:
        yield pause * random.uniform(1.0 - poll.jitter, 1.0 + poll.jitter)
        pause = min(pause * poll.factor, poll.max_interval)


def _has_changed(before: SyncStatus, now: SyncStatus) -> bool:
    """Whether anything changed that Codat says of the sync itself."""
    return (
        before.sync_status_code != now.sync_status_code
        or before.sync_status != now.sync_status
        or before.error_message != now.error_message
        or before.sync_exception_message != now.sync_exception_message
        or before.data_pushed != now.data_pushed
    )
