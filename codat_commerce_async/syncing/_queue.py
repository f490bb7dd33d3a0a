"""What a fan-out starts next: read from the input as it is needed, one sync of a company at a time."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain

from codat_commerce_async._core.log import logger_of
from codat_commerce_async._core.operation import check_id
from codat_commerce_async.errors import error_class
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.syncing.journal import Journal, JournalEntry
from codat_commerce_async.syncing.request import SyncRequest

__all__ = ["Companies", "SyncJob", "WorkQueue", "may_have_started"]

_logger = logger_of("sync")

Companies = Iterable[str | SyncRequest] | AsyncIterable[str | SyncRequest]

# How many further syncs of companies whose last has not ended are read ahead.
_MOST_HELD = 1000
# How much of an invalid id is shown as the company of its outcome.
_LONGEST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class SyncJob:
    """A sync to ask for; `key` was used for it since `first_asked` (epoch seconds), `handle` is what came of it.

    `server_offset` is the server's time minus the local time at `first_asked`, in seconds, if it was known. `flaw` says
    why it cannot be asked for.
    """

    request: SyncRequest
    key: str | None = None
    first_asked: float | None = None
    handle: SyncHandle | None = None
    flaw: str | None = None
    server_offset: float | None = None

    @classmethod
    def after(cls, entry: JournalEntry) -> "SyncJob":
        """What is left to do for a sync that a journal knows."""
        handle = entry.handle
        if handle is not None and (entry.state == "running" or handle.commerce_sync_id or handle.sync_id):
            return cls(entry.request, entry.idempotency_key, entry.sent_at, handle)
        if may_have_started(entry):
            return cls(entry.request, entry.idempotency_key, entry.sent_at, server_offset=entry.server_offset)
        # Codat would only repeat its refusal under the same key.
        return cls(entry.request)


def may_have_started(entry: JournalEntry) -> bool:
    """Return whether the start of a sync without a known handle may have happened, as far as its journal tells."""
    error = error_class(entry.outcome or "")
    # An error that ended the run says nothing of the company.
    return entry.state == "starting" or error.ambiguous or error.fatal_for_run


class WorkQueue:
    """The input of a fan-out, and what of it has been read and not been started.

    `active` tells what of a company is being asked for or running, `changed` is called when there is something new.
    """

    def __init__(
        self, companies: Companies, active: Callable[[str], SyncRequest | None], changed: Callable[[], None]
    ) -> None:
        self._companies = companies
        self._active = active
        self._changed = changed
        # By company, of which one sync at a time may be started.
        self._next: OrderedDict[str, SyncJob] = OrderedDict()
        # Further ones of each company, and of all companies to search in: a resume may add any number.
        self._held: dict[str, deque[SyncJob]] = {}
        self._held_requests: set[SyncRequest] = set()
        self._held_count = 0
        self._resumed: set[SyncRequest] = set()
        self._room = asyncio.Event()
        self._is_read = False
        self._read = 0
        self.total = len(companies) if isinstance(companies, Sized) else None
        self.duplicates = 0
        self.already_finished = 0

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to start any more, now or later."""
        return self._is_read and not self._next and not self._held

    @property
    def has_next(self) -> bool:
        """Whether there is something to start now."""
        return bool(self._next)

    @property
    def is_exhausted(self) -> bool:
        """Whether the input is at its end, and all but what is held has been taken."""
        return self._is_read and not self._next

    @property
    def left(self) -> int | None:
        """How many are yet to be started; None while that cannot be told."""
        waiting = len(self._next) + self._held_count
        if self._is_read:
            return waiting
        return None if self.total is None else max(0, self.total - self._read) + waiting

    @property
    def waiting(self) -> Iterator[SyncJob]:
        """What has been read, or taken up, and not been started."""
        return chain(self._next.values(), *self._held.values())

    async def read(self, journal: Journal | None) -> None:
        """Read the input to its end, one ahead of need."""
        async with aclosing(_items(self._companies)) as items:
            async for item in items:
                self._read += 1
                ask = _as_ask(item)
                if ask.flaw is not None:
                    await self._enqueue(ask)
                    continue
                request = ask.request
                if request in self._resumed:
                    # Taken up before the input came to it.
                    self._resumed.discard(request)
                    continue
                entry = await journal.get(request) if journal is not None else None
                ended_now = journal is not None and entry is not None and entry.run == journal.run
                if entry is not None and entry.is_finished and not ended_now:
                    self.already_finished += 1
                elif ended_now or self._is_duplicate(request):
                    self.duplicates += 1
                    _logger.warning(
                        "company %s was given twice; it is synced once",
                        request.company_id,
                        extra={"company_id": request.company_id},
                    )
                    # However many there are, others have their turn.
                    await asyncio.sleep(0)
                else:
                    await self._enqueue(ask if entry is None else SyncJob.after(entry))
        self._is_read = True
        self._changed()

    def take(self) -> SyncJob:
        """What to start now."""
        self._room.set()
        return self._next.popitem(last=False)[1]

    def requeue(self, ask: SyncJob) -> None:
        """Start it, or what is left to do for it, before all others after all."""
        self._append(ask)
        self._next.move_to_end(ask.request.company_id, last=False)
        self._changed()

    def resume(self, entry: JournalEntry) -> None:
        """Go on with what a journal says was under way."""
        ask = SyncJob.after(entry)
        self._resumed.add(entry.request)
        if self._active_request(entry.request.company_id) is None:
            self._append(ask)
        else:
            self._hold(ask)

    def release(self, company_id: str) -> None:
        """Let the next sync of a company step forward, as its last has ended."""
        held = self._held.get(company_id)
        if held is None:
            return
        ask = held.popleft()
        self._append(ask)
        self._held_requests.discard(ask.request)
        self._held_count -= 1
        if not held:
            del self._held[company_id]

    async def _enqueue(self, ask: SyncJob) -> None:
        # Room for one that can be started, and for some that cannot: they are let go by what runs.
        while self._next or self._held_count >= _MOST_HELD:
            self._room.clear()
            await self._room.wait()
        if self._active_request(ask.request.company_id) is None:
            self._append(ask)
            self._changed()
        else:
            # One sync of a company at a time: Codat refuses overlapping periods.
            self._hold(ask)

    def _append(self, ask: SyncJob) -> None:
        self._next[ask.request.company_id] = ask

    def _hold(self, ask: SyncJob) -> None:
        self._held.setdefault(ask.request.company_id, deque()).append(ask)
        self._held_requests.add(ask.request)
        self._held_count += 1

    def _is_duplicate(self, request: SyncRequest) -> bool:
        """Whether exactly this is under way, or waits for its turn."""
        return request == self._active_request(request.company_id) or request in self._held_requests

    def _active_request(self, company_id: str) -> SyncRequest | None:
        """What of the company is being asked for, or running, or next."""
        active = self._active(company_id)
        if active is not None:
            return active
        ask = self._next.get(company_id)
        return ask.request if ask is not None else None


def _as_ask(item: object) -> SyncJob:
    """Return the item of the input as a sync to start; one that is no company has a flaw, and so an outcome."""
    if not isinstance(item, SyncRequest | str):
        return SyncJob(
            SyncRequest(company_id=_shown(item)),
            flaw=f"companies takes company ids or SyncRequests, not {type(item).__name__}",
        )
    request = item if isinstance(item, SyncRequest) else SyncRequest(company_id=item)
    try:
        check_id("company_id", request.company_id)
    except TypeError as error:
        return SyncJob(replace(request, company_id=_shown(request.company_id)), flaw=str(error))
    except ValueError as error:
        return SyncJob(request, flaw=str(error))
    return SyncJob(request)


def _shown(value: object) -> str:
    """Return the text that an id of a wrong type goes by in its outcome."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an object whose repr raises is an invalid id like any other
        text = f"<{type(value).__name__}>"
    return text[:_LONGEST_SHOWN]


async def _items(companies: Companies) -> AsyncGenerator[object, None]:
    """Yield the input's items as they are needed; an async generator is closed in the end."""
    if not isinstance(companies, AsyncIterable):
        for one in companies:
            yield one
        return
    source: AsyncIterator[object] = aiter(companies)
    try:
        async for item in source:
            yield item
    finally:
        # Else it would be closed by the garbage collector, at any time, in a task that nobody knows.
        if isinstance(source, AsyncGenerator):
            await source.aclose()
