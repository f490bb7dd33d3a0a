"""Company ids from files: one a line, or a column of CSV."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codat_commerce_async.cli._exit import CommandError
from codat_commerce_async.cli._files import read_company_ids, read_text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "companies.txt"


def test_a_line_is_an_id_but_for_blanks_and_comments(file: Path) -> None:
    file.write_text("# the shops\n\nfirst\n  second  \nthird # gone?\n\t\n#fourth\nfifth#1\n", encoding="utf-8")
    assert read_company_ids(str(file), None) == ["first", "second", "third", "fifth#1"]


def test_ids_come_from_standard_input_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufefffirst\nsecond\n"))
    assert read_company_ids("-", None) == ["first", "second"]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_column_of_csv_is_found_by_its_name(file: Path, mark: str, delimiter: str) -> None:
    lines = [("company_id", " name "), ("first", '"Alder, Birch; & Sons"'), ("", "unknown"), ("second", "Elm")]
    file.write_text(mark + "\r\n".join(delimiter.join(line) for line in lines), encoding="utf-8", newline="")
    assert read_company_ids(str(file), "company_id") == ["first", "second"]
    assert read_company_ids(str(file), "name") == ["Alder, Birch; & Sons", "unknown", "Elm"]


def test_a_row_that_is_too_short_has_no_id(file: Path) -> None:
    file.write_text('name,id\n"two\nlines",first\nshort\n\nElm,second\n', encoding="utf-8")
    assert read_company_ids(str(file), "id") == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "text", "column", "complaint"),
    [
        ("a.txt", "", None, "a.txt contains no company id"),
        ("a.txt", "# none\n", None, "a.txt contains no company id"),
        ("a.txt", "first\n..\n", None, "a.txt, line 2: company_id must be an id"),
        ("a.csv", "name,id\nAlder,first\n", None, r"--column must name the column of a.csv .* \(one of: name, id\)"),
        ("a.csv", "name,id\nAlder,first\n", "ID", r"--column must be a column of a.csv: name, id \(got 'ID'\)"),
        ("a.csv", "", "id", "--column must be a column of a.csv"),
        ("a.csv", "id\n", "id", "a.csv contains no company id"),
        ("a.csv", "name,id\nAlder,.\n", "id", "a.csv, line 2: company_id must be an id"),
        ("a.csv", f"id\n{'x' * 200_000}\n", "id", "a.csv, line 2: field larger than"),
    ],
)
def test_a_file_that_will_not_do_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, column: str | None, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=f"^{complaint}") as refused:
        read_company_ids(name, column)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff{")
    with pytest.raises(CommandError, match=r"companies.txt is not a text file in UTF-8$"):
        read_text(str(file))


@settings(max_examples=50)
@given(st.text(), st.one_of(st.none(), st.text(max_size=3)))
def test_any_text_gives_ids_or_is_refused(text: str, column: str | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(text))
        try:
            ids = read_company_ids("-", column)
        except CommandError:
            return
    assert ids
    assert all(each.strip() == each != "" for each in ids)
