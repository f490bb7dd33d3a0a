"""The rules of the shared quota: a pure function from state, report and time to a result.

`MemoryQuotaStore` and `FileQuotaStore` run this function; the same rules are in `_redis.lua` and `_postgres.sql`, which
a test compares with it step by step. States, reports and results are JSON values. Times in a state are seconds of the
store's clock, in reports and results they are durations, so the clocks of the processes do not matter.

The rate follows the generic cell rate algorithm: `tat` (theoretical arrival time) is when the next evenly spaced
request would start. Requests may start `tolerance` seconds earlier, which makes the burst.
"""

import math
from typing import NotRequired, TypeAlias, TypedDict

__all__ = [
    "AHEAD",
    "AHEAD_IN_BACKGROUND",
    "COMPANY",
    "DEFERRED",
    "EXHAUSTED",
    "FULL",
    "GRANTED",
    "LATER",
    "LIVE_FOR",
    "MAX_PERMITS",
    "RETRY",
    "UNLIMITED",
    "AddressState",
    "ClientState",
    "Member",
    "QuotaReport",
    "QuotaResult",
    "exchange",
    "new_address",
    "new_client",
]

LIVE_FOR = 30.0
"""Seconds after its last report for which a process is live."""
AHEAD = 0.5
"""Seconds that a permit may be granted in advance."""
AHEAD_IN_BACKGROUND = 0.125
"""The same for background requests, so that a foreground request waits little behind them."""
RETRY = 0.5
"""Seconds until a request that waits for slots of other processes is repeated."""
MAX_PERMITS = 16
"""The most permits that one report may request."""
UNLIMITED = 1_000_000_000
"""Stands for a limit of None."""

# Processes report every 5 seconds. After a longer silence, either none was running or the clock was set forward.
_LONG_SILENCE = 10.0
_GRACE = 10.0
# A reported reset that differs by more is that of another day.
_SAME_RESET = 60.0
# A count of the daily quota that is older may only lower the known one.
_FRESH = 1.0
_MINUTE = 60.0

# Why a permit was granted or refused; the second number of each pair is the delay in seconds, or when to try again.
GRANTED, LATER, COMPANY, FULL, DEFERRED, EXHAUSTED = range(6)

Permit: TypeAlias = tuple[str, int, int]
"""Company id ("" for none), whether it is a background request, whether it starts work (0 or 1)."""


class QuotaReport(TypedDict):
    """What a process reports and requests in one round trip. Its counts are absolute, so it can be repeated."""

    address: str
    """The name under which processes behind one IP address share the requests per minute."""
    client: str
    """The name under which the processes of one Codat client share the daily quota."""
    process: str
    """The name of the process."""
    leaves: int
    """1 if the process ends and shall not be counted any more."""
    interval: float
    """Seconds between requests at the full rate; 0 without a rate."""
    tolerance: float
    """Seconds that a request may start early."""
    per_minute: int
    """The requests per minute that the quota allows."""
    concurrent: int
    """The requests in flight that the quota allows."""
    per_company: int
    """The requests in flight that the quota allows per company."""
    held: dict[str, int]
    """The requests in flight of this process, per company ("" for requests without one)."""
    reserved: int
    """The requests that this process has reserved of the daily quota."""
    runs: dict[str, int]
    """Changes of the reservations that are kept per run."""
    sequence: int
    """Numbers reports with changes in `runs`, so that a repeated one is not applied twice."""
    pauses: dict[str, float]
    """Seconds, per company; "" is all requests."""
    exhausted: list[float]
    """Seconds until the reset of the exhausted daily quota and the server's time of it (0: unknown); or empty."""
    remaining: list[float]
    """Remaining requests of the daily quota, seconds to the reset, age in seconds; or empty."""
    permits: list[Permit]
    """The requests that wait to be sent."""


class QuotaResult(TypedDict):
    """What the store returns: which requests may be sent, and the state of the quota."""

    permits: list[tuple[int, float]]
    """For each permit of the report, whether it is granted or why not, and the seconds until then."""
    processes: int
    """How many processes share the quota."""
    share: int
    """How many permits one process may hold in advance."""
    used: float
    """About how many requests the last 60 seconds had."""
    pause: float
    """The seconds for which all requests are paused."""
    companies: dict[str, float]
    """The seconds for which companies are paused."""
    remaining: int
    """Remaining requests of the daily quota; -1 if unknown."""
    reserved: int
    """The requests that all processes have reserved of the daily quota."""
    exhausted: float
    """The seconds until the exhausted daily quota is reset; 0 if it is not exhausted."""
    reset_at: float
    """The server's time of that reset in epoch seconds; 0 if it is not known."""
    limits: list[int]
    """`per_minute`, `concurrent` and `per_company` of the last report by a process that is live, maybe this one."""


class AddressState(TypedDict):
    """What holds for all clients of one address. Times are seconds of the store's clock."""

    last: float
    """When the last report was applied."""
    tat: float
    """When the next evenly spaced request would start."""
    pause: float
    """When the pause of all requests ends."""
    seen: dict[str, float]
    """When each process reported last."""
    minute: list[float]
    """The start of this minute, its requests, those of the minute before."""
    per_minute: NotRequired[int]
    """That of the last report, unless a long silence followed."""


class Member(TypedDict):
    """One process of a client. Only the report of the process itself changes it; otherwise it is replaced."""

    seen: float
    """When it reported last, in seconds of the store's clock."""
    held: dict[str, int]
    """Its requests in flight per company, those included that were granted since its last report."""
    reserved: int
    """The requests that it has reserved of the daily quota."""
    sequence: int
    """The number of its last report with changes of reservations."""


class ClientState(TypedDict):
    """What holds for one client, whatever the address. Times are seconds of the store's clock."""

    last: float
    """When the last report was applied."""
    members: dict[str, Member]
    """The processes by name."""
    pauses: dict[str, float]
    """When the pause of each company ends."""
    runs: dict[str, list[float]]
    """Reserved requests and when they expire."""
    remaining: list[float]
    """Remaining requests, when they are reset, when that was observed; or empty."""
    exhausted: list[float]
    """When the daily quota is reset, the server's time of that, when that was recorded; or empty."""
    limits: NotRequired[list[int]]
    """`concurrent` and `per_company` of the last report, unless a long silence followed."""


def new_address(now: float, tolerance: float) -> AddressState:
    """Return the state of an address of which nothing is known; it starts without a burst."""
    return {"last": now, "tat": now + tolerance, "pause": 0.0, "seen": {}, "minute": [now, 0, 0]}


def new_client(now: float) -> ClientState:
    """Return the state of a client of which nothing is known."""
    return {"last": now, "members": {}, "pauses": {}, "runs": {}, "remaining": [], "exhausted": []}


def exchange(address: AddressState, client: ClientState, report: QuotaReport, now: float) -> QuotaResult:
    """Apply a report to the states, which change, and return the result."""
    _set_address_clock(address, report, now)
    _set_client_clock(client, now)
    _record_process(address, client, report, now)
    limits = _record_limits(address, client, report)
    _record_pauses(address, client, report, now)
    _record_daily_quota(client, report, now)
    _record_runs(client, report, now)
    reserved = sum([member["reserved"] for member in client["members"].values()])
    if client["runs"]:
        reserved += int(sum(each[0] for each in client["runs"].values()))
    granted = _grant(address, client, report, now, reserved)
    used = _count(address, sum([kind == GRANTED for kind, _ in granted]), now)
    exhausted, remaining = client["exhausted"], client["remaining"]
    processes = len(address["seen"]) or 1
    return {
        "permits": granted,
        "processes": processes,
        "share": _share(AHEAD, report["interval"], processes),
        "used": used,
        "pause": max(0.0, address["pause"] - now),
        "companies": {company: until - now for company, until in client["pauses"].items()},
        "remaining": int(remaining[0]) if remaining else -1,
        "reserved": reserved,
        "exhausted": exhausted[0] - now if exhausted else 0.0,
        "reset_at": exhausted[1] if exhausted else 0.0,
        "limits": limits,
    }


def _set_address_clock(address: AddressState, report: QuotaReport, now: float) -> None:
    """Adapt the state if the clock was set, so that no burst follows."""
    passed = now - address["last"]
    address["last"] = now
    if passed < 0:
        for name in ("tat", "pause"):
            address[name] += passed
        address["minute"][0] += passed
        address["seen"] = {process: seen + passed for process, seen in address["seen"].items()}
    elif passed > _LONG_SILENCE:
        address["tat"] = max(address["tat"], now + report["tolerance"])
        _extend_lives(address["seen"], now)
        address.pop("per_minute", None)


def _set_client_clock(client: ClientState, now: float) -> None:
    passed = now - client["last"]
    client["last"] = now
    if passed < 0:
        _see_members(client, {process: member["seen"] + passed for process, member in client["members"].items()})
        client["pauses"] = {company: until + passed for company, until in client["pauses"].items()}
        for run in client["runs"].values():
            run[1] += passed
        for times, positions in ((client["remaining"], (1, 2)), (client["exhausted"], (0, 2))):
            for position in positions if times else ():
                times[position] += passed
    elif passed > _LONG_SILENCE:
        seen = {process: member["seen"] for process, member in client["members"].items()}
        _extend_lives(seen, now)
        _see_members(client, seen)
        client.pop("limits", None)


def _see_members(client: ClientState, seen: dict[str, float]) -> None:
    for process, member in client["members"].items():
        client["members"][process] = {**member, "seen": seen[process]}


def _extend_lives(seen: dict[str, float], now: float) -> None:
    for process, last in seen.items():
        seen[process] = max(last, now - LIVE_FOR + _GRACE)


def _record_process(address: AddressState, client: ClientState, report: QuotaReport, now: float) -> None:
    """Record what a process holds, and forget the processes that are dead."""
    process, seen, members = report["process"], address["seen"], client["members"]
    sequence = members[process]["sequence"] if process in members else 0
    if report["leaves"]:
        seen.pop(process, None)
        members.pop(process, None)
    else:
        seen[process] = now
        members[process] = {
            "seen": now,
            "held": report["held"],
            "reserved": report["reserved"],
            "sequence": sequence,
        }
    for dead in [each for each, last in seen.items() if now - last > LIVE_FOR]:
        del seen[dead]
    for dead in [each for each, member in members.items() if now - member["seen"] > LIVE_FOR]:
        del members[dead]


def _record_limits(address: AddressState, client: ClientState, report: QuotaReport) -> list[int]:
    """Record the limits of the report, and return those of the one before, which show that a process has others."""
    own, own_slots = report["per_minute"], [report["concurrent"], report["per_company"]]
    if report["leaves"]:
        return [own, *own_slots]
    before = address.get("per_minute", own) if len(address["seen"]) > 1 else own
    slots_before = client.get("limits", own_slots) if len(client["members"]) > 1 else own_slots
    address["per_minute"], client["limits"] = own, own_slots
    return [before, *slots_before]


def _record_pauses(address: AddressState, client: ClientState, report: QuotaReport, now: float) -> None:
    """Extend the pauses, and forget those that are over."""
    pauses = client["pauses"]
    for company, seconds in report["pauses"].items():
        if company:
            pauses[company] = max(pauses.get(company, 0.0), now + seconds)
        else:
            address["pause"] = max(address["pause"], now + seconds)
            address["tat"] = max(address["tat"], address["pause"] + report["tolerance"])
    if pauses:
        client["pauses"] = {company: until for company, until in pauses.items() if until > now}


def _record_daily_quota(client: ClientState, report: QuotaReport, now: float) -> None:
    if client["exhausted"] and client["exhausted"][0] <= now:
        client["exhausted"] = []
    if client["remaining"] and client["remaining"][1] <= now:
        client["remaining"] = []
    if report["exhausted"]:
        seconds, reset_at = report["exhausted"]
        if not client["exhausted"] or now + seconds > client["exhausted"][0]:
            client["exhausted"] = [now + seconds, reset_at, now]
        client["remaining"] = [0, now + seconds, now]
    if report["remaining"]:
        remaining, seconds, age = report["remaining"]
        _record_remaining(client, remaining, now + seconds, now - age, now)


def _record_remaining(client: ClientState, remaining: float, until: float, observed: float, now: float) -> None:
    """Record what a response reported at `observed`. Requests in flight beside it may be missing from its count."""
    if until <= now:
        return
    in_flight = sum([sum(member["held"].values()) for member in client["members"].values()])
    left = max(0, remaining - max(0, in_flight - 1))
    known = client["remaining"]
    if known and until < known[1] - _SAME_RESET:
        return
    same_day = bool(known) and until <= known[1] + _SAME_RESET
    if same_day and (now - observed > _FRESH or observed < known[2]):
        known[0] = min(known[0], left)
        return
    client["remaining"] = [left, until, observed]
    if client["exhausted"] and left and observed > client["exhausted"][2]:
        client["exhausted"] = []


def _record_runs(client: ClientState, report: QuotaReport, now: float) -> None:
    """Change the reservations per run, once per sequence number; they expire with the day."""
    runs = client["runs"]
    for ended in [run for run, (_, expires) in runs.items() if expires <= now]:
        del runs[ended]
    member = client["members"].get(report["process"])
    if member is None or not report["runs"] or report["sequence"] <= member["sequence"]:
        return
    member["sequence"] = report["sequence"]
    expires = client["remaining"][1] if client["remaining"] else now + 86400.0
    for run, change in report["runs"].items():
        reserved = runs[run][0] + change if run in runs else change
        if reserved > 0:
            runs[run] = [reserved, runs[run][1] if run in runs else expires]
        else:
            runs.pop(run, None)


def _grant(
    address: AddressState, client: ClientState, report: QuotaReport, now: float, reserved: int
) -> list[tuple[int, float]]:
    """Return a decision for each permit, in order, and count those that are granted."""
    permits = report["permits"]
    if not permits or report["process"] not in client["members"]:
        return []
    held = client["members"][report["process"]]["held"] = dict(report["held"])
    in_flight = sum([sum(member["held"].values()) for member in client["members"].values()])
    decisions: list[tuple[int, float]] = []
    processes, granted = len(address["seen"]) or 1, 0
    for company, background, starts_work in permits:
        slot = max(now, address["tat"] - report["tolerance"], address["pause"])
        decision = _refusal(client, report, company, now, reserved if starts_work else 0)
        if decision is None and in_flight >= report["concurrent"]:
            decision = FULL, RETRY
        if decision is None:
            ahead = AHEAD_IN_BACKGROUND if background else AHEAD
            decision = _slot_decision(slot - now, ahead, granted < _share(ahead, report["interval"], processes))
        if decision[0] == GRANTED:
            address["tat"] = max(address["tat"], slot) + report["interval"]
            held[company] = held.get(company, 0) + 1
            if client["remaining"]:
                client["remaining"][0] = max(0, client["remaining"][0] - 1)
            in_flight += 1
            granted += 1
        decisions.append(decision)
    return decisions


def _refusal(
    client: ClientState, report: QuotaReport, company: str, now: float, reserved: int
) -> tuple[int, float] | None:
    """Return why a request must wait for the daily quota or its company, if so; `reserved` is 0 if it may use all."""
    remaining = client["remaining"]
    if client["exhausted"]:
        return EXHAUSTED, client["exhausted"][0] - now
    if remaining and reserved and remaining[0] <= reserved:
        return DEFERRED, remaining[1] - now
    if company in client["pauses"]:
        return COMPANY, client["pauses"][company] - now
    if company and _held_of(client, company) >= report["per_company"]:
        return COMPANY, RETRY
    return None


def _slot_decision(delay: float, ahead: float, has_share: bool) -> tuple[int, float]:  # noqa: FBT001 - as in a table
    """Grant the next slot unless it is too far ahead, or others are to have it."""
    if delay > ahead:
        return LATER, delay - ahead
    return (GRANTED, delay) if has_share else (LATER, 0.0)


def _held_of(client: ClientState, company: str) -> int:
    return sum([member["held"].get(company, 0) for member in client["members"].values()])


def _share(ahead: float, interval: float, processes: int) -> int:
    """Return how many of the slots ahead one process may have."""
    if not interval:
        return MAX_PERMITS
    return min(MAX_PERMITS, max(1, math.ceil(ahead / interval / processes)))


def _count(address: AddressState, granted: int, now: float) -> float:
    """Count the granted permits, and return about how many the last 60 seconds had."""
    start, current, before = address["minute"]
    passed = now - start
    if passed >= _MINUTE:
        start, before = (start + _MINUTE, current) if passed < 2 * _MINUTE else (now, 0)
        current, passed = 0, now - start
    current += granted
    address["minute"] = [start, current, before]
    return current + before * (1 - passed / _MINUTE)
