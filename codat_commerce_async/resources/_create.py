"""Create a resource exactly once, as far as its list shows what was created."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar, cast

from attrs import frozen

from codat_commerce_async._core.claims import Claim, Claims
from codat_commerce_async._core.idempotency import key_expired, new_key
from codat_commerce_async._core.log import extra_fields, logger_of, named
from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.pipeline import Pipeline
from codat_commerce_async._core.reconcile import Candidate, LookupPolicy, write_exactly_once
from codat_commerce_async._core.request import check_options
from codat_commerce_async.policies import CallOptions

__all__ = ["Search", "create_exactly_once"]

T = TypeVar("T")

_logger = logger_of("calls")


@frozen
class Search(Generic[T]):
    """How the result of a creation is found: the resources that it may have created, and the id of one.

    Among the `claims` of a client, a resource belongs to one call; only calls of the same `group` can create the same
    resource.
    """

    find_candidates: Callable[[], Awaitable[Iterable[Candidate[T]]]]
    identify: Callable[[T], str | None]
    claims: Claims
    group: str


async def create_exactly_once(
    pipeline: Pipeline, operation: Operation[T], *path: str, body: object, search: Search[T], options: CallOptions
) -> T:
    """Create a resource and return it, from the response or from a lookup."""
    check_options(operation, options)
    creation = _Creation(pipeline, operation, path, body, search, options)
    outcome = await write_exactly_once(
        creation,
        clock=pipeline.clock,
        claims=search.claims,
        lookups=LookupPolicy(max_visibility_delay=(options.get("retry") or pipeline.retry).max_visibility_delay),
    )
    if isinstance(outcome, Candidate):
        _log_adopted(outcome, operation, operation.company_id(path))
        # Type checkers do not infer that T is not a Candidate.
        return cast("Candidate[T]", outcome).value
    resource = search.identify(outcome)
    if resource is not None:
        search.claims.assign(creation.claim, resource, proven=True)
    return outcome


class _Creation(Generic[T]):
    """One creation as a `Write`."""

    def __init__(
        self,
        pipeline: Pipeline,
        operation: Operation[T],
        path: tuple[str, ...],
        body: object,
        search: Search[T],
        options: CallOptions,
    ) -> None:
        timeout = options.get("timeout")
        self.key = options.get("idempotency_key")
        self.claim: Claim = search.claims.claim(search.group, self.key)
        self.deadline = None if timeout is None else pipeline.clock.time() + timeout
        self._pipeline = pipeline
        self._operation = operation
        self._path = path
        self._body = body
        self._search = search
        self._options = options

    async def next_key(self, last: str | None) -> str:  # noqa: ARG002 - of every `Write`
        return new_key(self._pipeline.random)

    async def send(self, key: str, key_valid_for: float | None) -> T:
        if key_valid_for is not None and key_valid_for <= 0:
            raise key_expired()
        options: CallOptions = {**self._options, "idempotency_key": key}
        return await self._pipeline.call(
            self._operation, *self._path, body=self._body, key_valid_for=key_valid_for, **options
        )

    async def find_candidates(self) -> Iterable[Candidate[T]]:
        return await self._search.find_candidates()


def _log_adopted(found: Candidate[T], operation: Operation[T], company_id: str | None) -> None:
    _logger.warning(
        "adopted %s, which was found after the response of %s was lost",
        found.id,
        named(operation.name, company_id),
        extra=extra_fields(company_id, operation=operation),
    )
