"""A handle survives the way through text, and what is no handle is refused in words."""

import base64
import json
import pickle
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async._core.operation import is_id
from codat_commerce_async.models.handle import SyncHandle
from tests.strategies import JSON
from tests.support.cases import all_cases

MOMENTS = st.datetimes(timezones=st.just(UTC))
TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
IDS = st.text(st.characters(exclude_categories=["Cs"])).filter(is_id)
HANDLES = st.builds(
    SyncHandle,
    company_id=IDS,
    commerce_sync_id=st.none() | IDS,
    sync_id=st.none() | IDS,
    requested_at=st.none() | MOMENTS,
    sync_utc=st.none() | MOMENTS | st.datetimes(),
    date_range=st.none() | st.tuples(MOMENTS, MOMENTS),
    sync_to=st.none() | MOMENTS,
    accepted_at=st.none() | MOMENTS,
    idempotency_key=TEXTS,
    adopted=st.booleans(),
)
REQUESTED_AT = datetime(2023, 4, 5, 6, tzinfo=UTC)
HANDLE = SyncHandle(company_id="c", requested_at=REQUESTED_AT)


@given(HANDLES)
def test_a_handle_survives_the_way_through_text(handle: SyncHandle) -> None:
    assert SyncHandle.from_json(handle.to_json()) == handle
    assert SyncHandle.from_json(handle.to_json().encode()) == handle
    assert pickle.loads(pickle.dumps(handle)) == handle  # noqa: S301 - our own bytes


def test_fields_of_a_later_version_are_ignored() -> None:
    text = json.dumps(json.loads(HANDLE.to_json()) | {"added_later": {"a": 1}})
    assert SyncHandle.from_json(text) == HANDLE


def test_a_time_of_request_comes_back_in_utc() -> None:
    elsewhere = evolve(HANDLE, requested_at=REQUESTED_AT.astimezone(timezone(timedelta(hours=5))))
    restored = SyncHandle.from_json(elsewhere.to_json())
    assert restored == HANDLE
    assert repr(restored) == repr(HANDLE)


@all_cases(
    ("changes", "words"),
    [
        ({"version": 2}, "version of a sync handle must be 1"),
        ({"version": None}, "version of a sync handle must be 1"),
        ({"version": True}, "version of a sync handle must be 1"),
        ({"version": 1.0}, "version of a sync handle must be 1"),
        ({"company_id": None}, "company_id"),
        ({"company_id": 7}, "company_id"),
        ({"sync_id": 7}, "sync_id"),
        ({"commerce_sync_id": []}, "commerce_sync_id"),
        ({"requested_at": "soon"}, "requested_at"),
        ({"requested_at": "2023-01-01T00:00:00"}, "time zone"),
        ({"requested_at": "0001-01-01T00:00:00+14:00"}, "requested_at"),
        ({"sync_utc": 7}, "sync_utc"),
        ({"sync_utc": "x"}, "sync_utc"),
        ({"date_range": "x"}, "date_range"),
        ({"date_range": ["2023-01-01"]}, "date_range"),
        ({"date_range": ["2023-01-01", None]}, "date_range"),
        ({"idempotency_key": False}, "idempotency_key"),
        ({"adopted": 1}, "adopted"),
        ({"adopted": None}, "adopted"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, object], words: str) -> None:
    text = json.dumps(json.loads(HANDLE.to_json()) | changes)
    with pytest.raises(ValueError, match=words):
        SyncHandle.from_json(text)


@pytest.mark.parametrize("name", ["version", "company_id", "adopted"])
def test_a_missing_field_is_refused(name: str) -> None:
    fields = json.loads(HANDLE.to_json())
    del fields[name]
    with pytest.raises(ValueError, match="sync handle"):
        SyncHandle.from_json(json.dumps(fields))


@all_cases("text", ["", "{", "[]", "null", b"\xff", "[" * 100_000, "7"])
def test_a_value_that_is_no_handle_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="a sync handle must be"):
        SyncHandle.from_json(text)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(HANDLE.to_json()))), JSON))
def test_junk_is_refused_or_read(changes: dict[str, object]) -> None:
    text = json.dumps(json.loads(HANDLE.to_json()) | changes)
    try:
        handle = SyncHandle.from_json(text)
    except ValueError:
        return
    assert SyncHandle.from_json(handle.to_json()) == handle


@given(HANDLES)
def test_a_token_keeps_everything_but_the_idempotency_key(handle: SyncHandle) -> None:
    token = handle.to_token()
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert SyncHandle.from_token(token, handle.company_id) == evolve(handle, idempotency_key=None)


def test_a_token_contains_neither_the_company_nor_the_key_and_is_short() -> None:
    handle = SyncHandle(
        company_id="00000000-0000-0000-0000-00000000aaaa",
        commerce_sync_id="00000000-0000-0000-0000-00000000bbbb",
        requested_at=REQUESTED_AT,
        sync_utc=REQUESTED_AT,
        accepted_at=REQUESTED_AT,
        idempotency_key="00000000-0000-0000-0000-00000000cccc",
    )
    token = handle.to_token()
    assert len(token) <= 156
    written = base64.urlsafe_b64decode(token + "==")
    assert b"bbbb" in written
    assert b"aaaa" not in written
    assert b"cccc" not in written


def token_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@given(st.text() | JSON.map(token_of) | st.lists(JSON).map(lambda values: token_of([1, *values])))
def test_any_other_token_is_a_value_error(token: str) -> None:
    try:
        handle = SyncHandle.from_token(token, "c")
    except ValueError:
        return
    assert SyncHandle.from_token(handle.to_token(), "c") == handle


@all_cases("token", [token_of([2]), token_of([True]), token_of({}), token_of([1, None, None, "x"]), "ü"])
def test_a_wrong_token_is_a_value_error(token: str) -> None:
    with pytest.raises(ValueError, match=r"sync token|ISO 8601"):
        SyncHandle.from_token(token, "c")
