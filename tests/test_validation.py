import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async._core import validation as v
from tests.support.cases import all_cases

NAIVE = datetime(2026, 7, 1, 12)  # noqa: DTZ001 - that is what is tested
HUGE = 10**5000  # has more digits than Python converts to text


@all_cases(
    ("check", "message"),
    [
        (lambda: v.check_int("page_size", 0, 1, 5000), "page_size must be an integer between 1 and 5,000 (got 0)"),
        (lambda: v.check_int("attempts", -1, 1), "attempts must be an integer of at least 1 (got -1)"),
        (lambda: v.check_int("attempts", True, 1), "attempts must be an integer (got bool)"),
        (lambda: v.check_int("attempts", 1.0, 1), "attempts must be an integer (got float)"),
        (lambda: v.check_int("attempts", HUGE, 1), "attempts must be a number that a float can hold"),
        (lambda: v.check_count("concurrent", HUGE), "concurrent must be a number that a float can hold"),
        (lambda: v.check_number("factor", "2"), "factor must be a number (got str)"),
        (lambda: v.check_seconds("timeout", -1), "timeout must be at least 0 seconds (got -1)"),
        (lambda: v.check_seconds("timeout", 0, positive=True), "timeout must be more than 0 seconds (got 0)"),
        (lambda: v.check_seconds("timeout", math.nan), "timeout must be at least 0 seconds (got nan)"),
        (
            lambda: v.check_seconds("interval", math.inf, finite=True),
            "interval must be at least 0 seconds and finite (got inf)",
        ),
        (lambda: v.check_str("name", 7), "name must be a string (got int)"),
        (lambda: v.check_url_text("query", "\ud800"), "query must be text without lone surrogates"),
        (lambda: v.check_str_list("ids", "abc"), "ids must be an iterable of strings (got str)"),
        (lambda: v.check_str_list("ids", ["a", 1]), "ids[1] must be a string (got int)"),  # type: ignore[list-item]
        (lambda: v.check_str_mapping("headers", [1]), "headers must be a mapping (got list)"),
        (
            lambda: v.check_platform_key("platform_key", "x" * 100),
            f"platform_key must be four lower-case letters such as 'gbol' (got '{'x' * 59}...)",
        ),
        (
            lambda: v.check_aware_datetime("sync_to", "2026"),
            "sync_to must be a datetime (got str)",
        ),
    ],
)
def test_a_message_states_what_must_be_and_what_was_given(check: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        check()
    assert str(refused.value) == message


@pytest.mark.parametrize("value", [{"token": 7}, {7: "secret"}, {"token": b"secret"}])
def test_a_mapping_that_may_hold_credentials_is_not_shown(value: dict[object, object]) -> None:
    with pytest.raises(TypeError) as refused:
        v.check_str_mapping("authorization", value)
    assert str(refused.value) == "authorization must be a mapping of strings to strings"


def test_a_mapping_is_copied() -> None:
    given_mapping = {"a": "b"}
    copy = v.check_str_mapping("headers", given_mapping)
    assert copy == given_mapping
    assert copy is not given_mapping


@given(st.datetimes(timezones=st.timezones()))
def test_an_aware_datetime_is_the_same_moment_in_utc(moment: datetime) -> None:
    try:
        checked = v.check_aware_datetime("sync_to", moment)
    except ValueError:
        assert moment.year in {1, 9999}
        assert v.as_utc(moment) is moment
    else:
        assert checked.tzinfo is UTC
        assert checked.timestamp() == moment.timestamp()
        assert v.as_utc(moment) == checked


def test_a_time_of_codat_without_a_zone_is_in_utc() -> None:
    assert v.as_utc(NAIVE) == NAIVE.replace(tzinfo=UTC)
    assert v.as_utc(NAIVE.replace(tzinfo=timezone(timedelta(hours=2)))) == datetime(2026, 7, 1, 10, tzinfo=UTC)


def test_a_period_is_a_start_and_a_finish() -> None:
    noon = NAIVE.replace(tzinfo=UTC)
    assert v.split_date_range("date_range", None) == (None, None)
    assert v.split_date_range("date_range", (noon, noon)) == (noon, noon)
    with pytest.raises(ValueError, match=r"^date_range\[1\] must be a datetime with a time zone"):
        v.split_date_range("date_range", (noon, NAIVE))
