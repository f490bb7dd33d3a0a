"""Models are read alike under freezegun and time-machine, whichever of them was there first."""

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
    assert type(company.created) is REAL, type(company.created)
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
@pytest.mark.parametrize(
    ("freezer", "order"),
    [(freezer, order) for freezer in ("freezegun", "time-machine") for order in OBJECTIVES]
    + [("freezegun with asyncio", "everything while frozen")],
)
def test_a_frozen_clock_changes_no_model(freezer: str, order: str) -> None:
    package = freezer.split(maxsplit=1)[0]
    pytest.importorskip(package.replace("-", "_"), reason=f"{package} is not installed: pip install '.[test]'")
    head = f"from datetime import datetime as _d\nREAL = (_d,)[0]\n{FREEZERS[freezer]}\nREAD = {READ!r}\n{PLAIN}"
    script = head.replace("REAL = (_d,)[0]", "HELD = [_d]").replace("is REAL", "is HELD[0]") + OBJECTIVES[order]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
