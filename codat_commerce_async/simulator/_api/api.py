"""Return the response to a request: check the API key, the quota and the idempotency key, then call the handler."""

import base64
import hashlib
import hmac
import json
import math
import random
import re
from collections import Counter, deque
from functools import lru_cache

from codat_commerce_async.simulator._api.fault_injector import FaultInjector
from codat_commerce_async.simulator._api.faults import (
    FAULTS,
    Fault,
    Stage,
    apply_to_response,
    fault_error,
    response_instead,
)
from codat_commerce_async.simulator._api.http import RecordedRequest, Request, Response, parse_call
from codat_commerce_async.simulator._api.idempotency import IdempotencyMemory, normalized_key
from codat_commerce_async.simulator._api.routes import Route, match, methods_of
from codat_commerce_async.simulator._state.clock import SimulatedClock, http_date
from codat_commerce_async.simulator._state.errors import ApiError
from codat_commerce_async.simulator._state.quota import RequestQuotaState
from codat_commerce_async.simulator._state.store import Store

__all__ = ["Api"]

_ERRORS = 400
_KEYED = frozenset({"POST", "PATCH"})
# In the User-Agent: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.5
_PROCESS = re.compile(r"(?:^|\s)process/([\w.:-]+)", re.ASCII)
_MAX_PROCESSES = 1000
_JSON = "application/json; charset=utf-8"
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Api:
    """Responds to requests from a store.

    A request passes these checks, in this order: the connection and the gateway, the API key, the quota, the
    idempotency key, the validity of the request itself.
    """

    def __init__(
        self,
        store: Store,
        clock: SimulatedClock,
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
        self.requests_by_process: Counter[str] = Counter()
        self.outdated_keys: set[str] = set()
        self.expired = False
        self._store = store
        self._clock = clock
        self._api_key = api_key
        self._quota = quota
        self._memory = IdempotencyMemory()
        self._clock_skew = clock_skew
        self._correlation = random.Random(f"{seed}/correlation")  # noqa: S311 - repeatable ids, no secret

    def handle(self, request: Request) -> Response:
        """Return the response to a request, and how the connection has to deliver it."""
        now = self._clock.now()
        self._store.run_due_events(now)
        self._count_process(request)
        matched = match(request.method, request.path)
        operation = matched[0].name if matched else ""
        fault = self.faults.next(operation)
        instead = response_instead(fault, http_date(now))
        if instead is not None:
            self._log(_recorded(request, operation, fault, now, status=instead.status or None))
            return instead
        response, replayed = self._authorized(request, matched, fault, now)
        self._log(
            _recorded(
                request,
                operation,
                fault,
                now,
                status=response.status,
                replayed=replayed,
                correlation_id=_correlation_id(response),
            )
        )
        response = Response(
            response.status, self._headers(response, now), response.body, response.fault, response.delay
        )
        return apply_to_response(fault, response) if fault else response

    def rotate_key(self, api_key: str) -> None:
        """Replace the API key; requests with the old one get 403."""
        self.outdated_keys.add(self._api_key)
        self._api_key = api_key

    def _count_process(self, request: Request) -> None:
        """Count the request for the client process that its `User-Agent` names, if it does."""
        found = _PROCESS.search(request.headers.get("user-agent", ""))
        if found and (found[1] in self.requests_by_process or len(self.requests_by_process) < _MAX_PROCESSES):
            self.requests_by_process[found[1]] += 1

    def _log(self, recorded: RecordedRequest) -> None:
        self.requests.append(recorded)
        self.request_count += 1
        self.faulty += recorded.fault is not None

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
            if fault and FAULTS[fault.kind].stage is Stage.LIMIT:
                raise fault_error(fault, self._clock.speed)
            if matched is None:
                raise _not_routed(request)
            return self._idempotent(request, matched, fault, now)
        except ApiError as error:
            return self._error_response(error), False

    def _idempotent(
        self, request: Request, matched: tuple[Route, tuple[str, ...]], fault: Fault | None, now: float
    ) -> tuple[Response, bool]:
        sent = request.headers.get("idempotency-key") if request.method in _KEYED else None
        if sent is None:
            return self._handle(request, matched, None, fault, now), False
        key, fingerprint = normalized_key(sent), _fingerprint(request)
        stored = self._memory.get(key, fingerprint, now)
        if stored is not None:
            return stored, True
        response = self._handle(request, matched, sent, fault, now)
        busy = fault.processing_time * self._clock.speed if fault else 0.0
        self._memory.store(key, fingerprint, response, now, now + busy)
        return response, False

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
            if fault and FAULTS[fault.kind].stage is Stage.BEFORE:
                raise fault_error(fault, self._clock.speed)
            result = route.handler(self._store, parse_call(values, request, key, now))
            if fault and FAULTS[fault.kind].stage is Stage.AFTER:
                raise fault_error(fault, self._clock.speed)
        except ApiError as error:
            return self._error_response(error)
        return Response(route.status, {}, b"" if result is None else _encoded(result))

    def _authorize(self, request: Request) -> None:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        sent = f"{scheme.lower()} {credentials.strip()}"
        if any(_is_equal(sent, _basic(key)) for key in self.outdated_keys):
            raise ApiError(403, "This API key is outdated.")
        if not _is_equal(sent, _basic(self._api_key)):
            raise ApiError(401, "Unauthorized")
        if self.expired:
            # In Codat's own example the body of this 402 has the status code 429.
            raise ApiError(402, "The account has expired.", body_status=429)

    def _error_response(self, error: ApiError) -> Response:
        body = _encoded(error.body(f"{self._correlation.getrandbits(128):032x}"))
        if error.retry_after is None:
            return Response(error.status, {}, body)
        seconds = max(1, math.ceil(error.retry_after / self._clock.speed))
        return Response(error.status, {"Retry-After": str(seconds)}, body)

    def _headers(self, response: Response, now: float) -> dict[str, str]:
        return {
            "Content-Type": _JSON,
            "Date": http_date(now + self._clock_skew),
            **self._quota.headers(now),
            **response.headers,
        }


def _correlation_id(response: Response) -> str | None:
    """Return the correlation id of an error."""
    return str(json.loads(response.body)["correlationId"]) if response.status >= _ERRORS else None


def _recorded(
    request: Request,
    operation: str,
    fault: Fault | None,
    now: float,
    *,
    status: int | None,
    replayed: bool = False,
    correlation_id: str | None = None,
) -> RecordedRequest:
    return RecordedRequest(
        time=now,
        operation=operation,
        method=request.method,
        path=request.path,
        query=request.query,
        idempotency_key=request.headers.get("idempotency-key"),
        body_hash=hashlib.blake2b(request.body, digest_size=8).hexdigest() if request.body else None,
        status=status,
        fault=fault.kind if fault else None,
        replayed=replayed,
        correlation_id=correlation_id,
    )


def _not_routed(request: Request) -> ApiError:
    if methods_of(request.path):
        return ApiError(405, f"{request.method} is not allowed here.")
    return ApiError(404, "There is no operation at this path.")


def _fingerprint(request: Request) -> bytes:
    address = _bytes(f"{request.method} {request.path}?{request.query}\n")
    return hashlib.blake2b(address + request.body, digest_size=16).digest()


@lru_cache(maxsize=16)
def _basic(api_key: str) -> str:
    return f"basic {base64.b64encode(api_key.encode()).decode()}"


def _is_equal(sent: str, expected: str) -> bool:
    return hmac.compare_digest(_bytes(sent), _bytes(expected))


def _bytes(text: str) -> bytes:
    # Bytes that are not ASCII arrive as surrogates.
    return text.encode(errors="surrogatepass")


def _encoded(value: object) -> bytes:
    return _ENCODER.encode(value).encode()
