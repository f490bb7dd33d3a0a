"""Paged responses: one page, all pages, or every item on them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakSet

from codat_commerce_async._core.operation import Query
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models.paging import Page

__all__ = ["Paginator"]

ItemT = TypeVar("ItemT")
PageT = TypeVar("PageT", bound=Page[object])


class Paginator(Coroutine[object, None, PageT], Generic[PageT, ItemT]):
    """A paged response that has not been requested yet.

    `await` it for one page, `async for` over it for every item from there on, or over `pages()` for every page.
    A page is fetched only when it is needed, and each use starts again.

    It is a coroutine too: `asyncio.create_task` and `TaskGroup.create_task` fetch one page with it. Use
    `contextlib.aclosing` with it, or with `pages()`, to close an iteration that is left early.
    """

    def __init__(self, fetch: Callable[[Query], Awaitable[PageT]], query: Query) -> None:
        self._fetch = fetch
        self._query = query
        # One for each task that was created from this object; `await` has its own.
        self._running: dict[object, Coroutine[Any, None, PageT]] = {}
        self._open: WeakSet[AsyncGenerator[ItemT]] = WeakSet()

    def __await__(self) -> Generator[Any, None, PageT]:
        return self._first().__await__()

    def __aiter__(self) -> AsyncGenerator[ItemT]:
        items = self._items()
        self._open.add(items)
        return items

    def send(self, value: None, /) -> object:
        """Continue to fetch the page, as a task does; StopIteration carries it.

        Args:
            value: None, as for every asynchronous generator that ignores it.
        """
        return self._step(lambda running: running.send(value))

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> object:
        """Raise an exception where fetching the page waits, as a task does when it is cancelled.

        Args:
            kind: The exception, or its class.
            value: The exception, with a class as `kind`.
            traceback: Its traceback.
        """
        error = _exception(kind, value).with_traceback(traceback)
        return self._step(lambda running: running.throw(error))

    def close(self) -> None:
        """Close the fetches of all tasks."""
        while self._running:
            self._running.popitem()[1].close()

    async def aclose(self) -> None:
        """Close every iteration over the items that was left early."""
        for items in tuple(self._open):
            await items.aclose()

    async def pages(self) -> AsyncGenerator[PageT]:
        """Yield every page from the requested one on, as long as the server names a next one.

        Ends with an empty page, and with a repeated one, so that a cycle of links does not run forever.
        """
        query = self._query
        requested = {_query_key(query)}
        last: PageT | None = None
        while True:
            page = await self._fetch(query)
            if last is not None and (not page.results or page.results == last.results):
                return
            yield page
            following = _next_query(page)
            if following is None or not page.results or _query_key(query := {**query, **following}) in requested:
                return
            requested.add(_query_key(query))
            last = page

    async def _first(self) -> PageT:
        return await self._fetch(self._query)

    async def _items(self) -> AsyncGenerator[ItemT]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for item in page.results:
                    yield item  # type: ignore[misc]  # the page's own item type, which its bound cannot name

    def _step(self, advance: Callable[[Coroutine[Any, None, PageT]], object]) -> object:
        task = _current_task()
        running = self._running.pop(task, None) or self._first()
        waited_for = advance(running)
        self._running[task] = running  # only if it has not ended, by a page or an exception
        return waited_for


def _current_task() -> object:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def _exception(kind: type[BaseException] | BaseException, value: object) -> BaseException:
    if isinstance(kind, BaseException):
        return kind
    if isinstance(value, BaseException):
        return value
    return kind() if value is None else kind(value)


def _query_key(query: Query) -> frozenset[tuple[str, str]]:
    # Without a page number, the API returns the first page.
    return frozenset((name, str(value)) for name, value in {"page": 1, **_without_none(query)}.items())


def _without_none(query: Query) -> Query:
    return {name: value for name, value in query.items() if value is not None}


def _next_query(page: Page[object]) -> dict[str, str] | None:
    """Return the query of the link to the next page; its host and path are ignored."""
    href = page.links.next.href if page.links and page.links.next else None
    if not href:
        return None
    try:
        return dict(parse_qsl(urlsplit(href).query))
    except ValueError:
        raise DecodeError("the link to the next page must be a URL", None, "$._links.next.href") from None
