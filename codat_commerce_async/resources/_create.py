"""Create a resource exactly once, as far as its list shows what was created."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar, cast

from codat_commerce_async._core.claims import Claims
from codat_commerce_async._core.idempotency import key_expired, new_key
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.reconcile import Candidate, Lookups, write_exactly_once
from codat_commerce_async._core.request import check_options
from codat_commerce_async.policies import CallOptions

__all__ = ["create_exactly_once"]

T = TypeVar("T")

_logger = logger_of("calls")


async def create_exactly_once(
    pipeline: Pipeline,
    operation: Operation[T],
    *path: str,
    body: object,
    find_candidates: Callable[[], Awaitable[Iterable[Candidate[T]]]],
    claims: Claims,
    group: str,
    identify: Callable[[T], str | None],
    options: CallOptions,
) -> T:
    """Create a resource and return it, from the response or from a lookup.

    `find_candidates` returns the resources that the request may have created, and `identify` the id of one. Among
    `claims`, a resource belongs to one call; only calls of the same `group` can create the same resource.
    """

    async def send(key: str, valid_for: float | None) -> T:
        if valid_for is not None and valid_for <= 0:
            raise key_expired()
        with_key: CallOptions = {**options, "idempotency_key": key}
        return await pipeline.call(operation, *path, body=body, key_left=valid_for, **with_key)

    async def next_key(_last: str | None) -> str:
        return new_key(pipeline.random)

    check_options(operation, options)
    timeout = options.get("timeout")
    key = options.get("idempotency_key")
    claim = claims.claim(group, key)
    outcome = await write_exactly_once(
        send,
        find_candidates,
        key=key,
        new_key=next_key,
        clock=pipeline.clock,
        deadline=None if timeout is None else pipeline.clock.time() + timeout,
        claims=claims,
        claim=claim,
        lookups=Lookups(max_visibility_delay=(options.get("retry") or pipeline.retry).max_visibility_delay),
    )
    if isinstance(outcome, Candidate):
        _log_adopted(outcome, operation)
        # A type checker does not know that T is not a Candidate.
        return cast("Candidate[T]", outcome).value
    resource = identify(outcome)
    if resource is not None:
        claims.assign(claim, resource, proven=True)
    return outcome


def _log_adopted(found: Candidate[T], operation: Operation[T]) -> None:
    _logger.warning(
        "adopted %s, which was found after the response of %s was lost",
        found.id,
        operation.name,
        extra=extra_fields(operation=operation),
    )
