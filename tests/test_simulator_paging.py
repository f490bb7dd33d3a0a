"""How the simulator pages, filters and orders."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.cases import all_cases
from tests.support.simulated import SimulatedApi

NAMES = ["Delta", "Alpha", "Charlie", "Bravo", "Echo"]


def named() -> SimulatedApi:
    api = SimulatedApi()
    for name in NAMES:
        api.simulator.add_company(name, company_id=name.lower())
        api.wait(1)
    return api


def names(api: SimulatedApi, **parameters: object) -> list[str]:
    return [one["name"] for one in api.request("GET", "/companies", **parameters)["results"]]


def test_pages_follow_each_other_by_their_links() -> None:
    api = named()
    page, seen = api.request("GET", "/companies", page=1, pageSize=2), []
    while True:
        seen.append([one["name"] for one in page["results"]])
        assert (page["totalResults"], page["pageSize"], page["pageNumber"]) == (5, 2, len(seen))
        if "next" not in page["_links"]:
            break
        path, _, query = page["_links"]["next"]["href"].partition("?")
        page = api.request("GET", path, **dict(part.split("=") for part in query.split("&")))
    assert seen == [NAMES[:2], NAMES[2:4], NAMES[4:]]
    assert page["_links"] == {
        "self": {"href": "/companies"},
        "current": {"href": "/companies?page=3&pageSize=2"},
        "previous": {"href": "/companies?page=2&pageSize=2"},
    }


def test_a_page_holds_a_hundred_unless_reported_otherwise_and_at_most_five_thousand() -> None:
    api = SimulatedApi()
    assert api.request("GET", "/companies")["pageSize"] == 100
    assert api.request("GET", "/companies", pageSize=5000)["pageSize"] == 5000
    for _ in range(101):
        api.simulator.add_company()
    first = api.request("GET", "/companies")
    assert (len(first["results"]), "next" in first["_links"]) == (100, True)


def test_a_page_beyond_the_last_is_empty() -> None:
    page = named().request("GET", "/companies", page=7)
    assert (page["results"], page["totalResults"], "next" in page["_links"]) == ([], 5, False)


@all_cases(
    "parameters",
    [{"page": 0}, {"page": -1}, {"page": "x"}, {"page": ""}, {"pageSize": 0}, {"pageSize": 5001}, {"pageSize": "1.5"}],
)
def test_a_page_that_is_none_is_a_400(parameters: dict[str, Any]) -> None:
    error = named().error("GET", "/companies", status=400, **parameters)
    assert [item["itemId"] for item in error["validation"]["errors"]] == list(parameters)


@all_cases(
    ("query", "expected"),
    [
        ("name=Bravo", ["Bravo"]),
        ('name="Bravo"', ["Bravo"]),
        ("id=delta", ["Delta"]),
        ("name!=Bravo", ["Delta", "Alpha", "Charlie", "Echo"]),
        ("name = Bravo && id = bravo", ["Bravo"]),
        ("name=Bravo&&id=delta", []),
        ("name=Bravo||id=delta", ["Delta", "Bravo"]),
        ("name=Echo||name=Bravo&&id=bravo", ["Bravo", "Echo"]),
        ("name=bravo", []),
    ],
)
def test_a_query_filters_by_equality(query: str, expected: list[str]) -> None:
    assert names(named(), query=query) == expected


@all_cases("query", ["name", "name=", "=x", "name>A", "name~A", "name==A", "(name=A)", "name=A&&", "name=A|id=b"])
def test_a_query_that_is_not_understood_is_a_400(query: str) -> None:
    error = named().error("GET", "/companies", status=400, query=query)
    assert error["error"].startswith("Error parsing query")


def test_an_unknown_field_is_a_400() -> None:
    api = named()
    assert "isCompleted" in api.error("GET", "/companies", status=400, query="isCompleted=true")["error"]
    assert "modified" in api.error("GET", "/companies", status=400, orderBy="-modified")["error"]


def test_results_are_ordered_either_way() -> None:
    api = named()
    assert names(api, orderBy="name") == sorted(NAMES)
    assert names(api, orderBy="-name") == sorted(NAMES, reverse=True)
    assert names(api, orderBy="-created", pageSize=2) == ["Echo", "Bravo"]


def test_links_keep_the_query_and_the_order_encoded() -> None:
    page = named().request("GET", "/companies", query="name!=Echo && id!=x", orderBy="-name", pageSize=2)
    assert page["_links"]["next"]["href"] == (
        "/companies?page=2&pageSize=2&query=name%21%3DEcho+%26%26+id%21%3Dx&orderBy=-name"
    )
    assert page["totalResults"] == 4


def test_booleans_are_queried_by_their_json_names() -> None:
    page = SimulatedApi().request("GET", "/config/integrations", query="enabled=false")
    assert [one["key"] for one in page["results"]] == ["dfxm"]


def test_connections_are_paged_per_company() -> None:
    api = SimulatedApi()
    company_id = api.simulator.add_linked_company()
    api.simulator.add_linked_company()
    page = api.request("GET", f"/companies/{company_id}/connections", query="sourceType=Commerce")
    assert [one["integrationKey"] for one in page["results"]] == ["fztf"]
    assert page["_links"]["self"]["href"] == f"/companies/{company_id}/connections"


@settings(deadline=None)
@given(size=st.integers(1, 7), count=st.integers(0, 12))
def test_pages_hold_everything_once(size: int, count: int) -> None:
    api = SimulatedApi()
    for number in range(count):
        api.simulator.add_company(company_id=str(number))
    pages = [api.request("GET", "/companies", page=page, pageSize=size) for page in range(1, count + 2)]
    assert [one["id"] for page in pages for one in page["results"]] == [str(number) for number in range(count)]
    assert all(len(before["results"]) >= len(after["results"]) for before, after in pairwise(pages))


@settings(deadline=None)
@given(query=st.text(max_size=30), order=st.text(max_size=10))
def test_no_query_breaks_it(query: str, order: str) -> None:
    assert named().send("GET", "/companies", query=query, orderBy=order).status in {200, 400}
