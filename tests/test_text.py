"""Foreign text ends no line, colors no terminal and is no formula, and is otherwise left alone."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async import CodatError
from codat_commerce_async._core.text import for_spreadsheet, one_line, shown
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import SyncStatus
from codat_commerce_async.syncing._poller import raise_if_failed
from tests.support.cases import all_cases

ANY = st.text(st.characters())


@given(ANY)
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert one_line(text).isprintable()
    assert len(one_line(text).splitlines()) <= 1
    one_line(text).encode()


@given(ANY.filter(str.isprintable))
def test_printable_text_is_left_alone(text: str) -> None:
    assert one_line(text) == text


@all_cases(
    ("text", "line"),
    [
        ("a\r\nb", "a  b"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\ud83d", "a\\ud83d"),
        ("a\u2028b", "a b"),
        ("\u202eb", "\\u202eb"),
    ],
)
def test_control_characters_are_escaped_and_space_is_space(text: str, line: str) -> None:
    assert one_line(text) == line


@given(ANY)
def test_no_cell_of_a_spreadsheet_is_a_formula(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([for_spreadsheet(text), "x"])
    [[cell, _]] = csv.reader(io.StringIO(file.getvalue()))
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))


def test_ordinary_text_is_left_alone_in_a_spreadsheet() -> None:
    assert for_spreadsheet("2024-01-15T12:00:00+00:00") == "2024-01-15T12:00:00+00:00"
    assert for_spreadsheet("") == ""


def test_a_message_of_the_server_forges_no_line_of_a_log() -> None:
    status = SyncStatus(sync_status_code=5000, error_message="no\r\n2024-01-15 ERROR forged \x1b[31m")
    with pytest.raises(CodatError) as caught:
        raise_if_failed(SyncHandle(company_id="c"), status)
    for text in (str(caught.value), repr(caught.value), caught.value.message, str(caught.value.args[0])):
        assert text.isprintable()


def test_a_message_of_the_server_is_cut_off_in_the_error_and_whole_in_its_status() -> None:
    status = SyncStatus(sync_status_code=5000, error_message="x" * 100_000)
    with pytest.raises(CodatError) as caught:
        raise_if_failed(SyncHandle(company_id="c"), status)
    assert len(str(caught.value)) < 1000
    assert getattr(caught.value, "status") is status  # noqa: B009 - a CodatError has none for a type checker


def test_a_value_without_text_is_shown_by_its_type() -> None:
    class Unshowable:
        def __str__(self) -> str:
            raise RuntimeError

    assert shown(Unshowable()) == "<Unshowable>"
