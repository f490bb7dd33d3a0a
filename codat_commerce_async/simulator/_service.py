"""Codat as a function from a request to a response: who may call, how often, and what is answered."""

import base64
import hashlib
import hmac
import json
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from codat_commerce_async.simulator import _client_calls, _company_calls, _sync_calls
from codat_commerce_async.simulator._calls import Call, read_call
from codat_commerce_async.simulator._clock import Clock, http_date
from codat_commerce_async.simulator._damage import on_the_way_back, on_the_way_in, refusal
from codat_commerce_async.simulator._exchange import Refusal, Request, Response, SeenRequest
from codat_commerce_async.simulator._faults import Fault, FaultKind, FaultSource
from codat_commerce_async.simulator._idempotency import IdempotencyMemory, normalized_key
from codat_commerce_async.simulator._quota import QuotaLedger
from codat_commerce_async.simulator._routes import Route, match, methods_of
from codat_commerce_async.simulator._world import World

__all__ = ["ANSWERS", "Service"]

ANSWERS: dict[str, Callable[[World, Call], object]] = {
    "create-connection": _company_calls.create_connection,
    "get-sync-flow-url": _client_calls.get_sync_flow_url,
    "list-connections": _company_calls.list_connections,
    "update-connection-authorization": _company_calls.update_authorization,
    "update-connection": _company_calls.update_connection,
    "request-sync": _sync_calls.request_sync,
    "request-sync-for-date-range": _sync_calls.request_sync_for_date_range,
    "get-sync-status": _sync_calls.get_sync_status,
    "get-last-successful-sync": _sync_calls.get_last_successful_sync,
    "get-latest-sync": _sync_calls.get_latest_sync,
    "get-sync-by-id": _sync_calls.get_sync,
    "list-syncs": _sync_calls.list_syncs,
    "list-integrations": _client_calls.list_integrations,
    "get-integration-branding": _client_calls.get_branding,
    "list-companies": _company_calls.list_companies,
    "create-company": _company_calls.create_company,
    "get-configuration": _company_calls.get_configuration,
    "set-configuration": _company_calls.set_configuration,
    "get-config-text-sync-flow": _client_calls.get_config_text,
    "update-config-text-sync-flow": _client_calls.update_config_text,
    "get-visible-accounts": _client_calls.get_visible_accounts,
    "update-visible-accounts-sync-flow": _client_calls.update_visible_accounts,
}

_KEYED = frozenset({"POST", "PATCH"})
_FAILS = frozenset({FaultKind.ERROR_BEFORE, FaultKind.UNAVAILABLE})
_JSON = "application/json; charset=utf-8"


class Service:
    """Answers requests out of a world.

    What stands in the way of a request stands there in this order: the connection and the gateway, the API
    key, the quota, the idempotency memory, the request's own validity.
    """

    def __init__(
        self,
        world: World,
        clock: Clock,
        *,
        api_key: str,
        quota: QuotaLedger,
        faults: FaultSource,
        clock_skew: float,
        log_size: int,
        seed: int,
    ) -> None:
        self.faults = faults
        self.requests: deque[SeenRequest] = deque(maxlen=log_size)
        self.seen = 0
        self.faulty = 0
        self.outdated_keys: set[str] = set()
        self.expired = False
        self._world = world
        self._clock = clock
        self._api_key = api_key
        self._quota = quota
        self._memory = IdempotencyMemory()
        self._clock_skew = clock_skew
        self._correlation = random.Random(f"{seed}/correlation")  # noqa: S311 - repeatable ids, no secret

    def handle(self, request: Request) -> Response:
        """The response to a request, and what the shell has to do to it."""
        now = self._clock.now()
        self._world.settle(now)
        matched = match(request.method, request.path)
        operation = matched[0].name if matched else ""
        fault = self.faults.draw(operation)
        seen = _seen(request, operation, fault, now)
        instead = on_the_way_in(fault, http_date(now))
        if instead is not None:
            self._log(replace(seen, status=instead.status or None))
            return instead
        answer, replayed = self._admitted(request, matched, fault, now)
        self._log(replace(seen, status=answer.status, replayed=replayed))
        answer = replace(answer, headers=self._headers(answer, now, fault))
        return on_the_way_back(fault, answer) if fault else answer

    def rotate_key(self, api_key: str) -> None:
        """Take another API key from now on; the old one is refused with 403."""
        self.outdated_keys.add(self._api_key)
        self._api_key = api_key

    def _log(self, seen: SeenRequest) -> None:
        self.requests.append(seen)
        self.seen += 1
        self.faulty += seen.fault is not None

    def _admitted(
        self,
        request: Request,
        matched: tuple[Route, tuple[str, ...]] | None,
        fault: Fault | None,
        now: float,
    ) -> tuple[Response, bool]:
        try:
            self._authorize(request)
            self._quota.admit(now)
            if fault and fault.kind is FaultKind.RATE_LIMITED:
                return self._refused(_limited_behind(fault, self._clock)), False
            if matched is None:
                raise _not_routed(request)
            return self._once(request, matched, fault, now)
        except Refusal as refused:
            return self._refused(refused), False

    def _once(
        self, request: Request, matched: tuple[Route, tuple[str, ...]], fault: Fault | None, now: float
    ) -> tuple[Response, bool]:
        sent = request.headers.get("idempotency-key") if request.method in _KEYED else None
        if sent is None:
            return self._performed(request, matched, None, fault, now), False
        key, fingerprint = normalized_key(sent), _fingerprint(request)
        remembered = self._memory.recall(key, fingerprint, now)
        if remembered is not None:
            return remembered, True
        answer = self._performed(request, matched, sent, fault, now)
        busy = fault.works_for * self._clock.speed if fault else 0.0
        self._memory.remember(key, fingerprint, answer, now, now + busy)
        return answer, False

    def _performed(
        self,
        request: Request,
        matched: tuple[Route, tuple[str, ...]],
        key: str | None,
        fault: Fault | None,
        now: float,
    ) -> Response:
        route, values = matched
        try:
            if fault and fault.kind in _FAILS:
                raise refusal(fault)
            result = ANSWERS[route.name](self._world, read_call(route, values, request, key, now))
            if fault and fault.kind is FaultKind.ERROR_AFTER:
                raise refusal(fault)
        except Refusal as refused:
            return self._refused(refused)
        return Response(200, {}, _encoded(result))

    def _authorize(self, request: Request) -> None:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        given = f"{scheme.lower()} {credentials.strip()}"
        if any(_same(given, _basic(key)) for key in self.outdated_keys):
            raise Refusal(403, "This API key is outdated.")
        if not _same(given, _basic(self._api_key)):
            raise Refusal(401, "Unauthorized")
        if self.expired:
            # Codat's own example of this body says 429 under the HTTP status 402.
            raise Refusal(402, "The account has expired.", body_status=429)

    def _refused(self, refused: Refusal) -> Response:
        body = _encoded(refused.body(f"{self._correlation.getrandbits(128):032x}"))
        if refused.retry_after is None:
            return Response(refused.status, {}, body)
        seconds = max(1, math.ceil(refused.retry_after / self._clock.speed))
        return Response(refused.status, {"Retry-After": str(seconds)}, body)

    def _headers(self, answer: Response, now: float, fault: Fault | None) -> dict[str, str]:
        skew = fault.duration if fault and fault.kind is FaultKind.CLOCK_SKEW else self._clock_skew
        return {
            "Content-Type": _JSON,
            "Date": http_date(now + skew),
            **self._quota.headers(now),
            **answer.headers,
        }


def _seen(request: Request, operation: str, fault: Fault | None, now: float) -> SeenRequest:
    return SeenRequest(
        time=now,
        operation=operation,
        method=request.method,
        path=request.path,
        query=request.query,
        idempotency_key=request.headers.get("idempotency-key"),
        body_hash=hashlib.blake2b(request.body, digest_size=8).hexdigest() if request.body else None,
        status=None,
        fault=fault.kind if fault else None,
        replayed=False,
    )


def _limited_behind(fault: Fault, clock: Clock) -> Refusal:
    message = "The platform behind takes no more requests."
    return Refusal(429, message, retry_after=fault.duration * clock.speed)


def _not_routed(request: Request) -> Refusal:
    if methods_of(request.path):
        return Refusal(405, f"{request.method} is not taken here.")
    return Refusal(404, "There is nothing at this address.")


def _fingerprint(request: Request) -> bytes:
    address = _bytes(f"{request.method} {request.path}?{request.query}\n")
    return hashlib.blake2b(address + request.body, digest_size=16).digest()


def _basic(api_key: str) -> str:
    return f"basic {base64.b64encode(api_key.encode()).decode()}"


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(text: str) -> bytes:
    # What is not ASCII arrives as surrogates.
    return text.encode(errors="surrogatepass")


def _encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
