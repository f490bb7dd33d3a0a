"""What the simulator allows by the minute and by the day: https://docs.codat.io/using-the-api/rate-limits"""

import json

import pytest

from codat_commerce_async.simulator import RequestQuota, ResetFormat
from tests.support.cases import all_cases
from tests.support.simulated import NOON, SimulatedApi

HALF_A_DAY = 12 * 3600


def get(api: SimulatedApi) -> int:
    return api.send("GET", "/companies").status


def test_any_sixty_seconds_hold_so_many_requests() -> None:
    api = SimulatedApi(quota=RequestQuota(per_minute=3))
    seen = []
    for at in (0, 20, 40, 59.9, 60, 61, 80, 100):
        api.wall = NOON + at
        seen.append(get(api))
    assert seen == [200, 200, 200, 429, 200, 429, 200, 200]
    assert api.simulator.peak_per_minute == 5  # from 40 to 80, refused ones included


def test_a_429_reports_how_long_to_wait_and_that_is_enough() -> None:
    api = SimulatedApi(quota=RequestQuota(per_minute=1))
    get(api)
    api.wait(17.5)
    response = api.send("GET", "/companies")
    assert (response.status, response.headers["Retry-After"]) == (429, "43")
    assert json.loads(response.body)["statusCode"] == 429
    api.wait(43)
    assert get(api) == 200


def test_a_retry_after_is_in_real_seconds() -> None:
    api = SimulatedApi(quota=RequestQuota(per_minute=1), speed=10)
    get(api)
    assert api.send("GET", "/companies").headers["Retry-After"] == "6"


def test_a_day_holds_a_thousand_and_a_thousand_more_per_linked_company() -> None:
    api = SimulatedApi()
    limits = [api.send("GET", "/companies").headers["X-Rate-Limit-Limit"]]
    company_id = api.simulator.add_linked_company()
    api.simulator.add_company()
    limits.append(api.send("GET", "/companies").headers["X-Rate-Limit-Limit"])
    for connection in api.request("GET", f"/companies/{company_id}/connections")["results"]:
        api.simulator.set_connection_status(company_id, connection["id"], "Unlinked")
    limits.append(api.send("GET", "/companies").headers["X-Rate-Limit-Limit"])
    assert limits == ["1000", "2000", "1000"]


def test_a_spent_day_is_a_429_until_midnight_utc() -> None:
    api = SimulatedApi(quota=RequestQuota(per_minute=None, per_day=5))
    remaining = [api.send("GET", "/companies").headers["X-Rate-Limit-Remaining"] for _ in range(5)]
    assert remaining == ["4", "3", "2", "1", "0"]
    response = api.send("GET", "/companies")
    assert (response.status, response.headers["Retry-After"]) == (429, str(HALF_A_DAY))
    api.wait(HALF_A_DAY - 1)
    assert get(api) == 429
    api.wait(1)
    assert api.send("GET", "/companies").headers["X-Rate-Limit-Remaining"] == "4"


def test_the_days_end_is_reported_as_events() -> None:
    api = SimulatedApi()
    api.simulator.set_remaining_quota(1)
    for _ in range(3):
        get(api)
    api.wait(HALF_A_DAY)
    get(api)
    reached, reset = api.simulator.events
    assert (reached["eventType"], reset["eventType"]) == ("client.rateLimit.reached", "client.rateLimit.reset")
    assert reached["payload"] == {"dailyQuota": 1000, "quotaRemaining": 0, "expiryDate": "2023-11-16T00:00:00Z"}


@all_cases(
    ("written", "expected"),
    [
        (ResetFormat.EPOCH_SECONDS, "1700092800"),
        (ResetFormat.EPOCH_MILLISECONDS, "1700092800000"),
        (ResetFormat.HTTP_DATE, "Thu, 16 Nov 2023 00:00:00 GMT"),
        (ResetFormat.ISO_8601, "2023-11-16T00:00:00Z"),
    ],
)
def test_the_reset_is_written_in_any_of_the_formats(written: ResetFormat, expected: str) -> None:
    api = SimulatedApi(quota=RequestQuota(reset_format=written))
    assert api.send("GET", "/companies").headers["X-Rate-Limit-Reset"] == expected


def test_quota_headers_come_with_errors_too() -> None:
    response = SimulatedApi().send("GET", "/nothing")
    assert response.status == 404
    assert {"X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset", "Date"} <= set(response.headers)


def test_without_a_daily_bound_nothing_is_reported_of_it() -> None:
    api = SimulatedApi(quota=RequestQuota(per_minute=None, per_day=None))
    response = api.send("GET", "/companies")
    assert not [name for name in response.headers if name.startswith("X-Rate-Limit")]
    with pytest.raises(ValueError, match="no daily quota"):
        api.simulator.set_remaining_quota(1)


def test_a_refused_request_is_not_counted_against_the_day() -> None:
    api = SimulatedApi(quota=RequestQuota(per_minute=1))
    for _ in range(5):
        get(api)
    api.wait(60)
    assert api.send("GET", "/companies").headers["X-Rate-Limit-Remaining"] == "998"
