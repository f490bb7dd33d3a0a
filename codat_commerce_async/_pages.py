"""Answers that come in pages: one of them, all of them, or every item on them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

from codat_commerce_async._request import Query
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models.paging import Page

__all__ = ["Pages"]

ItemT = TypeVar("ItemT")
PageT = TypeVar("PageT", bound=Page[object])


class Pages(Generic[PageT, ItemT]):
    """A paged answer that is yet to be asked for.

    `await` it for one page, `async for` over it for every item from there on, or over `pages()` for every page.
    Nothing is fetched before it is needed, and each use begins anew.
    """

    def __init__(self, fetch: Callable[[Query], Awaitable[PageT]], query: Query) -> None:
        self._fetch = fetch
        self._query = query

    def __await__(self) -> Generator[object, None, PageT]:
        return self._first().__await__()

    def __aiter__(self) -> AsyncIterator[ItemT]:
        return self._items()

    async def pages(self) -> AsyncIterator[PageT]:
        """Every page from the one asked for on, as far as the server names a next one.

        Ends on an empty page, and on one that was there before: a server that goes in circles is not followed.
        """
        query = self._query
        asked = {_as_key(query)}
        last: PageT | None = None
        while True:
            page = await self._fetch(query)
            if last is not None and (not page.results or page.results == last.results):
                return
            yield page
            following = _next_query(page)
            if following is None or not page.results or _as_key(query := {**query, **following}) in asked:
                return
            asked.add(_as_key(query))
            last = page

    async def _first(self) -> PageT:
        return await self._fetch(self._query)

    async def _items(self) -> AsyncIterator[ItemT]:
        async for page in self.pages():
            for item in page.results:
                yield item  # type: ignore[misc]  # the page's own item type, which its bound cannot name


def _as_key(query: Query) -> frozenset[tuple[str, str]]:
    # A page that is not named is the first.
    return frozenset((name, str(value)) for name, value in {"page": 1, **_given(query)}.items())


def _given(query: Query) -> Query:
    return {name: value for name, value in query.items() if value is not None}


def _next_query(page: Page[object]) -> dict[str, str] | None:
    """What the server says is next; only its query is followed, never another host or path."""
    href = page.links.next.href if page.links and page.links.next else None
    if not href:
        return None
    try:
        return dict(parse_qsl(urlsplit(href).query))
    except ValueError:
        raise DecodeError("the link to the next page is no address", None, "$._links.next.href") from None
