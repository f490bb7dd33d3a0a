from enum import Enum
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from codat_commerce_async import CodatCommerce
from codat_commerce_async._core.operation import Idempotency, Operation
from tests.support.cases import all_cases

GET = Operation("get-sync-by-id", "GET", "/companies/{companyId}/syncs/{syncId}/status", object)


def test_the_path_is_filled_in_order() -> None:
    assert GET.format_path(("c", "s")) == "/companies/c/syncs/s/status"


@all_cases(
    ("value", "segment"),
    [
        ("a/b", "a%2Fb"),
        ("a?b=c#d", "a%3Fb%3Dc%23d"),
        ("50%", "50%25"),
        ("%2e%2e", "%252e%252e"),
        ("../companies", "..%2Fcompanies"),
        ("...", "..."),
        (" x ", "%20x%20"),
        ("a&b", "a%26b"),
        ("é", "%C3%A9"),
        ("{syncId}", "%7BsyncId%7D"),
    ],
)
def test_a_value_is_one_segment_whatever_it_holds(value: str, segment: str) -> None:
    assert GET.format_path((value, "s")) == f"/companies/{segment}/syncs/s/status"


@all_cases("value", ["", " ", "\t\n", ".", "..", "\u2003"])
def test_a_value_that_leads_elsewhere_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match=r"^company_id must be an id"):
        GET.format_path((value, "s"))
    with pytest.raises(ValueError, match=r"^sync_id must be an id"):
        GET.format_path(("c", value))


@all_cases(
    ("value", "problem"),
    [
        (" ", "an id that is neither empty nor blank (got ' ')"),
        ("", "an id that is neither empty nor blank (got '')"),
        ("..", "an id other than '.' and '..', which lead to another endpoint (got '..')"),
        ("a\n", "an id without line breaks, control and invisible characters (got 'a\\n')"),
    ],
)
def test_an_invalid_value_is_reported_with_its_reason(value: str, problem: str) -> None:
    with pytest.raises(ValueError, match="company_id") as caught:
        GET.format_path((value, "s"))
    assert str(caught.value) == f"company_id must be {problem}"


@all_cases(
    "value", ["a\n", "\ta", "a\r\nHost: evil", "a\x00b", "a\x7f", "a\x85b", "a\u200b", "a\u2028", "\u202ea", "\ufeffa"]
)
def test_a_value_with_a_character_that_cannot_be_seen_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^sync_id must be an id without line breaks") as caught:
        GET.format_path(("c", value))
    assert str(caught.value).isprintable()


def test_a_lone_surrogate_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^sync_id must be text without lone surrogates") as caught:
        GET.format_path(("c", "\ud800"))
    assert type(caught.value) is ValueError


@all_cases("value", [None, 7, b"c", ["c"]])
def test_a_value_that_is_no_string_is_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"^company_id must be a string "):
        GET.format_path((value, "s"))  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.parametrize("values", [(), ("c",), ("c", "s", "x")])
def test_a_wrong_number_of_values_reports_what_is_wanted(values: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match=r"^get-sync-by-id requires company_id, sync_id$"):
        GET.format_path(values)


@given(st.text(), st.text())
def test_any_text_is_refused_or_comes_back_whole_from_its_own_segment(company: str, sync: str) -> None:
    try:
        path = GET.format_path((company, sync))
    except ValueError as error:
        assert str(error).startswith(("company_id must be", "sync_id must be"))  # noqa: PT017 - either is right
        return
    assert path.isascii()
    # As it is sent, and as a client that normalizes would send it.
    for url in (URL(f"https://h{path}", encoded=True), URL(f"https://h{path}")):
        segments = url.raw_path.split("/")
        assert [unquote(segments[2]), unquote(segments[4])] == [company, sync]
        assert [*segments[:2], segments[3], *segments[5:]] == ["", "companies", "syncs", "status"]
        assert (url.raw_query_string, url.raw_fragment, url.raw_host) == ("", "", "h")


@all_cases(
    ("method", "repeat"),
    [
        ("GET", Idempotency.NATIVE),
        ("get", Idempotency.NATIVE),
        ("HEAD", Idempotency.NATIVE),
        ("PUT", Idempotency.NATIVE),
        ("POST", Idempotency.KEYED),
        ("PATCH", Idempotency.KEYED),
        ("DELETE", Idempotency.NONE),
        ("BREW", Idempotency.NONE),
    ],
)
def test_the_method_decides_how_a_request_may_be_repeated(method: str, repeat: Idempotency) -> None:
    assert Operation("x", method, "/x", object).idempotency is repeat


def test_the_company_is_reported_by_its_place_in_the_path() -> None:
    assert GET.company_id(("c", "s")) == "c"
    assert Operation("x", "GET", "/clients/{clientId}", object).company_id(("c",)) is None


@all_cases(
    ("name", "method", "path", "message"),
    [
        ("", "GET", "/x", "^name must be printable text"),
        ("a\n", "GET", "/x", "^name must be printable text"),
        ("x", None, "/x", "^method must be a string"),
        ("x", "", "/x", "^method must be an HTTP method"),
        ("x", "GET /\r\n", "/x", "^method must be an HTTP method"),
        ("x", "GET", None, "^path must be a string"),
    ],
)
def test_an_operation_that_cannot_be_is_refused_by_name(name: str, method: Any, path: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Operation(name, method, path, object)


def test_a_path_without_its_slash_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^path must"):
        Operation("x", "GET", "companies", object)


def test_an_id_is_its_text_whatever_it_would_format_as() -> None:
    class Known(str, Enum):  # noqa: UP042 - StrEnum formats as its text
        COMPANY = "a-company"

    assert (
        Operation("x", "GET", "/100%/{companyId}/all", object).format_path((Known.COMPANY,)) == "/100%25/a-company/all"
    )


@all_cases(
    ("path", "target"),
    [
        ("/a b/{companyId}", "/a%20b/c"),
        ("/caf\u00e9/{companyId}/x", "/caf%C3%A9/c/x"),
        ("/a%20b/{companyId}", "/a%20b/c"),
        ("/100%/{companyId}", "/100%25/c"),
        ("/%s/{companyId}", "/%25s/c"),
        ('/"<>^`|\\/{companyId}', "/%22%3C%3E%5E%60%7C%5C/c"),
        ("/a\r\nHost: evil/{companyId}", "/a%0D%0AHost:%20evil/c"),
        ("/a:b@c!$&'()*+,;=~-._/{companyId}", "/a:b@c!$&'()*+,;=~-._/c"),
        ("/{companyId}/", "/c/"),
    ],
)
def test_a_path_is_quoted_as_far_as_it_is_not_yet(path: str, target: str) -> None:
    assert Operation("odd", "GET", path, object).format_path(("c",)) == target


@all_cases(
    ("path", "words"),
    [
        ("/a?b=c", "query"),
        ("/a#b", "fragment"),
        ("/a/../b", "another endpoint"),
        ("/./b", "another endpoint"),
        ("/a/%2e%2E/b", "another endpoint"),
        ("/{company-id}", "placeholders"),
        ("/{companyId", "placeholders"),
        ("/\ud800", "surrogates"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^path must .*{words}"):
        Operation("odd", "GET", path, object)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}?#/")))
def test_any_text_in_a_path_comes_back_whole(text: str) -> None:
    text = text.replace("%", "")
    if text in {".", ".."}:
        return
    target = Operation("odd", "GET", f"/{text}/{{companyId}}", object).format_path(("c",))
    assert unquote(target) == f"/{text}/c"
    assert URL(f"https://a.b{target}", encoded=True).raw_path == target


@all_cases("name, hint", [("path", True), ("company_id", True), ("companyId", True), ("tiemout", False)])
async def test_a_value_of_the_path_by_name_is_refused_with_how_to_pass_it(name: str, *, hint: bool) -> None:
    operation = Operation("get-company", "GET", "/companies/{companyId}", object)
    expected = f"get-company takes no {name}" + "; pass the values of the path positionally: company_id" * hint
    with pytest.raises(TypeError, match=f"^{expected}$"):
        await CodatCommerce("key").call(operation, **{name: "c"})  # type: ignore[arg-type]
