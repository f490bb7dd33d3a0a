"""Bad arguments are refused by their names, before anything is sent."""

import re
import uuid
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codat_commerce_async import CodatCommerce, Operation, SyncHandle
from codat_commerce_async.models.companies import CreateCompany
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.resources.advanced_controls import AdvancedControlsResource, check_company_name
from codat_commerce_async.simulator.virtual_time import run_in_virtual_time
from tests.support.cases import all_cases
from tests.support.scripted import KEY, client_of, respond
from tests.support.specification import specification

# The arguments are wrong on purpose, so the type checkers do not check the client here.
Codat = Any
Call = Callable[[Codat], object]

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
NAIVE = datetime(2026, 7, 1, 12)  # noqa: DTZ001 - that is what is wrong with it
CONFIGURATION = Configuration(company_id="c")
GUID = "0b0f3b6e-7a38-4b7c-9b0e-6d1f2c3a4b5d"
GET = Operation("a-read", "GET", "/companies/{companyId}", object)
POST = Operation("a-write", "POST", "/companies/{companyId}", object)


async def outcome(call: Call, codat: CodatCommerce) -> None:
    """Consume the result of a call to its end."""
    result = call(codat)
    if isinstance(result, AsyncIterable):
        async for _ in result:
            break
    elif isinstance(result, Awaitable):
        await result


async def refused(call: Call, kind: type[Exception], name: str) -> None:
    codat, transport = client_of(respond())
    with pytest.raises(kind, match=rf"\b{re.escape(name)}\b") as caught:
        await outcome(call, codat)
    assert type(caught.value) is kind
    assert transport.sent == []


# The methods that take an id and are no operation, with the id's name; the operations are in test_contract.py.
WITH_IDS: dict[str, tuple[str, Callable[[Codat, Any], object]]] = {
    "sync.start": ("company_id", lambda c, v: c.sync.start(v)),
    "sync.run": ("company_id", lambda c, v: c.sync.run(v)),
    "call": ("company_id", lambda c, v: c.call(GET, v)),
    "send": ("company_id", lambda c, v: c.send(GET, v)),
}


@pytest.mark.parametrize("method", WITH_IDS)
@all_cases("value", ["", " ", "\t", ".", "..", "a\ud800b"])
async def test_an_id_that_leads_elsewhere_is_refused(method: str, value: str) -> None:
    name, call = WITH_IDS[method]
    await refused(lambda codat: call(codat, value), ValueError, name)


@pytest.mark.parametrize("method", WITH_IDS)
@all_cases("value", [None, 7, b"c", uuid.UUID(int=7)])
async def test_an_id_that_is_no_string_is_refused(method: str, value: object) -> None:
    name, call = WITH_IDS[method]
    await refused(lambda codat: call(codat, value), TypeError, name)


@pytest.mark.parametrize("method", ["wait", "watch"])
@pytest.mark.parametrize(("company_id", "sync_id", "name"), [("", "s", "company_id"), ("c", "..", "sync_id")])
async def test_a_wait_refuses_bad_ids(method: str, company_id: str, sync_id: str, name: str) -> None:
    await refused(lambda codat: getattr(codat.sync, method)(company_id, sync_id), ValueError, name)


# Several ids in one example, as the event loop of an example costs more than the calls on it.
@given(st.lists(st.text(), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_any_id_is_refused_or_stays_in_its_segment(values: list[str]) -> None:
    async def call_with(value: str) -> None:
        codat, transport = client_of(respond(200, []))
        try:
            await codat.sync.list(value)
        except ValueError as error:
            assert str(error).startswith("company_id must be")  # noqa: PT017 - either is right
            assert transport.sent == []
        else:
            [sent] = transport.sent
            beginning, end = "/companies/", "/sync/commerce/syncs/list/status"
            assert sent.target.startswith(beginning)
            assert sent.target.endswith(end)
            assert re.fullmatch(r"[\w.~%-]+", sent.target[len(beginning) : -len(end)], re.ASCII)

    async def call_with_each() -> None:
        for value in values:
            await call_with(value)

    run_in_virtual_time(call_with_each())


REFUSALS: list[tuple[str, type[Exception], Call]] = [
    # Platform keys
    *(
        ("platform_key", ValueError, lambda c, key=key: c.connections.create("c", platform_key=key))
        for key in ("", "gboll", "gbo", "GBOL", "gb0l", "gbol\n", "\uff47bol", "gbøl")
    ),
    ("platform_key", TypeError, lambda c: c.connections.create("c", platform_key=None)),
    ("platform_key", ValueError, lambda c: c.integrations.get_branding("xero!")),
    ("platform_key", ValueError, lambda c: c.sync_flow_settings.get_visible_accounts("c", "../x")),
    ("platform_key", ValueError, lambda c: c.sync_flow_settings.update_visible_accounts_sync_flow("five5", None)),
    (
        "commerce_key",
        ValueError,
        lambda c: c.connections.get_sync_flow_url(commerce_key="shops", accounting_key="gbol"),
    ),
    ("accounting_key", ValueError, lambda c: c.connections.get_sync_flow_url(commerce_key="fztf", accounting_key="")),
    # Pages
    *(
        (name, ValueError, lambda c, method=method, name=name, value=value: getattr(*method(c))(**{name: value}))
        for method in (
            lambda c: (c.integrations, "list"),
            lambda c: (c.advanced_controls, "list_companies"),
        )
        for name, value in (("page", 0), ("page", -1), ("page_size", 0), ("page_size", 5001), ("query", "\ud800"))
    ),
    ("page_size", ValueError, lambda c: c.connections.list("c", page_size=0)),
    ("page", TypeError, lambda c: c.connections.list("c", page="1")),
    ("page", TypeError, lambda c: c.connections.list("c", page=True)),
    ("page_size", TypeError, lambda c: c.connections.list("c", page_size=1.0)),
    ("query", TypeError, lambda c: c.connections.list("c", query=7)),
    ("order_by", TypeError, lambda c: c.connections.list("c", order_by=b"-id")),
    ("order_by", ValueError, lambda c: c.connections.list("c", order_by="\udfff")),
    # Bodies and queries
    ("merchant_identifier", TypeError, lambda c: flow_url(c, 7)),
    ("merchant_identifier", ValueError, lambda c: flow_url(c, "\ud800")),
    ("authorization", TypeError, lambda c: c.connections.update_authorization("c", "k", "secret")),
    ("authorization", TypeError, lambda c: c.connections.update_authorization("c", "k", {"a": 1})),
    ("authorization", TypeError, lambda c: c.connections.update_authorization("c", "k", {1: "a"})),
    ("status", ValueError, lambda c: c.connections.update_connection("c", "k", status="unlinked")),
    ("status", TypeError, lambda c: c.connections.update_connection("c", "k", status=None)),
    ("name", ValueError, lambda c: c.advanced_controls.create_company(name=" ")),
    ("name", ValueError, lambda c: c.advanced_controls.create_company(name="<script>")),
    ("name", TypeError, lambda c: c.advanced_controls.create_company(name=None)),
    ("description", TypeError, lambda c: c.advanced_controls.create_company(name="n", description=7)),
    ("tags", TypeError, lambda c: c.advanced_controls.create_company(name="n", tags=["a"])),
    ("tags", ValueError, lambda c: c.advanced_controls.create_company(name="n", tags={"": "a"})),
    ("tags", ValueError, lambda c: c.advanced_controls.create_company(name="n", tags={"a": "b" * 101})),
    ("tags", ValueError, lambda c: c.advanced_controls.create_company(name="n", tags=dict.fromkeys("abcdefghijk", ""))),
    ("configuration", TypeError, lambda c: c.advanced_controls.set_configuration("c", {})),
    ("configuration", ValueError, lambda c: c.advanced_controls.set_configuration("other", CONFIGURATION)),
    ("locale", ValueError, lambda c: c.sync_flow_settings.get_config_text_sync_flow(locale="de-de")),
    ("locale", TypeError, lambda c: c.sync_flow_settings.update_config_text_sync_flow({}, locale=None)),
    ("texts", TypeError, lambda c: c.sync_flow_settings.update_config_text_sync_flow(["a"], locale="en-us")),
    ("texts", TypeError, lambda c: c.sync_flow_settings.update_config_text_sync_flow({"a": 1}, locale="en-us")),
    ("visible_accounts", TypeError, lambda c: c.sync_flow_settings.update_visible_accounts_sync_flow("gbol", "abc")),
    ("visible_accounts", TypeError, lambda c: c.sync_flow_settings.update_visible_accounts_sync_flow("gbol", [1])),
    ("flag", TypeError, lambda c: c.call(GET, "c", query={"flag": NOON})),
    ("flag", ValueError, lambda c: c.call(GET, "c", query={"flag": "\ud800"})),
    # Periods
    ("sync_to", ValueError, lambda c: c.sync.request("c", sync_to=NAIVE)),
    ("sync_to", TypeError, lambda c: c.sync.request("c", sync_to="2026-07-01")),
    ("sync_to", TypeError, lambda c: c.sync.start("c", sync_to=date(2026, 7, 1))),
    ("sync_to", ValueError, lambda c: c.sync.run("c", sync_to=NAIVE)),
    ("sync_to", ValueError, lambda c: c.sync.start("c", sync_to=NOON, date_range=(NOON, NOON))),
    ("start", ValueError, lambda c: c.sync.request_for_date_range("c", start=NAIVE, finish=NOON)),
    ("finish", ValueError, lambda c: c.sync.request_for_date_range("c", start=NOON, finish=NAIVE)),
    ("finish", ValueError, lambda c: c.sync.request_for_date_range("c", start=NOON, finish=NOON - timedelta(1))),
    ("start", ValueError, lambda c: c.sync.request_for_date_range("c", start=None, finish=NOON)),
    ("finish", ValueError, lambda c: c.sync.start("c", date_range=(NOON, NOON - timedelta(seconds=1)))),
    ("date_range", TypeError, lambda c: c.sync.start("c", date_range=(NOON,))),
    ("date_range", TypeError, lambda c: c.sync.run("c", date_range=NOON)),
    # Handles
    ("sync_id", TypeError, lambda c: c.sync.wait("c")),
    ("handle", TypeError, lambda c: c.sync.wait(SyncHandle(company_id="c"), "s")),
    # Waits
    *(
        (name, kind, lambda c, m=m, name=name, value=value: wait(c, m, **{name: value}))
        for m in ("wait", "watch", "run", "run_many")
        for name, kind, value in (
            ("timeout", ValueError, -1),
            ("timeout", ValueError, float("nan")),
            ("timeout", TypeError, "60"),
            ("timeout", TypeError, True),
            ("timeout", ValueError, 10**400),
            ("poll", TypeError, 5),
            ("bogus", TypeError, 1),
            ("idempotency_key", TypeError, GUID),
        )
    ),
]


def flow_url(codat: Codat, merchant: object) -> object:
    return codat.connections.get_sync_flow_url(commerce_key="fztf", accounting_key="gbol", merchant_identifier=merchant)


def wait(codat: Codat, method: str, **options: object) -> object:
    if method == "run_many":
        return codat.sync.run_many(["c"], **options)
    ids = ("c",) if method == "run" else ("c", "s")
    return getattr(codat.sync, method)(*ids, **options)


@all_cases(("name", "kind", "call"), REFUSALS)
async def test_a_bad_argument_is_refused_by_name(name: str, kind: type[Exception], call: Call) -> None:
    await refused(call, kind, name)


OPTIONS: list[tuple[str, type[Exception], Mapping[str, object]]] = [
    ("bogus", TypeError, {"bogus": 1}),
    ("max_retries", TypeError, {"max_retries": 1, "timeout": 5}),
    ("retry", TypeError, {"retry": 3}),
    ("timeout", ValueError, {"timeout": 0}),
    ("timeout", ValueError, {"timeout": -1}),
    ("timeout", ValueError, {"timeout": float("nan")}),
    ("timeout", TypeError, {"timeout": "5"}),
    ("timeout", TypeError, {"timeout": True}),
    ("timeout", ValueError, {"timeout": 10**400}),
    ("timeout", ValueError, {"timeout": -(10**400)}),
    ("headers", TypeError, {"headers": None}),
    ("headers", TypeError, {"headers": [("a", "b")]}),
    ("headers", TypeError, {"headers": {"a": 1}}),
    ("headers", TypeError, {"headers": {1: "a"}}),
    *(
        ("headers", ValueError, {"headers": {name: "x"}})
        for name in (
            "",
            " ",
            "X Own",
            "X-Own:",
            "X-Own ",
            " X-Own",
            "Authorization: Basic x\r\nX",
            "X\r\nHost",
            "X-Ünknown",
            "Authorization",
            "AUTHORIZATION",
            "idempotency-key",
            "Content-Type",
            "content-length",
            "Transfer-Encoding",
            "Host",
            "User-Agent",
            "Accept",
        )
    ),
    *(
        ("headers", ValueError, {"headers": {"X-Own": value}})
        for value in ("a\r\nHost: evil", "a\nb", "a\x00", "\ud800", "a\u2028b")
    ),
]


@pytest.mark.parametrize(
    "call",
    [
        lambda c, options: c.sync.get_latest_sync("c", **options),
        lambda c, options: c.sync.request("c", **options),
        lambda c, options: c.sync.start("c", **options),
        lambda c, options: c.connections.list("c", **options),
        lambda c, options: c.connections.create("c", platform_key="gbol", **options),
        lambda c, options: c.call(POST, "c", **options),
    ],
    ids=["a read", "a write", "a start", "pages", "a creation", "a call of one's own"],
)
@all_cases(("name", "kind", "options"), OPTIONS)
async def test_a_bad_option_is_refused_by_name(
    call: Callable[[Codat, Mapping[str, object]], object],
    name: str,
    kind: type[Exception],
    options: Mapping[str, object],
) -> None:
    await refused(lambda codat: call(codat, options), kind, name)


@all_cases(
    "key",
    [
        "x",
        " ",
        GUID[:-1],
        f"{GUID} ",
        f"{GUID}\r\nX: y",
        f"{{{GUID}}}",
        f"urn:uuid:{GUID}",
        GUID.replace("-", "_"),
        "\u0660" * 32,
        "-".join(GUID.replace("-", "")),
    ],
)
async def test_a_key_that_is_no_guid_is_refused(key: str) -> None:
    await refused(lambda c: c.sync.request("c", idempotency_key=key), ValueError, "idempotency_key")


@pytest.mark.parametrize("key", [7, uuid.UUID(GUID), b"x"])
async def test_a_key_that_is_no_string_is_refused(key: object) -> None:
    await refused(lambda c: c.sync.request("c", idempotency_key=key), TypeError, "idempotency_key")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.sync.get_latest_sync("c", idempotency_key=GUID),
        lambda c: c.connections.list("c", idempotency_key=GUID),
        lambda c: c.connections.update_authorization("c", "k", {}, idempotency_key=GUID),
        lambda c: c.call(Operation("a-removal", "DELETE", "/x", object), idempotency_key=GUID),
    ],
    ids=["GET", "GET of pages", "PUT", "DELETE"],
)
async def test_a_key_is_for_post_and_patch(call: Call) -> None:
    await refused(call, ValueError, "idempotency_key")


@pytest.mark.parametrize("key", [GUID, GUID.upper(), GUID.replace("-", "")])
async def test_a_guid_goes_out_as_it_was_given(key: str) -> None:
    codat, transport = client_of(respond())
    await codat.call(POST, "c", idempotency_key=key)
    assert transport.sent[0].key == key


async def test_options_that_report_nothing_are_taken() -> None:
    codat, transport = client_of(respond())
    options: Any = {"retry": None, "timeout": None, "idempotency_key": None, "headers": {}, "background": False}
    await codat.call(GET, "c", **options)
    await codat.call(POST, "c", **options)
    assert transport.sent[1].key is not None


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false"), (0, "0"), ("", "")])
async def test_query_values_are_encoded_as_the_api_reads_them(value: str | int, text: str) -> None:
    codat, transport = client_of(respond())
    await codat.call(GET, "c", query={"flag": value})
    assert transport.sent[0].target == f"/companies/c?flag={text}"


@pytest.mark.parametrize("count", [0, 2])
async def test_a_wrong_number_of_path_values_is_refused(count: int) -> None:
    await refused(lambda c: c.call(GET, *["x"] * count), TypeError, "company_id")


def test_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODAT_API_KEY", raising=False)
    with pytest.raises(ValueError, match="CODAT_API_KEY is not set"):
        CodatCommerce.from_env()
    with pytest.raises(ValueError, match="api_key or auth_header"):
        CodatCommerce()


async def test_the_environment_gives_the_key_and_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODAT_API_KEY", KEY)
    assert repr(CodatCommerce.from_env()) == "<CodatCommerce https://api.codat.io open>"
    monkeypatch.setenv("CODAT_BASE_URL", "http://localhost:1/")
    assert repr(CodatCommerce.from_env()) == "<CodatCommerce http://localhost:1 open>"
    assert repr(CodatCommerce.from_env(base_url="http://other")) == "<CodatCommerce http://other open>"


@pytest.mark.parametrize(
    ("name", "text"),
    [("a b", "a%20b"), ("a&b=c", "a%26b%3Dc"), ("a#b", "a%23b"), ("\u00e9", "%C3%A9"), ("$top", "$top")],
)
async def test_a_name_in_a_query_is_quoted(name: str, text: str) -> None:
    client, wire = client_of(respond())
    await client.call(Operation("odd", "GET", "/x", object), query={name: "v"})
    assert wire.sent[0].target == f"/x?{text}=v"


@pytest.mark.parametrize(("name", "kind"), [(7, TypeError), (None, TypeError), ("\ud800", ValueError)])
async def test_a_name_that_a_query_cannot_hold_is_refused(name: object, kind: type[Exception]) -> None:
    client, wire = client_of(respond())
    with pytest.raises(kind, match="query must have names"):
        await client.call(Operation("odd", "GET", "/x", object), query={name: "v"})  # type: ignore[dict-item]
    assert wire.sent == []


def is_accepted(name: str) -> bool:
    try:
        return check_company_name("name", name) == name
    except ValueError as error:
        assert "name" in str(error)  # noqa: PT017 - either is right
        return False


def test_a_name_takes_the_characters_of_the_specification_and_no_other() -> None:
    pattern = specification()["components"]["schemas"]["CreateCompany"]["properties"]["name"]["pattern"].strip("^$")
    names = [f"n{chr(code)}n" for code in range(128)]
    accepted = [name for name in names if re.fullmatch(pattern, name, re.ASCII)]
    assert 0 < len(accepted) < len(names)
    assert [name for name in names if is_accepted(name)] == accepted


@pytest.mark.parametrize("documented", [CreateCompany.__doc__, AdvancedControlsResource.create_company.__doc__])
def test_the_documentation_of_a_name_reports_what_the_validation_does(documented: str) -> None:
    assert all(character in documented for character in "-',&@.?!")
    assert "refuse" in documented
    assert "up to 10 tags, with" in " ".join(documented.split())


@all_cases("company_id", [[], {}, None, 7])
def test_a_company_that_is_no_string_is_refused_wherever_it_is_used(company_id: object) -> None:
    async def work() -> None:
        for call in (
            lambda codat: codat.sync.start(company_id),
            lambda codat: codat.sync.run(company_id),
            lambda codat: codat.sync.poll_now(company_id),
        ):
            await refused(call, TypeError, "company_id must be a string")

    run_in_virtual_time(work())


@pytest.mark.parametrize("response_type", [[], "no type", 7])
def test_a_type_that_no_response_can_be_decoded_to_is_refused_before_a_write_is_sent(response_type: Any) -> None:
    write = Operation("a-write", "POST", "/companies", response_type)
    run_in_virtual_time(refused(lambda codat: codat.call(write), TypeError, "response"))
    run_in_virtual_time(refused(lambda codat: codat.send(write), TypeError, "response"))


@all_cases(
    ("call", "kind", "message"),
    [
        (lambda codat: codat.call(None), TypeError, "operation must be a Operation"),
        (lambda codat: codat.call(GET, "c", query=True), TypeError, "query must be a mapping"),
        (lambda codat: codat.call(POST, "c", body="\ud800"), TypeError, "a body must be JSON"),
        (lambda codat: codat.sync.run_many([], objective=[]), TypeError, "objective must be a string"),
        (lambda codat: codat.sync.run_many([], objective="x" * 1000), ValueError, "objective must be 'latency' or"),
        (lambda codat: codat.connections.update_connection("c", "k", status="x" * 1000), ValueError, "status must be"),
        (
            lambda codat: codat.advanced_controls.create_company(name="a", description="\ud800"),
            ValueError,
            "description must be text without lone surrogates",
        ),
    ],
)
def test_an_argument_that_broke_inside_is_refused_by_name(call: Call, kind: type[Exception], message: str) -> None:
    async def work() -> None:
        codat, transport = client_of(respond())
        with pytest.raises(kind) as caught:
            await outcome(call, codat)
        assert str(caught.value).startswith(message)
        assert len(str(caught.value)) < 200
        assert transport.sent == []

    run_in_virtual_time(work())


def test_a_quota_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^limit must be a RateLimit \(got NoneType\)$"):
        client_of(respond())[0].update_rate_limit(None)  # type: ignore[arg-type]  # that is what is tested
