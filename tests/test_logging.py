"""Log records: their texts, levels and form."""

import ast
import asyncio
import importlib
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from codat_commerce_async import (
    CodatCommerce,
    CodatError,
    Operation,
    OutcomeUnknownError,
    Quota,
    RetryPolicy,
    SyncHandle,
    TransportError,
)
from codat_commerce_async.simulator import FaultKind, FaultPlan, Simulator
from codat_commerce_async.simulator.in_memory import InMemoryTransport
from codat_commerce_async.simulator.virtual_time import loop_wall_clock
from tests.support.fans import Codat
from tests.support.scripted import KEY, client_of, failing, respond

GET = Operation("a-read", "GET", "/companies/{companyId}/things", object)
POST = Operation("a-write", "POST", "/companies/{companyId}/things", object)
LOST = failing(lambda: TransportError("lost"))
QUICK = RetryPolicy(initial_backoff=0.0)
FIELDS = {"operation", "method", "path", "company_id", "status", "attempt", "correlation_id", "elapsed", "quota_wait"}
FAILURE = {"error": "down", "correlationId": "c0ffee"}


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("codat_commerce_async")]


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in FIELDS}


@contextmanager
def handled(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    """All that the library logs in the block, as a handler with the formatter writes it."""
    stream, logger = io.StringIO(), logging.getLogger("codat_commerce_async")
    handler, level = logging.StreamHandler(stream), logger.level
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def test_nothing_is_printed_where_logging_is_not_configured() -> None:
    script = (
        "import logging, codat_commerce_async.client, codat_commerce_async.webhooks\n"
        "for area in ('calls', 'sync', 'quota', 'webhooks'):\n"
        "    logging.getLogger(f'codat_commerce_async.{area}').error('an error')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)  # noqa: S603
    assert (done.stdout, done.stderr) == ("", "")


async def test_records_report_which_call_it_is_about(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "codat_commerce_async")
    codat, _ = client_of(respond(503, FAILURE), respond(), retry=QUICK)
    await codat.call(GET, "company-1")
    first, retried, second = ours(caplog)
    call = {"operation": "a-read", "method": "GET", "path": "/companies/{companyId}/things", "company_id": "company-1"}
    failed = {**call, "status": 503, "attempt": 1, "correlation_id": "c0ffee"}
    for record, expected, level in ((first, failed, "DEBUG"), (retried, failed, "INFO")):
        fields = fields_of(record)
        assert isinstance(fields.pop("elapsed"), float)
        assert isinstance(fields.pop("quota_wait"), float)
        assert (record.name, record.levelname, fields) == ("codat_commerce_async.calls", level, expected)
    fields = fields_of(second)
    assert (fields["status"], fields["attempt"], fields["correlation_id"]) == (200, 2, None)


async def test_an_unknown_outcome_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    codat, _ = client_of(respond(503, FAILURE))
    with pytest.raises(OutcomeUnknownError):
        await codat.call(POST, "company-1")
    [record] = ours(caplog)
    fields = fields_of(record)
    assert isinstance(fields.pop("elapsed"), float)
    assert isinstance(fields.pop("quota_wait"), float)
    assert (record.name, record.levelname) == ("codat_commerce_async.calls", "WARNING")
    assert fields == {
        "operation": "a-write",
        "method": "POST",
        "path": "/companies/{companyId}/things",
        "company_id": "company-1",
        "status": 503,
        "attempt": 1,
        "correlation_id": "c0ffee",
    }


@pytest.mark.virtual_time
async def test_a_pause_of_the_quota_is_a_warning_of_its_area(caplog: pytest.LogCaptureFixture) -> None:
    codat, _ = client_of(respond(429, None, {"Retry-After": "2"}), respond(), retry=QUICK)
    await codat.call(GET, "c")
    [record] = ours(caplog)
    assert (record.name, record.levelname) == ("codat_commerce_async.quota", "WARNING")


@pytest.mark.virtual_time
async def test_a_poll_that_fails_is_no_warning_as_the_next_one_is_its_retry(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "codat_commerce_async")
    done = {"companyId": "c", "syncId": "s", "syncStatusCode": 2000}
    codat, _ = client_of(respond(503, FAILURE), LOST, respond(408), respond(200, done), retry=QUICK)
    await codat.sync.wait(SyncHandle(company_id="c", sync_id="s"))
    records = ours(caplog)
    assert max(record.levelno for record in records) == logging.INFO
    polls = [record for record in records if record.name == "codat_commerce_async.sync"]
    assert [(record.levelname, fields_of(record)["status"]) for record in polls] == [
        ("INFO", 503),
        ("INFO", None),
        ("INFO", 408),
    ]
    assert {fields_of(record)["company_id"] for record in polls} == {"c"}


@pytest.mark.virtual_time
async def test_every_record_has_every_field_so_that_a_format_may_name_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "codat_commerce_async")
    clock = loop_wall_clock()
    simulator = Simulator(seed=1, now=clock)
    companies = [simulator.add_linked_company() for _ in range(5)]
    style = " ".join(f"%({name})s" for name in ("levelname", "message", *sorted(FIELDS)))
    with handled(logging.Formatter(style)) as stream:
        transport = InMemoryTransport(simulator)
        codat = CodatCommerce(KEY, transport=transport, wall_clock=clock, quota=Quota.unlimited())
        async with codat, codat.sync.run_many([*companies, companies[0], "unknown"]) as run:
            assert len([outcome async for outcome in run]) == 6
    records = ours(caplog)
    assert len(records) > 20
    assert all(vars(record).keys() >= FIELDS for record in records)
    assert {record.name.rpartition(".")[2] for record in records} <= {"calls", "sync", "quota", "webhooks"}
    assert len(stream.getvalue().splitlines()) == len(records)


NASTY = "a\r\nWARNING forged\x1b[31m\x00\u2028b"


@pytest.mark.parametrize("status", [400, 500])
async def test_a_record_is_one_printable_line_whatever_the_server_reports(status: int) -> None:
    with handled(logging.Formatter("%(message)s %(company_id)s %(correlation_id)s")) as stream:
        codat, _ = client_of(respond(status, {"error": NASTY, "correlationId": NASTY}), retry=QUICK)
        with pytest.raises(CodatError):
            await codat.call(GET, "company-1")
    lines = stream.getvalue().split("\n")
    assert len(lines) == (2 if status == 400 else 8)
    assert all(line.isprintable() for line in lines)


async def test_foreign_text_in_a_record_of_any_area_is_one_printable_line() -> None:
    importlib.import_module("codat_commerce_async.webhooks")
    with handled(logging.Formatter("%(name)s %(message)s")) as stream:
        logging.getLogger("codat_commerce_async.webhooks").warning("the webhook %s of %d", NASTY, 7)
        logging.getLogger("codat_commerce_async.webhooks").warning("no %(a)s", {"a": NASTY})
    assert all(line.isprintable() for line in stream.getvalue().split("\n"))
    assert len(stream.getvalue().splitlines()) == 2


async def test_python_json_logger_shows_the_fields() -> None:
    with handled(JsonFormatter("{levelname}{name}{message}", style="{")) as stream:
        codat, _ = client_of(respond(503, FAILURE), respond(), retry=QUICK)
        await codat.call(GET, "company-1")
    first = json.loads(stream.getvalue().splitlines()[0])
    assert (first["operation"], first["company_id"], first["status"]) == ("a-read", "company-1", 503)
    assert (first["correlation_id"], first["levelname"]) == ("c0ffee", "DEBUG")
    assert first.keys() >= FIELDS


async def test_structlog_shows_the_fields() -> None:
    with handled(structlog_formatter()) as stream:
        codat, _ = client_of(respond(503, FAILURE), respond(), retry=QUICK)
        await codat.call(GET, "company-1")
    first = json.loads(stream.getvalue().splitlines()[0])
    assert (first["method"], first["path"], first["attempt"]) == ("GET", "/companies/{companyId}/things", 1)
    assert "a-read" in first["message"]
    assert first.keys() >= FIELDS


def structlog_formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), structlog.stdlib.add_log_level],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
    )


async def log_two_nights(journal: Path) -> None:
    """Run a night that is stopped, and the next one: with faults, duplicates, pauses and unknown results."""
    faults = FaultPlan(
        rate=0.3,
        seed=2,
        kinds=(FaultKind.LOST_AFTER, FaultKind.ERROR_AFTER, FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE),
    )
    codat = Codat(16, faults=faults)
    async with codat.client() as client:
        # Stopped, and cancelled while requests are in flight.
        async with client.sync.run_many([codat.ids[0], *codat.ids], journal=journal, run_id="first") as run:
            for _ in range(3):
                await anext(run)
            run.stop()
        async with client.sync.run_many(codat.ids, journal=journal, run_id="first"):
            pass
        async with client.sync.run_many(codat.ids, journal=journal, run_id="second") as run:
            await run.results()
        async with client.sync.run_many(codat.ids[:1], journal=journal, run_id="second") as run:
            await run.results()
        async with client.sync.run_many([], journal=journal, run_id="second") as run:
            await run.results()


@pytest.mark.virtual_time
async def test_every_record_of_a_night_has_its_fields_as_json(tmp_path: Path) -> None:
    with (
        handled(JsonFormatter("{levelname}{message}", style="{", rename_fields={"levelname": "level"})) as stream,
        handled(structlog_formatter()) as structlog_stream,
    ):
        await log_two_nights(tmp_path / "journal")
    assert KEY not in stream.getvalue() + structlog_stream.getvalue()
    check_records([json.loads(line) for line in stream.getvalue().splitlines()])
    check_records([json.loads(line) for line in structlog_stream.getvalue().splitlines()])


@pytest.mark.virtual_time
async def test_a_connection_that_was_adopted_is_logged_with_its_company(caplog: pytest.LogCaptureFixture) -> None:
    codat = Codat(1)
    codat.simulator.set_fault("create-connection", FaultKind.ERROR_AFTER)
    await asyncio.sleep(3600)  # the other connections are older
    async with codat.client() as client:
        connection = await client.connections.create(codat.ids[0], platform_key="gbol")
    [record] = [one for one in caplog.records if "adopted" in one.getMessage()]
    of_company = f"create-connection of company {codat.ids[0]}"
    assert (
        record.getMessage() == f"adopted {connection.id}, which was found after the response of {of_company} was lost"
    )
    assert vars(record)["company_id"] == codat.ids[0]


def check_records(records: list[dict[str, object]]) -> None:
    assert all(record.keys() >= FIELDS for record in records)
    about_companies = [record for record in records if record["company_id"] is not None]
    assert about_companies
    assert [one for one in about_companies if f"company {one['company_id']}" not in str(one["message"])] == []
    for text, level_name, known in (
        (": ok on attempt", "debug", FIELDS - {"correlation_id"}),
        ("; sending it again in", "info", FIELDS - {"correlation_id", "status"} | {"pause"}),
        ("could not poll the sync", "info", FIELDS - {"correlation_id", "status"}),
        (": the write may or may not have happened: ", "warning", FIELDS - {"correlation_id", "status"}),
        ("no requests", "warning", {"pause"}),
        ("given twice", "warning", {"company_id"}),
        ("adopted sync", "warning", {"company_id"}),
        ("of earlier runs of the journal", "warning", {"run_id"}),
        ("nothing was started", "warning", {"run_id"}),
    ):
        found = [record for record in records if text in str(record["message"])]
        assert found, text
        assert {str(record["level"]).lower() for record in found} == {level_name}, text
        assert all(record[name] is not None for record in found for name in known), (text, found[0])


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield all calls in the package that make a log record, with their places."""
    package = Path(importlib.import_module("codat_commerce_async").__path__[0])
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "_logger." in text else ():
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="_logger"), attr=method)) if method in LOG_METHODS:
                    yield f"{path.name}:{node.lineno}", node


LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def test_every_log_call_passes_the_fields() -> None:
    calls = list(log_calls())
    assert len(calls) > 30
    assert [at for at, call in calls if "extra" not in {keyword.arg for keyword in call.keywords}] == []
