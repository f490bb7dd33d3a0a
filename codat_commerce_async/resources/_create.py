"""How something is created exactly once, as far as the API lets one look."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar, cast

from codat_commerce_async._core.claims import Claims
from codat_commerce_async._core.log import logger_of
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.reconcile import Candidate, Lookups, write_exactly_once
from codat_commerce_async._core.request import check_options
from codat_commerce_async.errors import TransportError
from codat_commerce_async.policies import CallOptions

__all__ = ["create_once"]

T = TypeVar("T")

_logger = logger_of("calls")


async def create_once(
    caller: Pipeline,
    operation: Operation[T],
    *path: str,
    body: object,
    look: Callable[[], Awaitable[Iterable[Candidate[T]]]],
    claims: Claims,
    group: str,
    identify: Callable[[T], str | None],
    options: CallOptions,
) -> T:
    """What was created, answered or found; `look` gives whatever may be it, by when it was created.

    Among `claims`, what is created belongs to one call only; only those of the same `group` can create the same.
    `identify` returns its id.
    """

    async def ask(key: str, within: float | None) -> T:
        if within is not None and within <= 0:
            raise TransportError("Codat may have forgotten the idempotency key by now")
        with_key: CallOptions = {**options, "idempotency_key": key}
        return await caller.call(operation, *path, body=body, key_left=within, **with_key)

    async def new_key(_last: str | None) -> str:
        return caller.new_key()

    check_options(operation, options)
    timeout = options.get("timeout")
    key = options.get("idempotency_key")
    claim = claims.claim(group, key)
    outcome = await write_exactly_once(
        ask,
        look,
        key=key,
        new_key=new_key,
        clock=caller.clock,
        deadline=None if timeout is None else caller.clock.time() + timeout,
        claims=claims,
        claim=claim,
        lookups=Lookups(max_visibility_delay=(options.get("retry") or caller.retry).max_visibility_delay),
    )
    if isinstance(outcome, Candidate):
        _logger.warning("adopted %s, which was found after the response of %s was lost", outcome.name, operation.name)
        # A type checker cannot tell that no T is a Found.
        return cast("Candidate[T]", outcome).value
    resource = identify(outcome)
    if resource is not None:
        claims.assign(claim, resource, proven=True)
    return outcome
