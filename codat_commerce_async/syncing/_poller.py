"""Poll a running sync until it has ended, at the times of its `PollPolicy`.

In a fan-out, `_scheduler.py` chooses the times. Failed polls are repeated here, not by `_core/retry.py`.
"""

import math
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import datetime
from random import Random

from attrs import frozen

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.operation import is_id
from codat_commerce_async._core.text import excerpt, is_same_text
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
from codat_commerce_async.syncing._context import SyncContext
from codat_commerce_async.syncing._notifications import Subscription
from codat_commerce_async.syncing._resolver import SyncResolver

__all__ = ["PollHistory", "SyncPoller", "WaitSettings", "raise_if_failed", "wait", "watch"]

_logger = logger_of("sync")

# Seconds after Codat accepted or last reported the sync, for which a 404 means that it is not visible yet.
_NOT_FOUND_GRACE = 60.0
# Seconds beyond the timeout of the wait that its last poll may take.
_FINAL_POLL_TIMEOUT = 15.0


@frozen
class WaitSettings:
    """How a sync is waited for: how many seconds, how often it is polled, and the options of each poll."""

    timeout: float | None
    poll: PollPolicy
    options: PollOptions


def watch(context: SyncContext, handle: SyncHandle, waiting: WaitSettings) -> AsyncGenerator[SyncStatus, None]:
    """Yield the first status of the sync and every change of it, up to the terminal one.

    Raises SyncWaitTimeoutError after the timeout; the sync continues.
    """
    return _changes(context, lambda: SyncPoller(context, handle, waiting), waiting.poll)


async def wait(
    context: SyncContext, handle: SyncHandle, waiting: WaitSettings, *, adopt: bool = True
) -> tuple[SyncStatus, SyncHandle]:
    """Return the terminal status of the sync, and its handle with the ids that polling found out."""
    poller = SyncPoller(context, handle, waiting, adopt=adopt)
    last = None
    # The loop runs to the end, so that no suspended generator is left to the garbage collector.
    async for status in _changes(context, lambda: poller, waiting.poll):
        last = status
    assert last is not None  # noqa: S101 - for the type checker: it ends with a terminal status or raises
    return last, poller.handle


async def _changes(
    context: SyncContext, new_poller: Callable[[], "SyncPoller"], poll: PollPolicy
) -> AsyncGenerator[SyncStatus, None]:
    # Created here, because the generator may be created outside of the event loop.
    poller = new_poller()
    context.reserve_polls()
    try:
        with context.notifier.subscribed(poller.handle.company_id) as subscription:
            for pause in _delays(poll, context.random, poller.age()):
                # A notification shortens the pause.
                await poller.pause(pause, poll.interval, subscription)
                # If the deadline ended the pause before the server allows a poll, none is made.
                poller.check_not_before()
                # Taken before the poll: a notification that arrives during it requires one more.
                last, is_notified = poller.last, subscription.take()
                status = await poller.poll()
                if status is not None:
                    if last is None or _has_changed(last, status):
                        yield status
                    if status.is_terminal:
                        return
                elif is_notified:
                    # The poll for this notification failed, so the notification is still pending.
                    subscription.notify()
                # After the poll, so that a wait whose timeout is over polls at least once.
                poller.check_deadline()
    finally:
        context.release_polls()


def raise_if_failed(handle: SyncHandle, status: SyncStatus) -> None:
    """Raise SyncFailedError if the sync failed."""
    if not status.failed:
        return
    means, message = status.state.description, status.error_message or ""
    detail = f": {excerpt(message)}" if message and not is_same_text(message, means) else ""
    if handle.sync_id is None and is_id(status.sync_id):
        handle = handle.with_sync_id(status.sync_id)
    raise SyncFailedError(
        f"the sync of company {handle.company_id} failed with {status.sync_status_code}, {means}{detail}",
        handle,
        status,
    )


@frozen
class PollHistory:
    """What earlier processes recorded about a wait."""

    age: float
    """Seconds since the sync was requested."""

    polls: int
    """The number of polls."""

    seconds_since_status: float | None
    """Seconds since a poll returned a status; None if none did."""


class SyncPoller:
    """Poll one sync: the deadline, the earliest next poll, and the last status."""

    def __init__(
        self,
        context: SyncContext,
        handle: SyncHandle,
        waiting: WaitSettings,
        *,
        adopt: bool = True,
        history: PollHistory | None = None,
    ) -> None:
        options = waiting.options
        self._context = context
        self._clock = context.clock
        self._resolver = SyncResolver(context, handle, adopt=adopt)
        self._options = CallOptions(
            retry=options.get("retry", RetryPolicy.none()),
            headers=options.get("headers", {}),
            background=options.get("background", False),
        )
        self._began = context.clock.time()
        # A 404 counts from the time at which Codat accepted the request: a start may have been sent several times.
        self._last_seen = self._began - self._age(handle.accepted_at or handle.requested_at)
        self._timeout = waiting.timeout
        self.not_before = 0.0
        self._polled_at = -math.inf
        self.polls = 0
        self.last: SyncStatus | None = None
        if history is not None:
            self._resume(history)

    def _resume(self, history: PollHistory) -> None:
        now = self._clock.time()
        self._began = now - history.age
        self.polls = history.polls
        if history.seconds_since_status is not None:
            self._last_seen = now - history.seconds_since_status

    def age(self) -> float:
        """Return the seconds since the sync was requested; infinity if that time is not known."""
        return self._age(self._resolver.handle.requested_at)

    def _age(self, moment: datetime | None) -> float:
        if moment is None:
            return math.inf
        return max(0.0, (self._clock.server_time(self._clock.now()) - moment).total_seconds())

    async def pause(self, seconds: float, interval: float, subscription: Subscription) -> None:
        """Sleep until the next poll: at least as long as the server requires, and at most until the deadline.

        A notification ends the sleep, but not before `interval` seconds after the last poll.
        """
        now, left = self._clock.time(), self._left()
        longest = math.inf if left is None else left
        # Until the server allows a poll.
        required = min(self.not_before - now, longest)
        # Without a notification.
        regular = max(min(seconds, longest), required)
        # With a notification, which is respected only after it.
        shortest = min(max(self._polled_at + interval - now, required), regular)
        if shortest > 0:
            await self._clock.sleep(shortest)
        rest = now + regular - self._clock.time()
        if rest > 0:
            with self._context.lifecycle.scope():
                await subscription.sleep(rest)

    def check_not_before(self) -> None:
        """Raise SyncWaitTimeoutError if the deadline is earlier than the next poll that the server allows."""
        if self._clock.time() < self.not_before:
            self.check_deadline()

    async def poll(self) -> SyncStatus | None:
        """Return the status; None if this poll failed or the sync is not visible yet."""
        self.polls += 1
        self.not_before = 0.0
        try:
            status = await self._resolver.poll(self._poll_options())
        except NotFoundError:
            if self._clock.time() - self._last_seen > _NOT_FOUND_GRACE:
                raise
            return None
        except OutcomeUnknownError:
            # Further polls cannot identify our sync among several.
            raise
        except CodatError as error:
            # A response that was lost or could not be decoded may arrive intact at the next poll.
            if not (error.retryable or error.ambiguous):
                raise
            self._handle_transient(error)
            return None
        finally:
            self._polled_at = self._clock.time()
        if status is not None:
            self._last_seen = self._clock.time()
            self._warn_of_unknown(status)
            self.last = status
        return status

    def check_deadline(self) -> None:
        """Raise SyncWaitTimeoutError if the timeout is over."""
        left = self._left()
        if left is not None and left <= 0:
            elapsed = self._clock.time() - self._began
            raise SyncWaitTimeoutError(
                f"the sync of company {self._resolver.handle.company_id} had not ended after {elapsed:.3g} s; "
                "it continues at Codat, and its handle can be waited for again",
                self._resolver.handle,
                self.last,
                elapsed,
                self.polls,
            )

    @property
    def handle(self) -> SyncHandle:
        """The handle with the ids that are known so far."""
        return self._resolver.handle

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
                "treating the unknown sync status code %s of company %s as running",
                status.sync_status_code,
                self.handle.company_id,
                extra=extra_fields(self.handle.company_id),
            )

    def _handle_transient(self, error: CodatError) -> None:
        retry_after = error.retry_after if isinstance(error, StatusError | QuotaExhaustedError) else None
        left = self._left()
        is_too_late = retry_after is not None and left is not None and retry_after > left
        if is_too_late and isinstance(error, QuotaExhaustedError):
            raise error
        self.not_before = self._clock.time() + (retry_after or 0.0)
        # The next poll is the retry.
        _logger.info(
            "could not poll the sync of company %s: %s",
            self.handle.company_id,
            error,
            extra=extra_fields(self.handle.company_id, error=error),
        )


def _delays(poll: PollPolicy, random: Random, age: float) -> Iterator[float]:
    """Yield the delay before each poll: the first one soon after the start, then growing, each with jitter."""
    first = poll.initial_delay - age
    # After a restart, a sync is polled soon, but not at the same moment as all others.
    yield (first * random.uniform(1.0, 1.0 + poll.jitter) if first > 0 else random.uniform(0.0, poll.initial_delay))
    pause = poll.interval
    while True:
        yield pause * random.uniform(1.0 - poll.jitter, 1.0 + poll.jitter)
        pause = min(pause * poll.factor, poll.max_interval)


def _has_changed(before: SyncStatus, now: SyncStatus) -> bool:
    """Return True if a field changed that describes the sync itself."""
    return (
        before.sync_status_code != now.sync_status_code
        or before.sync_status != now.sync_status
        or before.error_message != now.error_message
        or before.sync_exception_message != now.sync_exception_message
        or before.data_pushed != now.data_pushed
    )
