import math
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from codat_commerce_async._core import headers as _headers
from tests.support.cases import all_cases

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
NOW = NOON.timestamp()
IN_5_MINUTES = "Wed, 01 Jul 2026 12:05:00 GMT"


def retry_after(text: str, **more: str) -> float | None:
    return _headers.retry_after(CIMultiDict({"retry-after": text, **more}), NOW)


@all_cases(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("999999999999", 999999999999.0),
        (IN_5_MINUTES, 300.0),
        ("Wednesday, 01-Jul-26 12:05:00 GMT", 300.0),  # RFC 850
        ("Wed Jul  1 12:05:00 2026", 300.0),  # asctime, which names no zone
        ("Wed, 01 Jul 2026 14:05:00 +0200", 300.0),
        ("Wed, 01 Jul 2026 11:59:59 GMT", 0.0),
    ],
)
def test_both_forms_of_retry_after_are_understood(text: str, seconds: float) -> None:
    assert retry_after(text) == seconds


@all_cases(
    "text",
    [
        "",
        " ",
        "soon",
        "-5",
        "+5",
        "nan",
        "inf",
        "1e3",
        "5s",
        "1,5",
        "0x10",
        "٣",
        "1_000",
        "9" * 5000,
        "Wed, 99 Jul 2026",
    ],
)
def test_an_invalid_retry_after_requests_nothing(text: str) -> None:
    assert retry_after(text) is None


def test_no_retry_after_requests_nothing() -> None:
    assert _headers.retry_after({}, NOW) is None


def test_a_date_is_held_against_the_servers_own_clock() -> None:
    assert retry_after(IN_5_MINUTES, Date="Wed, 01 Jul 2026 12:04:30 GMT") == 30.0


def test_a_date_is_rounded_up() -> None:
    headers = CIMultiDict({"Retry-After": IN_5_MINUTES})
    assert _headers.retry_after(headers, NOW + 0.25) == 300.0


@all_cases(
    "text",
    [
        "1782907200",
        "1782907200.0",
        "1782907200000",
        " 1782907200 ",
        "Wed, 01 Jul 2026 12:00:00 GMT",
        "2026-07-01T12:00:00Z",
        "2026-07-01T12:00:00.0000000+00:00",
        "2026-07-01T14:00:00+02:00",
        "2026-07-01 12:00:00",
    ],
)
def test_a_reset_is_read_in_every_form_that_was_seen(text: str) -> None:
    assert NOW == 1782907200
    limit = _headers.rate_limit({"X-Rate-Limit-Reset": text}, NOW - 3600)
    assert limit is not None
    assert limit.reset is not None
    assert (limit.reset, limit.reset.tzinfo) == (NOON, UTC)


@all_cases("text", ["", "never", "0", "-1", "1782907200s", "99999999999999999999", "nan", "9" * 5000])
def test_an_invalid_reset_is_unknown(text: str) -> None:
    limit = _headers.rate_limit({"X-Rate-Limit-Reset": text}, NOW)
    assert limit is not None
    assert limit.reset is None


@pytest.mark.parametrize("off", [timedelta(hours=49), timedelta(hours=-49), timedelta(days=9999)])
def test_a_reset_days_away_is_no_daily_reset(off: timedelta) -> None:
    limit = _headers.rate_limit({"X-Rate-Limit-Reset": (NOON + off).isoformat()}, NOW)
    assert limit is not None
    assert limit.reset is None


@pytest.mark.parametrize("off", [timedelta(days=-900), timedelta(hours=-60), timedelta(days=900)])
def test_a_reset_is_judged_by_the_time_of_the_server_where_it_is_known(off: timedelta) -> None:
    headers = CIMultiDict({"X-Rate-Limit-Reset": NOON.isoformat(), "Date": format_datetime(NOON - timedelta(hours=3))})
    limit = _headers.rate_limit(headers, (NOON + off).timestamp())
    assert limit is not None
    assert (limit.reset, limit.observed_at) == (NOON, NOON + off)
    headers["Date"] = format_datetime(NOON + off)
    limit = _headers.rate_limit(headers, NOW)
    assert limit is not None
    assert limit.reset is None


def test_counts_are_read_or_unknown() -> None:
    limit = _headers.rate_limit(CIMultiDict({"x-rate-limit-limit": "5000", "x-rate-limit-remaining": "lots"}), NOW)
    assert limit is not None
    assert (limit.limit, limit.remaining, limit.reset, limit.observed_at) == (5000, None, None, NOON)


def test_a_response_that_reports_nothing_of_a_quota_has_none() -> None:
    assert _headers.rate_limit({"X-Other": "1"}, NOW) is None


@all_cases(("text", "count"), [("0", 0), (" 12 ", 12), ("12\x1f", 12), ("9" * 5000, None), ("-1", None), ("٣", None)])
def test_the_remaining_quota_is_parsed_or_unknown(text: str, count: int | None) -> None:
    assert _headers.remaining({"X-Rate-Limit-Remaining": text}) == count


def test_the_correlation_id_is_found() -> None:
    assert _headers.correlation_id(CIMultiDict({"x-correlation-id": "abc"})) == "abc"


# Text of all kinds, with the parsers' tokens more often than at random.
foreign = (
    st.text(max_size=60)
    | st.text(alphabet="0123456789.:-+TZ eE,", max_size=40)
    | st.datetimes().map(datetime.isoformat)
    | st.datetimes(timezones=st.just(UTC)).map(lambda moment: format_datetime(moment, usegmt=True))
    | st.datetimes(timezones=st.just(timezone(timedelta(hours=-14)))).map(format_datetime)
    | st.floats().map(str)
    | st.integers().map(str)
)


@given(retry=foreign, date=foreign)
def test_no_retry_after_breaks_the_reader(retry: str, date: str) -> None:
    seconds = _headers.retry_after({"Retry-After": retry, "Date": date}, NOW)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(foreign)
def test_no_date_breaks_the_reader(text: str) -> None:
    moment = _headers.server_time({"Date": text})
    assert moment is None or moment.tzinfo is UTC


@given(limit=foreign, remaining=foreign, reset=foreign)
def test_no_quota_breaks_the_reader(limit: str, remaining: str, reset: str) -> None:
    headers = {"X-Rate-Limit-Limit": limit, "X-Rate-Limit-Remaining": remaining, "X-Rate-Limit-Reset": reset}
    seen = _headers.rate_limit(headers, NOW)
    assert seen is not None
    assert all(count is None or count >= 0 for count in (seen.limit, seen.remaining))
    assert seen.reset is None or abs(seen.reset - NOON) <= _headers.MAX_RESET_DISTANCE
