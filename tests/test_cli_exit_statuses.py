"""The exit status of every command for input of every kind: invalid input is one line and 2, never a traceback."""

import asyncio
import contextlib
import io
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codat_commerce_async import SyncHandle
from codat_commerce_async.cli import main
from codat_commerce_async.syncing._journal.writer import JournalWriter

LONG = "a" * 5000
NUMBERS = ("nan", "inf", "-inf", "-1", "1e999", "", "x", "1_0", " 5", "0x10", "\u0661", "9" * 5000, "1e-320x")
NO_IDS = ("", "..", ".", " ", "a\nb", "\0", "\udcff", "a\u202eb")
NO_JOURNALS = ("directory", "binary", "picture", "text", "short", "other.db", "nowhere/x.db", "loop", "", LONG, "a\0b")
DEVICES = ("/dev/null", "/dev/zero")
NO_TEXTS = ("directory", "binary", "nowhere.txt", "nowhere/x", "loop", "", LONG, "a\0b", "empty")
NO_TARGETS = ("directory", "nowhere/x", ".", "..", "", LONG, "a\0b")


def invalid_arguments() -> Iterator[tuple[str, ...]]:
    for number in NUMBERS:
        yield ("sync", "c", f"--timeout={number}")
        yield ("sync", "c", f"--max-running={number}")
        yield ("wait", "handles", f"--timeout={number}")
        yield ("demo", f"--speed={number}")
        yield ("demo", f"--processes={number}")
        yield ("simulate", f"--port={number}")
        yield ("simulate", f"--companies={number}")
        yield ("simulate", f"--faults={number}")
        yield ("simulate", f"--speed={number}")
        yield ("simulate", f"--outcomes=5130={number}")
        yield ("simulate", f"--outcomes={number}=0.1")
        if number != "-1":
            yield ("demo", f"--seed={number}")
        yield ("sync", "c", "--journal=night.db", f"--keep-runs={number}")
    yield ("sync", "c", "--run", "a")
    yield ("sync", "c", "--keep-runs", "1")
    yield ("sync", "c", "--journal", "night.db", "--run", "")
    yield ("sync", "c", "--journal", "night.db", "--run", "a\nb")
    yield ("sync", "c", "--journal", "night.db", "--run", LONG)
    yield ("demo", "--processes", "101")
    yield ("simulate", "--companies", "1000001")
    for text in NO_IDS:
        yield ("sync", "--", text)
        yield ("diagnose", "--", text)
        yield ("diagnose", "--", "c", text)
        yield ("simulate", "--secret", "whsec_YQ==", "--webhooks", text)
        yield ("simulate", "--webhooks", "http://x", "--secret", text)
    yield ("report", "night.db", "--html", "night.db")
    yield ("report", "night.db", "--html", "./directory/../night.db")
    yield ("report", "night.db", "--html", "night.db.lock")
    yield ("report", "night.db", "--follow", "--json")
    yield ("report", "night.db", "--failed", "--html", "page.html")


def invalid_input() -> Iterator[tuple[str, ...]]:
    for name in (*NO_JOURNALS, *DEVICES):
        yield ("sync", "c", "--journal", name)
        yield ("report", name)
        yield ("report", name, "--html", "page.html")
    for name in NO_TEXTS:
        yield ("sync", "--from", name)
        yield ("sync", "--from", name, "--column", "id")
        yield ("wait", name)
    for name in NO_TARGETS:
        yield ("report", "night.db", "--html", name)
    yield ("sync", "--from", "-")
    yield ("wait",)
    for text in ("{}", '{"company_id": 3}', '{"companyId": NaN}', '{"a":' * 50_000, "[]", "text"):
        yield ("wait", "made", text)
    for text in ("..\n", "a\x00b\n", "# nothing\n", "\u202e\n"):
        yield ("sync", "--from", "made", text)
    yield ("sync", "--from", "ids.csv")
    yield ("sync", "--from", "ids.csv", "--column", "nothing")
    yield ("report", "night.db", "--run", "nothing")
    yield ("report", "night.db", "--run", "")
    yield ("report", "empty", "--html", "page.html")
    yield ("report", "nothing.db")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("statuses")
    (path / "directory").mkdir()
    (path / "loop").symlink_to(path / "loop")
    (path / "binary").write_bytes(bytes(range(256)) * 10)
    (path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600))
    (path / "text").write_text("text\n" * 200)
    (path / "short").write_text("x")
    (path / "ids.csv").write_text("id,name\nfirst,Alder\n")
    (path / "handles").write_text(SyncHandle(company_id="c", sync_id="s").to_json())
    with contextlib.closing(sqlite3.connect(path / "other.db")) as other:
        other.execute("CREATE TABLE other (number)")
    asyncio.run(_make_journal(path / "night.db"))
    return path


async def _make_journal(path: Path) -> None:
    journal = await JournalWriter.open(path)
    await journal.close()


@pytest.fixture
def inside(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with all kinds of files, in which the commands run; no server listens at the base URL."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv("CODAT_API_KEY", "key")
    monkeypatch.setenv("CODAT_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    (directory / "empty").write_text("")
    return directory


def status_of(*arguments: str) -> int | str | None:
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


def check_refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    """Check that the arguments end the command with 2 and one line that names the program."""
    status, output = status_of(*arguments), capsys.readouterr()
    shown = [argument[:60] for argument in arguments]
    assert (status, output.out, output.err.count("\n")) == (2, "", 1), (shown, output.err[:300])
    assert output.err.startswith("codat-commerce-async"), (shown, output.err[:300])
    assert output.err.rstrip("\n").isprintable(), (shown, output.err[:300])
    unfit = [text for text in ("Traceback", "[Errno", "_count", "_number") if text in output.err]
    assert not unfit, (shown, output.err[:300])


@pytest.mark.usefixtures("inside")
def test_an_invalid_argument_of_any_command_is_one_line_and_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in invalid_arguments():
        check_refused(capsys, *arguments)


def test_an_unusable_file_of_any_command_is_one_line_and_exit_status_2(
    capsys: pytest.CaptureFixture[str], inside: Path
) -> None:
    for arguments in invalid_input():
        *options, last = arguments
        if "made" in options:
            (inside / "made").write_text(last, encoding="utf-8")
            check_refused(capsys, *options)
        else:
            check_refused(capsys, *arguments)
    assert [Path(device).is_char_device() for device in DEVICES] == [True, True]


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CODAT_API_KEY", None),
        ("CODAT_API_KEY", ""),
        ("CODAT_API_KEY", "a\nb"),
        ("CODAT_BASE_URL", "api.codat.io"),
        ("CODAT_BASE_URL", "ftp://api.codat.io"),
        ("CODAT_BASE_URL", "http://[::1"),
        ("CODAT_SPEED", "fast"),
    ],
)
@pytest.mark.parametrize("arguments", [("sync", "c"), ("wait", "handles"), ("diagnose", "c")], ids=lambda each: each[0])
def test_an_invalid_variable_is_named_in_one_line_with_exit_status_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str | None,
    arguments: tuple[str, ...],
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    assert status_of(*arguments) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert name in output.err


@pytest.mark.usefixtures("inside")
async def test_a_journal_that_another_process_writes_is_exit_status_75(capsys: pytest.CaptureFixture[str]) -> None:
    journal = await JournalWriter.open("used.db")
    try:
        assert await asyncio.to_thread(status_of, "sync", "c", "--journal", "used.db") == 75
    finally:
        await journal.close()
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert "is in use by another process" in output.err


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("arguments", [(), ("--json",), ("--csv",)], ids=["table", "json", "csv"])
def test_an_output_that_cannot_be_written_is_one_line_and_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert status_of("report", "night.db", *arguments) == 1
        monkeypatch.undo()
    assert capsys.readouterr().err == "codat-commerce-async: No space left on device\n"


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize(
    ("arguments", "status"), [(("report", "night.db"), 0), (("wait",), 2), (("sync", "--from", "-"), 2)]
)
def test_a_closed_stream_changes_no_exit_status(
    monkeypatch: pytest.MonkeyPatch, closed: str, arguments: tuple[str, ...], status: int
) -> None:
    monkeypatch.setattr(f"sys.{closed}", None)
    assert status_of(*arguments) == status
    getattr(sys, closed).close()


@pytest.mark.usefixtures("inside")
def test_a_page_can_be_written_to_a_device_and_through_a_link(inside: Path) -> None:
    (inside / "page.html").write_text("before")
    (inside / "link.html").symlink_to("page.html")
    assert status_of("report", "night.db", "--html", "link.html") == 0
    assert (inside / "link.html").is_symlink()
    assert (inside / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert status_of("report", "night.db", "--html", "/dev/null") == 0
    assert Path("/dev/null").is_char_device()
    assert [path.name for path in inside.iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.usefixtures("inside")
def test_an_empty_file_is_a_journal_without_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("report", "empty") == 0
    assert capsys.readouterr().out == "no syncs\n"
