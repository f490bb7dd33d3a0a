"""Codat as a function from a request to a response: who may call, how often, and what is answered."""

import base64
import hashlib
import hmac
import json
import math
import random
from collections import deque
from dataclasses import replace

from codat_commerce_async.simulator._api.fault_injector import FaultInjector
from codat_commerce_async.simulator._api.fault_kinds import FaultKind
from codat_commerce_async.simulator._api.faults import (
    Fault,
    Stage,
    apply_to_response,
    fault_error,
    response_instead,
)
from codat_commerce_async.simulator._api.http import RecordedRequest, Request, Response, parse_call
from codat_commerce_async.simulator._api.idempotency import IdempotencyMemory, normalized_key
from codat_commerce_async.simulator._api.routes import Route, match, methods_of
from codat_commerce_async.simulator._state.clock import Clock, http_date
from codat_commerce_async.simulator._state.errors import ApiError
from codat_commerce_async.simulator._state.quota import RequestQuotaState
from codat_commerce_async.simulator._state.store import Store

__all__ = ["Api"]

_KEYED = frozenset({"POST", "PATCH"})
_JSON = "application/json; charset=utf-8"


class Api:
    """Answers requests out of a store.

    What stands in the way of a request stands there in this order: the connection and the gateway, the API
    key, the quota, the idempotency memory, the request's own validity.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        api_key: str,
        quota: RequestQuotaState,
        faults: FaultInjector[Fault],
        clock_skew: float,
        log_size: int,
        seed: int,
    ) -> None:
        self.faults = faults
        self.requests: deque[RecordedRequest] = deque(maxlen=log_size)
        self.request_count = 0
        self.faulty = 0
        self.outdated_keys: set[str] = set()
        self.expired = False
        self._world = store
        self._clock = clock
        self._api_key = api_key
        self._quota = quota
        self._memory = IdempotencyMemory()
        self._clock_skew = clock_skew
        self._correlation = random.Random(f"{seed}/correlation")  # noqa: S311 - repeatable ids, no secret

    def handle(self, request: Request) -> Response:
        """The response to a request, and what the shell has to do to it."""
        now = self._clock.now()
        self._world.run_due_events(now)
        matched = match(request.method, request.path)
        operation = matched[0].name if matched else ""
        fault = self.faults.next(operation)
        seen = _seen(request, operation, fault, now)
        instead = response_instead(fault, http_date(now))
        if instead is not None:
            self._log(replace(seen, status=instead.status or None))
            return instead
        answer, replayed = self._authorized(request, matched, fault, now)
        self._log(replace(seen, status=answer.status, replayed=replayed))
        answer = replace(answer, headers=self._headers(answer, now, fault))
        return apply_to_response(fault, answer) if fault else answer

    def rotate_key(self, api_key: str) -> None:
        """Take another API key from now on; the old one is refused with 403."""
        self.outdated_keys.add(self._api_key)
        self._api_key = api_key

    def _log(self, seen: RecordedRequest) -> None:
        self.requests.append(seen)
        self.request_count += 1
        self.faulty += seen.fault is not None

    def _authorized(
        self,
        request: Request,
        matched: tuple[Route, tuple[str, ...]] | None,
        fault: Fault | None,
        now: float,
    ) -> tuple[Response, bool]:
        try:
            self._authorize(request)
            self._quota.admit(now)
            if fault and fault.spec.stage is Stage.LIMIT:
                return self._error_response(_upstream_rate_limit(fault, self._clock)), False
            if matched is None:
                raise _not_routed(request)
            return self._idempotent(request, matched, fault, now)
        except ApiError as refused:
            return self._error_response(refused), False

    def _idempotent(
        self, request: Request, matched: tuple[Route, tuple[str, ...]], fault: Fault | None, now: float
    ) -> tuple[Response, bool]:
        sent = request.headers.get("idempotency-key") if request.method in _KEYED else None
        if sent is None:
            return self._handle(request, matched, None, fault, now), False
        key, fingerprint = normalized_key(sent), _fingerprint(request)
        remembered = self._memory.recall(key, fingerprint, now)
        if remembered is not None:
            return remembered, True
        answer = self._handle(request, matched, sent, fault, now)
        busy = fault.processing_time * self._clock.speed if fault else 0.0
        self._memory.remember(key, fingerprint, answer, now, now + busy)
        return answer, False

    def _handle(
        self,
        request: Request,
        matched: tuple[Route, tuple[str, ...]],
        key: str | None,
        fault: Fault | None,
        now: float,
    ) -> Response:
        route, values = matched
        try:
            if fault and fault.spec.stage is Stage.BEFORE:
                raise fault_error(fault)
            result = route.handler(self._world, parse_call(values, request, key, now))
            if fault and fault.spec.stage is Stage.AFTER:
                raise fault_error(fault)
        except ApiError as refused:
            return self._error_response(refused)
        return Response(200, {}, _encoded(result))

    def _authorize(self, request: Request) -> None:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        given = f"{scheme.lower()} {credentials.strip()}"
        if any(_same(given, _basic(key)) for key in self.outdated_keys):
            raise ApiError(403, "This API key is outdated.")
        if not _same(given, _basic(self._api_key)):
            raise ApiError(401, "Unauthorized")
        if self.expired:
            # Codat's own example of this body says 429 under the HTTP status 402.
            raise ApiError(402, "The account has expired.", body_status=429)

    def _error_response(self, refused: ApiError) -> Response:
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


def _seen(request: Request, operation: str, fault: Fault | None, now: float) -> RecordedRequest:
    return RecordedRequest(
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


def _upstream_rate_limit(fault: Fault, clock: Clock) -> ApiError:
    message = "The platform behind takes no more requests."
    return ApiError(429, message, retry_after=fault.duration * clock.speed)


def _not_routed(request: Request) -> ApiError:
    if methods_of(request.path):
        return ApiError(405, f"{request.method} is not taken here.")
    return ApiError(404, "There is nothing at this address.")


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
