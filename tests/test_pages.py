import asyncio
import gc
import inspect
from collections.abc import Coroutine
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async import DecodeError, NotFoundError
from codat_commerce_async._core.transport import Request, Response
from codat_commerce_async.simulator.virtual_time import run_in_virtual_time
from tests.support.scripted import client_of, forever, respond


def page(*ids: str, following: str | None = None) -> Response:
    links = {"_links": {"next": {"href": following}}} if following is not None else {}
    return respond(200, {"results": [{"id": one} for one in ids], "pageNumber": 0, **links})


NEXT = "/companies/c/connections?page={}&pageSize=2"


async def test_awaiting_gives_one_page() -> None:
    codat, transport = client_of(page("1", "2", following=NEXT.format(2)))
    first = await codat.connections.list("c", page=1, page_size=2)
    assert [one.id for one in first.results] == ["1", "2"]
    assert first.has_next
    assert [sent.target for sent in transport.sent] == ["/companies/c/connections?page=1&pageSize=2"]


async def test_iterating_gives_every_item_of_every_page_in_order() -> None:
    codat, transport = client_of(page("1", "2", following=NEXT.format(2)), page("3", following=NEXT.format(3)), page())
    items = [one.id async for one in codat.connections.list("c", page_size=2, query="status=Linked", order_by="-id")]
    assert items == ["1", "2", "3"]
    rest = "&query=status%3DLinked&orderBy=-id"
    assert [sent.target.partition("?")[2] for sent in transport.sent] == [
        f"pageSize=2{rest}",
        f"page=2&pageSize=2{rest}",
        f"page=3&pageSize=2{rest}",
    ]


async def test_iterating_begins_where_it_is_reported() -> None:
    codat, _ = client_of(page("9"))
    assert [one.id async for one in codat.connections.list("c", page=5)] == ["9"]


async def test_pages_can_be_had_whole() -> None:
    codat, _ = client_of(page("1", following=NEXT.format(2)), page("2", "3"))
    assert [len(one.results) async for one in codat.connections.list("c").pages()] == [1, 2]


async def test_nothing_is_fetched_before_it_is_needed() -> None:
    codat, transport = client_of(page("1", "2", following=NEXT.format(2)), page("3"))
    listing = codat.connections.list("c")
    assert transport.sent == []
    fetched = [len(transport.sent) async for _ in listing]
    assert fetched == [1, 1, 2]
    async for _ in listing.pages():
        break
    assert len(transport.sent) == 3


async def test_each_use_begins_again() -> None:
    codat, transport = client_of(page("1"))
    listing = codat.connections.list("c")
    await listing
    await listing
    assert [one.id async for one in listing] == ["1"]
    assert len(transport.sent) == 3


async def test_an_empty_list_is_empty() -> None:
    codat, transport = client_of(respond(200, {"results": None}))
    assert [one async for one in codat.connections.list("c")] == []
    assert [one.results async for one in codat.connections.list("c").pages()] == [()]
    assert len(transport.sent) == 2


CIRCLE = {"1": page("1", following="?page=2"), "2": page("2", following="?page=1")}


async def test_a_server_that_goes_in_circles_is_not_followed() -> None:
    async def send_page(request: Request) -> Response:
        return CIRCLE["2" if "page=2" in request.target else "1"]

    for begin in (None, 1, 2):
        codat, transport = client_of(send_page)
        listing = codat.connections.list("c", page=begin)
        seen = [one.id async for one in listing]
        assert sorted(seen) == ["1", "2"]
        assert len(transport.sent) == 2


@pytest.mark.parametrize(
    ("script", "items", "requests"),
    [
        ([page("1", following=NEXT.format(n)) for n in range(2, 9)], ["1"], 2),  # other pages, the same items
        ([page("1", following=NEXT.format(2)), page(following=NEXT.format(3))], ["1"], 2),
        ([page(following=NEXT.format(2))], [], 1),
        ([page("1", following="")], ["1"], 1),
        ([page("1", following="?page=1")], ["1"], 1),
        ([page("1", following="/companies/c/connections")], ["1"], 1),
    ],
)
async def test_a_link_that_leads_nowhere_new_is_the_end(
    script: list[Response], items: list[str], requests: int
) -> None:
    codat, transport = client_of(*script)
    assert [one.id async for one in codat.connections.list("c")] == items
    assert len(transport.sent) == requests


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example.com/steal?page=2",
        "//evil.example.com/steal?page=2",
        "/admin/delete-everything?page=2",
        "?page=2",
        "companies?page=2#fragment",
    ],
)
async def test_only_the_query_of_a_link_is_followed(following: str) -> None:
    codat, transport = client_of(page("1", following=following), page("2"))
    assert [one.id async for one in codat.connections.list("c")] == ["1", "2"]
    assert transport.sent[1].target == "/companies/c/connections?page=2"


@pytest.mark.parametrize("following", ["http://[::1?page=2", "//[x", "http://\uff03.example.com?page=2"])
async def test_a_link_that_is_no_address_is_an_error_and_not_the_end(following: str) -> None:
    codat, _ = client_of(page("1", following=following), page("2"))
    seen = []

    async def read() -> None:
        async for one in codat.connections.list("c"):
            seen.append(one.id)  # noqa: PERF401 - what was seen before the error counts

    with pytest.raises(DecodeError, match="must be a URL") as caught:
        await read()
    assert caught.value.path == "$._links.next.href"
    assert seen == ["1"]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_no_link_breaks_the_reader(following: str, with_page: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    async def read() -> None:
        codat, transport = client_of(page("1", following=following + ("?page=2" if with_page else "")), page("2"))
        try:
            items = [one.id async for one in codat.connections.list("c")]
        except DecodeError as error:
            assert error.path == "$._links.next.href"  # noqa: PT017 - either is right
        else:
            assert items in (["1"], ["1", "2"])
        assert {sent.target.partition("?")[0] for sent in transport.sent} == {"/companies/c/connections"}

    run_in_virtual_time(read())


async def test_an_error_on_a_later_page_comes_out_there() -> None:
    codat, _ = client_of(page("1", following=NEXT.format(2)), respond(404))
    items = aiter(codat.connections.list("c"))
    assert (await anext(items)).id == "1"
    with pytest.raises(NotFoundError):
        await anext(items)


async def test_options_go_with_every_page() -> None:
    codat, transport = client_of(page("1", following=NEXT.format(2)), page("2"))
    listing = codat.connections.list("c", headers={"X-Own": "1"})
    assert len([one async for one in listing]) == 2
    assert [sent.headers["X-Own"] for sent in transport.sent] == ["1", "1"]


async def test_companies_and_integrations_page_likewise() -> None:
    codat, transport = client_of(page("1", following="?page=2"), page("2"))
    assert [one.id async for one in codat.advanced_controls.list_companies()] == ["1", "2"]
    assert [sent.target for sent in transport.sent] == ["/companies", "/companies?page=2"]
    codat, transport = client_of(respond(200, {"results": [{"key": "gbol", "name": "Xero"}]}))
    assert [one.name async for one in codat.integrations.list(page_size=5000)] == ["Xero"]
    assert [sent.target for sent in transport.sent] == ["/config/integrations?pageSize=5000"]


async def test_a_task_can_be_made_of_a_listing() -> None:
    codat, transport = client_of(*[page("1")] * 3)
    task = asyncio.create_task(codat.connections.list("c"))
    assert [one.id for one in (await task).results] == ["1"]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(codat.connections.list("c")), group.create_task(codat.connections.list("d"))]
    assert [one.id for each in tasks for one in each.result().results] == ["1", "1"]
    assert len(transport.sent) == 3


async def test_tasks_of_one_listing_each_fetch_it() -> None:
    async def send_page(request: Request) -> Response:
        await asyncio.sleep(0)
        return page("1")

    codat, transport = client_of(*[send_page] * 4)
    listing = codat.connections.list("c")
    first, second = asyncio.create_task(listing), asyncio.create_task(listing)
    assert [len((await each).results) for each in (first, second)] == [1, 1]
    assert len((await asyncio.create_task(listing)).results) == len((await listing).results) == 1
    assert len(transport.sent) == 4


async def test_a_task_of_a_listing_raises_what_the_call_raises_and_can_be_cancelled() -> None:
    codat, _ = client_of(respond(404), forever)
    listing = codat.connections.list("c")
    with pytest.raises(NotFoundError):
        await asyncio.create_task(listing)
    waiting, unstarted = asyncio.create_task(listing), asyncio.create_task(codat.connections.list("c"))
    unstarted.cancel()
    await asyncio.sleep(0)
    waiting.cancel()
    for task in (waiting, unstarted):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_listing_that_is_never_used_is_no_matter() -> None:
    codat, transport = client_of()
    codat.connections.list("c")
    codat.connections.list("c").close()
    codat.advanced_controls.list_companies()
    gc.collect()  # a coroutine that was never awaited would warn, and so fail this
    assert transport.sent == []


async def test_throwing_into_a_listing_ends_it() -> None:
    codat, _ = client_of(page("1"))
    listing = codat.connections.list("c")
    with pytest.raises(ValueError, match="given"):
        listing.throw(ValueError("given"))
    with pytest.raises(ValueError, match="given"):
        listing.throw(ValueError, ValueError("given"))
    with pytest.raises(ValueError, match="given"):
        listing.throw(ValueError, "given")
    assert len((await listing).results) == 1


@pytest.mark.parametrize("whole", [False, True], ids=["items", "pages"])
async def test_an_iteration_that_is_left_early_can_be_closed(*, whole: bool) -> None:
    codat, transport = client_of(page("1", "2", following=NEXT.format(2)), page("3"))
    listing = codat.connections.list("c")
    seen: list[object] = []
    if whole:
        async with aclosing(listing.pages()) as pages:
            async for one in pages:
                seen.append(one)
                break
    else:
        async with aclosing(listing) as items:
            iterating = aiter(items)
            seen.append(await anext(iterating))
        with pytest.raises(StopAsyncIteration):
            await anext(iterating)
    assert (len(seen), len(transport.sent)) == (1, 1)


def test_a_listing_passes_checks_for_a_coroutine() -> None:
    codat, _ = client_of()
    listing = codat.connections.list("c")
    assert isinstance(listing, Coroutine)
    assert asyncio.iscoroutine(listing)
    assert inspect.isawaitable(listing)
