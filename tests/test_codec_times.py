"""Times are read as Codat really writes them; one that is none is not lost."""

from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async._core.codec import decode
from codat_commerce_async._core.encoding import encode
from codat_commerce_async.errors import DecodeError
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.connections import Connection
from codat_commerce_async.models.sync import DateRange, SyncStatus, SyncSummary
from tests.strategies import ODD_TIMES
from tests.support.cases import all_cases


def created(text: object) -> Connection:
    return decode(orjson.dumps({"id": "a", "created": text}), Connection)


@all_cases(
    ("text", "moment"),
    [
        ("2022-10-23T00:00:00Z", datetime(2022, 10, 23, tzinfo=UTC)),
        ("2022-10-27T10:22:43.6464237Z", datetime(2022, 10, 27, 10, 22, 43, 646423, UTC)),
        ("2022-01-01T12:00:00.000Z", datetime(2022, 1, 1, 12, tzinfo=UTC)),
        ("2021-11-15T01:00:00-05:00", datetime(2021, 11, 15, 1, tzinfo=timezone(timedelta(hours=-5)))),
        ("2021-11-15T01:00:00", datetime(2021, 11, 15, 1)),  # noqa: DTZ001 - Codat names no zone
        ("2022-10-23", datetime(2022, 10, 23)),  # noqa: DTZ001 - likewise
        ("9999-12-31T23:59:59.9999999", datetime(9999, 12, 31, 23, 59, 59, 999999)),  # noqa: DTZ001 - likewise
    ],
)
def test_a_time_is_read(text: str, moment: datetime) -> None:
    read = created(text)
    assert read.created == moment
    assert read.created is not None
    assert read.created.utcoffset() == moment.utcoffset()
    assert read.unparsed == ()


@all_cases(
    "text", [None, "", "  ", "0001-01-01T00:00:00", "0001-01-01T00:00:00Z", "0001-01-01", "0001-01-01T00:00:00+14:00"]
)
def test_never_is_none(text: str | None) -> None:
    assert created(text) == Connection(id="a")


@all_cases(
    "text", ["2024-09-01T23:59:99Z", "soon", "2022-13-01", "1666483200", "\x00", "\uff12\uff10\uff12\uff12-10-23"]
)
def test_a_text_that_is_no_time_is_kept_beside_none(text: str) -> None:
    read = created(text)
    assert read.created is None
    assert read.unparsed == (("created", text),)
    assert orjson.loads(encode(read))["created"] == text


def test_each_unparsed_time_is_kept_by_its_field() -> None:
    read = decode(b'{"id":"a","lastSync":"x","created":"y"}', Connection)
    assert read.unparsed == (("last_sync", "x"), ("created", "y"))


def test_an_unparsed_time_inside_stays_inside() -> None:
    summary = decode(b'{"syncDateRangeUtc":{"start":"2024-09-01T23:59:99Z","finish":"2024-09-02"}}', SyncSummary)
    assert summary.unparsed == ()
    assert summary.sync_date_range_utc is not None
    assert summary.sync_date_range_utc.unparsed == (("start", "2024-09-01T23:59:99Z"),)


@given(st.text() | st.sampled_from(ODD_TIMES))
def test_no_text_keeps_a_response_from_being_read_or_is_lost(text: str) -> None:
    status = decode(orjson.dumps({"syncUtc": text, "syncStatusCode": 2000}), SyncStatus)
    assert status.succeeded
    if status.sync_utc is None and text.strip() and not text.startswith("0001-"):
        assert status.unparsed == (("sync_utc", text),)


@given(st.datetimes(datetime(2, 1, 1)) | st.datetimes(datetime(2, 1, 1), timezones=st.timezones()))  # noqa: DTZ001
def test_a_time_that_is_written_is_read_as_the_same(moment: datetime) -> None:
    read = decode(encode(DateRange(start=moment, finish=moment)), DateRange)
    assert read.start.replace(tzinfo=None) == moment.replace(tzinfo=None)
    assert read.start.utcoffset() == moment.utcoffset()


@all_cases("text", [text for text in ODD_TIMES if text])
def test_the_start_of_a_schedule_is_sent_back_as_it_was_received(text: str) -> None:
    body = orjson.dumps({"schedule": {"startDate": text, "syncHour": 3}})
    assert encode(decode(body, Configuration)) == body


@frozen(kw_only=True)
class Objective:
    """A model of someone else's, which has no place for a text that is no time."""

    placed: datetime
    paid: datetime | None = None
    shipped: tuple[datetime, ...] = ()


def test_a_model_that_cannot_keep_a_text_gets_times_or_an_error() -> None:
    order = decode(b'{"placed":"2023-01-01","paid":"","shipped":["2023-01-02"]}', Objective)
    assert order == Objective(placed=datetime(2023, 1, 1), shipped=(datetime(2023, 1, 2),))  # noqa: DTZ001


@all_cases(
    ("body", "path"),
    [
        ('{"placed":"soon"}', "$.placed"),
        ('{"placed":""}', "$.placed"),
        ('{"placed":null}', "$.placed"),
        ('{"placed":7}', "$.placed"),
        ('{"placed":"2023-01-01","paid":"soon"}', "$.paid"),
        ('{"placed":"2023-01-01","shipped":["2023-01-02","soon"]}', "$.shipped[1]"),
    ],
)
def test_a_text_that_is_no_time_is_refused_where_it_would_be_lost(body: str, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(body.encode(), Objective)
    assert caught.value.path == path
