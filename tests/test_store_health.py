from codat_commerce_async.distributed._store_health import STORE_TIMEOUT, StoreHealth
from codat_commerce_async.distributed._stores import StoreUnavailableError
from codat_commerce_async.errors import SharedQuotaError


def test_a_lower_count_of_processes_is_believed_after_half_a_minute() -> None:
    health = StoreHealth(None)
    assert health.processes is None
    for now, counted, known in [(0.0, 4, 4), (5.0, 1, 4), (6.0, 5, 5), (36.0, 1, 5), (36.1, 1, 1)]:
        assert not health.succeed(now, counted)
        assert health.processes == known
    assert StoreHealth(7).processes == 7


def test_while_the_store_is_unavailable_round_trips_are_short_and_soon_repeated() -> None:
    health = StoreHealth(None)
    assert health.timeout == STORE_TIMEOUT
    health.fail(10.0, TimeoutError(), is_needed=False)
    assert (health.is_available, health.reason) == (False, "no response in time")
    assert health.timeout < health.probe_at - 10.0 < STORE_TIMEOUT
    assert health.succeed(11.0, 1)
    assert (health.is_available, health.reason, health.timeout) == (True, None, STORE_TIMEOUT)


def test_the_reason_contains_no_text_of_another_library() -> None:
    for error, reason in [
        (StoreUnavailableError("locked"), "locked"),
        (SharedQuotaError("no such folder"), "no such folder"),
        (OSError("redis://user:password@host"), "OSError"),
    ]:
        health = StoreHealth(None)
        health.fail(0.0, error, is_needed=False)
        assert health.reason == reason
