"""How something is created exactly once, as far as the API lets one look."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar, cast

from codat_commerce_async._caller import Caller
from codat_commerce_async._once import Found, once
from codat_commerce_async._operation import Operation
from codat_commerce_async._request import check_options
from codat_commerce_async.errors import TransportError
from codat_commerce_async.policies import CallOptions

__all__ = ["create_once"]

T = TypeVar("T")


async def create_once(
    caller: Caller,
    operation: Operation[T],
    *path: str,
    body: object,
    look: Callable[[], Awaitable[Iterable[Found[T]]]],
    options: CallOptions,
) -> T:
    """What was created, answered or found; `look` gives whatever may be it, by when it was created."""

    async def ask(key: str, within: float | None) -> T:
        if within is not None and within <= 0:
            raise TransportError("Codat may have forgotten the idempotency key by now")
        with_key: CallOptions = {**options, "idempotency_key": key}
        return await caller.call(operation, *path, body=body, key_left=within, **with_key)

    async def new_key(_last: str | None) -> str:
        return caller.new_key()

    check_options(operation, options)
    timeout = options.get("timeout")
    until = None if timeout is None else caller.time() + timeout
    outcome = await once(ask, look, key=options.get("idempotency_key"), new_key=new_key, where=caller, until=until)
    if isinstance(outcome, Found):
        # A type checker cannot tell that no T is a Found.
        return cast("Found[T]", outcome).value
    return outcome
