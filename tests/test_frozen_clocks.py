"""Models are read alike under freezegun and time-machine, whichever of them was there first."""

import json
import os
import subprocess
import sys

import pytest

READ = """
from datetime import UTC, date, datetime
from codat_commerce_async._core.codec import decode
from codat_commerce_async._core.encoding import encode
from codat_commerce_async.models.companies import Company
from codat_commerce_async.models.sync import DateRange, SyncDateRange, SyncStatus

def read():
    company = decode(b'{"id": "c", "created": "2024-01-02T03:04:05Z", "lastSync": "0001-01-01T00:00:00"}', Company)
    assert company.created == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), company.created
    assert company.last_sync is None
    status = decode(b'{"syncUtc": "no time", "dataConnections": [{"id": "x", "created": "2024-01-02"}]}', SyncStatus)
    assert status.unparsed == (("sync_utc", "no time"),)
    assert status.data_connections[0].created == datetime(2024, 1, 2)
    period = decode(b'{"start": "2024-01-02T00:00:00Z", "finish": "2024-01-03T00:00:00Z"}', DateRange)
    assert encode(period) == b'{"start":"2024-01-02T00:00:00Z","finish":"2024-01-03T00:00:00Z"}'
    assert encode({"on": date(2024, 1, 2), "at": datetime(2024, 1, 2)}) == (
        b'{"on":"2024-01-02","at":"2024-01-02T00:00:00"}')
    try:
        decode(b'{"start": [], "finish": 1}', DateRange)
    except Exception as error:
        assert str(error).endswith("at $.start: expected a time as text, found a list"), error
    return company
"""

PLAIN = """
def check(company):
    assert type(company.created) is HELD[0], type(company.created)
    for cls in (Company, SyncDateRange, DateRange):
        assert "Fake" not in repr(list(__import__("attrs").fields(cls))), cls
"""

FREEZERS = {
    "freezegun": "from freezegun import freeze_time as frozen",
    "freezegun with asyncio": "from freezegun import freeze_time\nfrozen = lambda t: freeze_time(t, real_asyncio=True)",
    "time-machine": "from time_machine import travel as frozen",
}

OBJECTIVES = {
    "everything while frozen": "with frozen('2024-05-06'):\n exec(READ); check(read())\ncheck(read())",
    "imported before, first read while frozen": "exec(READ)\nwith frozen('2024-05-06'):\n check(read())\ncheck(read())",
    "imported while frozen, first read after": "with frozen('2024-05-06'):\n exec(READ)\ncheck(read())",
    "read before and while frozen": "exec(READ)\ncheck(read())\nwith frozen('2024-05-06'):\n check(read())",
}


# With `real_asyncio`, freezegun replaces the same classes: one order shows it.
CASES = [(freezer, order) for freezer in ("freezegun", "time-machine") for order in OBJECTIVES] + [
    ("freezegun with asyncio", "everything while frozen")
]

# Each case needs a process that has not imported the package. A copy of one that has imported what it needs, except for
# what uses `datetime`, starts faster than a new one.
RUN_EACH = """
import json, os, sys, traceback
import aiohttp.web, multiprocessing.queues, sqlite3
failed = {}
for case, script in json.loads(sys.argv[1]).items():
    readable, writable = os.pipe()
    if os.fork() == 0:
        try:
            exec(script, {})
        except BaseException:
            os.write(writable, traceback.format_exc().encode()[-4000:])
        os._exit(0)
    os.close(writable)
    with open(readable) as report:
        if error := report.read():
            failed[case] = error
    assert os.wait()[1] == 0
print(json.dumps(failed))
"""


def script_of(freezer: str, order: str) -> str:
    head = f"from datetime import datetime as _d\nHELD = [_d]\n{FREEZERS[freezer]}\nREAD = {READ!r}\n{PLAIN}"
    return head + OBJECTIVES[order]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot copy a process")
def test_a_frozen_clock_changes_no_model() -> None:
    for package in ("freezegun", "time_machine"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[test]'")
    scripts = {f"{freezer}: {order}": script_of(freezer, order) for freezer, order in CASES}
    command = [sys.executable, "-c", RUN_EACH, json.dumps(scripts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}
