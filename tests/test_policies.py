import copy
import math
import pickle
from collections.abc import Callable

import pytest
from attrs import evolve, fields

from codat_commerce_async import CodatCommerce, PollPolicy, Quota, RetryPolicy, Timeouts
from tests.support.cases import all_cases

POLICIES = [RetryPolicy, PollPolicy, Timeouts, Quota]
NAN, INF = math.nan, math.inf

REFUSED: list[tuple[Callable[..., object], str, list[float]]] = [
    (RetryPolicy, "attempts", [0, -1]),
    (RetryPolicy, "initial_backoff", [-0.1, NAN, INF, -INF]),
    (RetryPolicy, "max_backoff", [-0.1, NAN, INF]),
    (RetryPolicy, "max_retry_after", [-0.1, NAN, INF]),
    (RetryPolicy, "deadline", [-0.1, NAN, -INF]),
    (RetryPolicy, "max_visibility_delay", [-0.1, NAN, -INF]),
    (PollPolicy, "initial_delay", [-0.1, NAN, INF]),
    (PollPolicy, "interval", [0, -0.1, NAN, INF]),
    (PollPolicy, "factor", [0.9, NAN, INF]),
    (PollPolicy, "max_interval", [1.0, NAN]),
    (PollPolicy, "jitter", [-0.1, 1.0, NAN]),
    (Timeouts, "connect", [0, -1, NAN]),
    (Timeouts, "read", [0, -1, NAN]),
    (Timeouts, "total", [0, -1, NAN]),
    (Quota, "per_minute", [0, -1, 10**20]),
    (Quota, "concurrent", [0, -1, 10**20]),
    (Quota, "per_company", [0, -1, 10**20]),
]


@all_cases(("policy", "name", "value"), [(policy, name, value) for policy, name, values in REFUSED for value in values])
def test_a_value_that_cannot_work_is_refused_by_name(policy: Callable[..., object], name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        policy(**{name: value})


@all_cases(("policy", "name"), [(policy, name) for policy, name, _ in REFUSED])
@all_cases("value", [10**400, -(10**400)])
def test_a_number_beyond_all_floats_is_refused_by_name(policy: Callable[..., object], name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        policy(**{name: value})


@all_cases(("policy", "name"), [(policy, name) for policy, name, _ in REFUSED])
@all_cases("value", ["1", b"1", True, [1], 1j])
def test_a_value_of_the_wrong_kind_is_refused_by_name(policy: Callable[..., object], name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be an? (number|integer) \(got "):
        policy(**{name: value})


@all_cases(
    ("policy", "name"),
    [(RetryPolicy, "attempts"), (Quota, "per_minute"), (Quota, "concurrent"), (Quota, "per_company")],
)
@all_cases("value", [1.5, 2.0, NAN])
def test_a_count_is_whole(policy: Callable[..., object], name: str, value: float) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be an integer \(got float\)"):
        policy(**{name: value})


def test_the_tables_know_every_setting() -> None:
    settings = {f"{policy.__name__}.{each.name}" for policy in POLICIES for each in fields(policy)}
    tested = {f"{policy.__name__}.{name}" for policy, name, _ in REFUSED}
    assert settings - tested == {"Quota.wait_for_reset"}


def test_values_at_the_edge_are_taken() -> None:
    RetryPolicy(attempts=1, initial_backoff=0, max_backoff=0, max_retry_after=0, deadline=0)
    RetryPolicy(deadline=INF)
    PollPolicy(initial_delay=0, interval=0.001, factor=1, max_interval=0.001, jitter=0)
    PollPolicy(max_interval=INF)
    Timeouts(connect=INF, read=INF, total=0.001)
    Quota(per_minute=1, concurrent=1, per_company=1)
    Quota(per_minute=None, concurrent=None, per_company=None)


@all_cases("policy", POLICIES)
def test_a_policy_is_a_value(policy: type) -> None:
    one = policy()
    assert one == policy()
    assert hash(one) == hash(policy())
    assert pickle.loads(pickle.dumps(one)) == copy.copy(one) == one  # noqa: S301 - it is our own
    with pytest.raises(AttributeError):
        setattr(one, fields(policy)[0].name, 1)


def test_shorthands_mean_what_they_report() -> None:
    assert RetryPolicy.none().attempts == 1
    unlimited = Quota.unlimited()
    assert (unlimited.per_minute, unlimited.concurrent, unlimited.per_company) == (None, None, None)


@pytest.mark.parametrize("per_minute", [1001, 5000])
def test_a_quota_above_codats_ceiling_is_warned_of(per_minute: int) -> None:
    with pytest.warns(UserWarning, match=rf"per_minute={per_minute} is above Codat's ceiling of 1,000") as caught:
        Quota(per_minute=per_minute)
    assert caught[0].filename == __file__


def test_a_quota_that_is_raised_above_the_ceiling_later_is_warned_of_too() -> None:
    with pytest.warns(UserWarning, match="ceiling of 1,000 requests per minute"):
        evolve(Quota(), per_minute=2000)


def test_a_quota_at_the_ceiling_or_without_a_rate_is_not_warned_of() -> None:
    assert Quota(per_minute=1000).per_minute == 1000
    assert Quota.unlimited().per_minute is None


def test_the_defaults_stay_below_codats_ceilings() -> None:
    quota = Quota()
    assert quota.per_minute is not None
    assert quota.per_minute < 1000
    assert quota.per_company == 10


@all_cases("name", ["retry", "poll", "timeouts", "quota", "hooks", "random", "transport", "rate_limiter", "wall_clock"])
def test_a_setting_of_another_kind_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a "):
        CodatCommerce("key", **{name: 3})  # type: ignore[arg-type]  # that is what is tested
