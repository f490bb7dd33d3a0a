"""The rules for an ambiguous write: when to resend its key, search for it, use a new key, or report it as unknown."""

import asyncio
from collections.abc import Callable, Container, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from codat_commerce_async._core.claims import Claims
from codat_commerce_async._core.idempotency import FirstUse
from codat_commerce_async._core.lifecycle import Clock, Lifecycle
from codat_commerce_async._core.reconcile import Candidate, LookupPolicy, write_exactly_once
from codat_commerce_async.errors import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    CodatError,
    ConflictError,
    DecodeError,
    IdempotencyMismatchError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    StatusError,
    TransportError,
)
from codat_commerce_async.models.call import Attempt, Call
from codat_commerce_async.models.error_message import ErrorMessage

pytestmark = pytest.mark.virtual_time

EPOCH = 1_705_305_600.0
LIFETIME = 85 * 60.0
CODATS = ErrorMessage(status_code=500, service="PublicApi", error="It broke.", correlation_id="c0ffee")

Make = Callable[[Call], CodatError]


def time() -> float:
    return asyncio.get_running_loop().time()


def lost(call: Call) -> CodatError:
    return unknown_because(TransportError("lost"), call)


def refused(call: Call) -> CodatError:
    return unknown_because(ServerError("500", None, 500, CODATS), call)


def gateway(call: Call) -> CodatError:
    return unknown_because(ServerError("502", None, 502), call)


def gateway_in_json(call: Call) -> CodatError:
    return unknown_because(ServerError("504", None, 504, ErrorMessage(status_code=504, error="Timed out.")), call)


def unparsed(call: Call) -> CodatError:
    return DecodeError("no JSON", call, "$", 200)


def in_progress(call: Call) -> CodatError:
    return status_error(ConflictError, 409)(call)


def status_error(kind: type[StatusError], status: int, error: ErrorMessage | None = CODATS) -> Make:
    return lambda call: kind(str(status), call, status, error)


def unknown_because(cause: CodatError, call: Call) -> CodatError:
    unknown = OutcomeUnknownError("it may or may not have happened", call, when(0.0))
    unknown.__cause__ = cause
    return unknown


def when(seconds: float) -> datetime:
    return datetime.fromtimestamp(EPOCH + seconds, UTC)


def candidate(seconds: float | None, name: str = "ours") -> Candidate[str]:
    return Candidate(name, name, None if seconds is None else when(seconds))


class Scenario(Clock):
    """A scripted write and the result of searching for it, without a network."""

    key: str | None = None
    deadline: float | None = None

    def __init__(
        self,
        *script: Make | str,
        seen: Sequence[Candidate[str]] | Make = (),
        failing_lookups: Container[int] = (),
        takes: float = 0.1,
    ) -> None:
        super().__init__(Lifecycle(), lambda: EPOCH + time() + self.suspended)
        self.script = list(script)
        self.seen = seen
        self.failing_lookups = failing_lookups
        self.takes = takes
        self.keys_sent: list[str] = []
        self.key_valid_for: list[float | None] = []
        self.lookup_times: list[float] = []
        self.ahead: float | None = 0.0
        self.suspended = 0.0
        self.keys = 0

    @property
    def server_offset(self) -> float | None:
        return self.ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def send(self, key: str, key_valid_for: float | None) -> str:
        self.key_valid_for.append(key_valid_for)
        if key_valid_for is not None and key_valid_for <= 0:
            raise TransportError("too late")
        self.keys_sent.append(key)
        began = self.now()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        await asyncio.sleep(self.takes)
        if isinstance(step, str):
            return step
        attempt = Attempt(
            number=1,
            started_at=datetime.fromtimestamp(began, UTC),
            quota_wait=0.0,
            elapsed=self.takes,
            status=None,
            result="?",
        )
        raise step(Call(operation="write", method="POST", path="/", idempotency_key=key, attempts=(attempt,)))

    async def find_candidates(self) -> Sequence[Candidate[str]]:
        self.lookup_times.append(time())
        if len(self.lookup_times) in self.failing_lookups:
            raise TransportError("lost")
        if callable(self.seen):
            raise self.seen(Call(operation="find_candidates", method="GET", path="/"))
        return self.seen

    async def next_key(self, last: str | None) -> str:
        self.keys += 1
        return f"key-{self.keys}"

    async def write(
        self,
        key: str | None = None,
        *,
        first_use: FirstUse | None = None,
        deadline: float | None = None,
        claims: Claims | None = None,
        lookups: LookupPolicy | None = None,
    ) -> str | Candidate[str]:
        claims = claims or Claims()
        self.key, self.deadline, self.claim = key, deadline, claims.claim("", key)
        return await write_exactly_once(
            self, clock=self, claims=claims, lookups=lookups or LookupPolicy(), first_use=first_use
        )

    async def unknown(
        self,
        key: str | None = None,
        *,
        first_use: FirstUse | None = None,
        deadline: float | None = None,
        claims: Claims | None = None,
        lookups: LookupPolicy | None = None,
    ) -> OutcomeUnknownError:
        with pytest.raises(OutcomeUnknownError) as raised:
            await self.write(key, first_use=first_use, deadline=deadline, claims=claims, lookups=lookups)
        return raised.value


async def test_a_successful_write_is_sent_once() -> None:
    scenario = Scenario("done")
    assert await scenario.write() == "done"
    assert (scenario.keys_sent, scenario.lookup_times) == (["key-1"], [])


@pytest.mark.parametrize("ambiguous", [lost, gateway, gateway_in_json, unparsed])
async def test_a_lost_response_is_requested_under_the_same_key_before_anything_is_adopted(ambiguous: Make) -> None:
    # Something else has started meanwhile; only the same key identifies our write.
    scenario = Scenario(ambiguous, ambiguous, "done", seen=[candidate(1.0, "another's")])
    assert await scenario.write() == "done"
    assert (scenario.keys_sent, scenario.lookup_times) == (["key-1"] * 3, [])


@pytest.mark.parametrize("ambiguous", [lost, gateway, unparsed])
async def test_a_write_that_the_same_key_cannot_settle_is_adopted_once_visible(ambiguous: Make) -> None:
    ours = candidate(0.05)
    scenario = Scenario(ambiguous, seen=[candidate(-3600.0, "older"), ours])
    assert await scenario.write() is ours
    assert scenario.keys_sent == ["key-1"] * 4


@pytest.mark.parametrize("ambiguous", [lost, gateway, gateway_in_json, unparsed])
async def test_a_request_that_may_be_in_progress_is_never_sent_under_a_new_key(ambiguous: Make) -> None:
    scenario = Scenario(ambiguous)
    error = await scenario.unknown()
    assert set(scenario.keys_sent) == {"key-1"}
    assert (error.idempotency_key, error.candidates, error.requested_at) == ("key-1", (), when(0.0))


async def test_a_refusal_of_codats_is_not_replayed_but_polled_after_and_requested_under_a_new_key() -> None:
    scenario = Scenario(refused, "done")
    assert await scenario.write() == "done"
    assert scenario.keys_sent == ["key-1", "key-2"]
    # Long enough for a started write to become visible.
    assert scenario.lookup_times[-1] == pytest.approx(60.1)


async def test_a_sync_that_began_despite_an_error_response_is_adopted_once_visible() -> None:
    ours = candidate(0.05)
    scenario = Scenario(refused, seen=[candidate(-3600.0, "older"), ours])
    assert await scenario.write() is ours
    assert (scenario.keys_sent, len(scenario.lookup_times)) == (["key-1"], 1)


async def test_several_that_it_may_be_are_named() -> None:
    error = await Scenario(
        refused, seen=[candidate(0.5, "one"), candidate(0.7, "other"), candidate(-900.0, "old")]
    ).unknown()
    assert error.candidates == ("one", "other")
    assert (error.correlation_id, error.idempotency_key) == (None, "key-1")
    assert isinstance(error.__cause__, ServerError)


async def test_a_candidate_without_a_creation_time_is_not_adopted() -> None:
    error = await Scenario(refused, seen=[candidate(None, "undated")]).unknown()
    assert error.candidates == ("undated",)


@pytest.mark.parametrize("began", [-2.5, -30.0, -59.0])
async def test_a_sync_that_began_shortly_before_is_neither_adopted_nor_ruled_out(began: float) -> None:
    # The clocks of several machines need not agree to the second.
    error = await Scenario(refused, seen=[candidate(began)]).unknown()
    assert error.candidates == ("ours",)


@pytest.mark.parametrize("ahead", [20.0, 3600.0])
async def test_a_clock_that_jumped_ahead_hides_nothing(ahead: float) -> None:
    scenario = Scenario(refused, "twice", seen=[candidate(0.05)])
    scenario.ahead = ahead
    error = await scenario.unknown()
    assert (scenario.keys_sent, error.candidates) == (["key-1"], ("ours",))


@pytest.mark.parametrize("ahead", [-20.0, -3600.0])
async def test_a_clock_that_jumped_back_makes_nothing_ours(ahead: float) -> None:
    scenario = Scenario(refused, "twice", seen=[candidate(ahead / 2, "older")])
    scenario.ahead = ahead
    error = await scenario.unknown()
    assert (scenario.keys_sent, error.candidates) == (["key-1"], ("older",))


async def test_a_poll_that_fails_is_repeated() -> None:
    scenario = Scenario(refused, "done", failing_lookups=range(5))
    assert await scenario.write() == "done"
    assert len(scenario.lookup_times) == 5


async def test_polls_that_found_nothing_before_one_that_failed_are_not_enough() -> None:
    scenario = Scenario(refused, "twice", failing_lookups={5})
    await scenario.unknown()
    assert scenario.keys_sent == ["key-1"]


async def test_without_a_last_poll_nothing_is_requested_again() -> None:
    scenario = Scenario(refused, "twice", seen=status_error(AuthenticationError, 401))
    error = await scenario.unknown()
    assert scenario.keys_sent == ["key-1"]
    assert isinstance(error.__cause__, AuthenticationError)


async def test_new_keys_are_taken_only_so_often() -> None:
    scenario = Scenario(refused)
    error = await scenario.unknown()
    assert scenario.keys_sent == ["key-1", "key-2", "key-3", "key-4"]
    assert error.idempotency_key == "key-4"


STANDING = [
    status_error(BadRequestError, 400),
    status_error(NotFoundError, 404),
    status_error(IdempotencyMismatchError, 422),
]
INCONCLUSIVE = [
    status_error(AuthenticationError, 401),
    status_error(PermissionDeniedError, 403),
    status_error(RateLimitError, 429),
    status_error(NotFoundError, 404, error=None),
    lambda call: TransportError("not reached", call, sent=False),
    lambda call: RequestTimeoutError("no time for the limiter", call),
    lambda call: QuotaExhaustedError("spent", call),
]


@pytest.mark.parametrize("error", [*STANDING, *INCONCLUSIVE, in_progress, lambda call: ClientClosedError("closed")])
async def test_a_first_refusal_stands(error: Make) -> None:
    scenario = Scenario(error)
    with pytest.raises(CodatError) as raised:
        await scenario.write()
    assert not isinstance(raised.value, OutcomeUnknownError)
    assert (len(scenario.keys_sent), scenario.lookup_times) == (1, [])


@pytest.mark.parametrize("error", STANDING)
async def test_a_refusal_under_the_same_key_stands_as_what_was_done_would_have_been_replayed(error: Make) -> None:
    scenario = Scenario(lost, error)
    with pytest.raises(StatusError):
        await scenario.write()
    assert scenario.keys_sent == ["key-1"] * 2


@pytest.mark.parametrize("error", INCONCLUSIVE)
async def test_an_error_that_stops_a_retry_does_not_settle_the_lost_request_before_it(error: Make) -> None:
    scenario = Scenario(lost, error)
    raised = await scenario.unknown()
    assert raised.idempotency_key in {"key-1", None}
    assert set(scenario.keys_sent) == {"key-1"}


@pytest.mark.parametrize("error", [*INCONCLUSIVE, in_progress])
async def test_after_a_new_key_such_an_error_is_itself_again(error: Make) -> None:
    # It was certain that nothing had happened.
    with pytest.raises(CodatError) as raised:
        await Scenario(refused, error).write()
    assert not isinstance(raised.value, OutcomeUnknownError)


async def test_our_own_first_request_being_worked_on_is_waited_for() -> None:
    scenario = Scenario(lost, *[in_progress] * 20, "done")
    assert await scenario.write() == "done"
    assert set(scenario.keys_sent) == {"key-1"}
    assert 90.0 < time() < 180.0


async def test_a_given_key_that_is_in_progress_is_waited_for_too() -> None:
    # The process that used it may have been killed a second ago.
    scenario = Scenario(in_progress, in_progress, "done")
    assert await scenario.write("given") == "done"
    assert scenario.keys_sent == ["given"] * 3


async def test_a_request_that_stays_in_progress_is_unknown_in_the_end() -> None:
    scenario = Scenario(in_progress)
    error = await scenario.unknown("given")
    assert isinstance(error.__cause__, ConflictError)
    assert 180.0 < time() < 300.0


async def test_a_sync_that_began_within_the_lifetime_of_a_given_key_is_a_candidate() -> None:
    # Who used the key before, and when, is not known here.
    error = await Scenario(refused, "twice", seen=[candidate(-80 * 60.0)]).unknown("given")
    assert error.candidates == ("ours",)
    assert await Scenario(refused, "done", seen=[candidate(-91 * 60.0)]).write("given") == "done"


async def test_a_sync_that_began_since_the_key_was_first_used_is_adopted() -> None:
    ours = candidate(-50.0)
    assert await Scenario(refused, seen=[ours]).write("given", first_use=FirstUse(EPOCH - 60.0, None, 0.0)) is ours


async def test_a_key_that_codat_may_have_forgotten_is_not_used_again() -> None:
    ours = candidate(-LIFETIME)
    scenario = Scenario("twice", seen=[ours])
    assert await scenario.write("given", first_use=FirstUse(EPOCH - LIFETIME - 1.0, None, 0.0)) is ours
    assert scenario.keys_sent == []


async def test_a_repeat_is_reported_how_long_its_key_lasts() -> None:
    scenario = Scenario(lost, lost, "done")
    await scenario.write()
    # The first use is not bound: however long it waits to be sent, nothing was done under its key.
    assert scenario.key_valid_for[0] is None
    assert [LIFETIME - 30.0 < (key_valid_for or 0.0) < LIFETIME for key_valid_for in scenario.key_valid_for[1:]] == [
        True,
        True,
    ]


async def test_a_key_that_grew_old_on_the_way_is_replaced_when_nothing_was_done() -> None:
    scenario = Scenario(lost, "done", takes=LIFETIME + 1.0)
    assert await scenario.write() == "done"
    assert scenario.keys_sent == ["key-1", "key-2"]
    assert len(scenario.lookup_times) == 5


async def test_a_key_that_grew_old_while_the_machine_was_suspended_is_not_used_again() -> None:
    class Suspended(Scenario):
        async def sleep(self, seconds: float) -> None:
            # The loop's clock does not notice.
            self.suspended = 7200.0
            await super().sleep(seconds)

    ours = candidate(0.05)
    scenario = Suspended(lost, "twice", seen=[ours])
    assert await scenario.write() is ours
    assert scenario.keys_sent == ["key-1"]


async def test_without_the_servers_time_a_suspension_ages_a_key_too() -> None:
    class Suspended(Scenario):
        async def sleep(self, seconds: float) -> None:
            self.suspended = 7200.0
            await super().sleep(seconds)

    scenario = Suspended(lost, "twice", seen=[candidate(0.05)])
    scenario.ahead = None
    assert (await scenario.unknown()).candidates == ("ours",)
    assert scenario.keys_sent == ["key-1"]


async def test_a_key_grows_old_although_the_wall_clock_is_set_back() -> None:
    class SetBack(Scenario):
        async def sleep(self, seconds: float) -> None:
            self.suspended = -3600.0
            await super().sleep(seconds)

    ours = candidate(0.05)
    scenario = SetBack(lost, seen=[ours], takes=2400.0)
    assert await scenario.write() is ours
    assert scenario.keys_sent == ["key-1"] * 3


async def test_a_write_with_a_response_is_never_sent_under_a_new_key_however_old_its_own() -> None:
    scenario = Scenario(unparsed, "twice", takes=LIFETIME + 1.0)
    error = await scenario.unknown()
    assert (scenario.keys_sent, error.candidates) == (["key-1"], ())


async def test_no_pause_is_started_that_would_end_too_late() -> None:
    scenario = Scenario(lost)
    await scenario.unknown(deadline=3.0)
    assert (len(scenario.keys_sent), time() < 3.0) == (2, True)


async def test_closing_the_client_during_an_ambiguity_leaves_it_unknown() -> None:
    class Closing(Scenario):
        async def sleep(self, seconds: float) -> None:
            raise ClientClosedError("closed")

    error = await Closing(lost).unknown()
    assert (error.idempotency_key, type(error.__cause__)) == ("key-1", ClientClosedError)


async def test_cancelling_is_not_doubted_but_passed_on() -> None:
    scenario = Scenario(refused, takes=1.0)
    task = asyncio.create_task(scenario.write())
    for pause in (0.5, 0.6):
        await asyncio.sleep(pause)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time() == pytest.approx(1.1)


async def test_the_requested_time_is_that_of_the_very_first_request() -> None:
    error = await Scenario(lost).unknown()
    assert error.requested_at is not None
    assert error.requested_at - when(0.0) < timedelta(seconds=0.01)


async def test_a_new_key_is_resent_as_often_as_the_first_one() -> None:
    scenario = Scenario(lost, lost, lost, refused, lost, "done")
    assert await scenario.write() == "done"
    assert scenario.keys_sent == ["key-1"] * 4 + ["key-2"] * 2


async def test_a_new_key_in_progress_is_polled_as_long_as_the_first_one() -> None:
    scenario = Scenario(lost, in_progress, refused, lost, *[in_progress] * 10, "done")
    assert await scenario.write(lookups=LookupPolicy(max_visibility_delay=300.0)) == "done"
    assert scenario.keys_sent == ["key-1"] * 3 + ["key-2"] * 12


@pytest.mark.parametrize(
    ("first", "hours"), [(lost, 3.0), (status_error(BadRequestError, 400), 0.0)], ids=["unknown", "refused"]
)
async def test_an_earlier_write_that_cannot_have_created_it_does_not_keep_a_candidate_from_adoption(
    first: Make, hours: float
) -> None:
    claims = Claims()
    with pytest.raises(CodatError):
        await Scenario(first).write("earlier", claims=claims)
    await asyncio.sleep(hours * 3600.0)
    ours = candidate(time() + 0.05)
    assert await Scenario(lost, seen=[ours]).write(claims=claims) is ours
    # One that may have created it does.
    await asyncio.sleep(7200.0)
    with pytest.raises(OutcomeUnknownError):
        await Scenario(lost).write("another", claims=claims)
    await Scenario(lost, seen=[candidate(time() + 0.05, "whose")]).unknown(claims=claims)
