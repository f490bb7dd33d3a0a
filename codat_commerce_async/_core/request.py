"""Check the options of a call, and merge the headers that hooks add."""

import re
from collections.abc import Callable, Mapping

from codat_commerce_async._core.operation import Idempotency, Operation
from codat_commerce_async._core.validation import (
    check_instance,
    check_seconds,
    check_str,
    check_str_mapping,
    is_token,
    require,
)
from codat_commerce_async.policies import CallOptions, PollOptions, PollPolicy, RetryPolicy

__all__ = ["check_options", "check_wait_options", "merge_headers"]

_RESERVED_HEADERS = frozenset(
    {
        "accept",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_NAMES_OF_PATHS = ("path", "path_params", "params")
# As Guid.Parse takes it, with or without hyphens.
_GUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def check_options(operation: Operation[object], options: CallOptions) -> None:
    """Raise TypeError or ValueError for options that the operation does not take."""
    unknown = options.keys() - CallOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"{operation.name} takes no {', '.join(sorted(unknown))}{_path_hint(operation, unknown)}")
    retry, timeout = options.get("retry"), options.get("timeout")
    if retry is not None:
        check_instance("retry", retry, RetryPolicy)
    if timeout is not None:
        check_seconds("timeout", timeout, positive=True)
    _check_headers(options.get("headers", {}))
    key = options.get("idempotency_key")
    if key is not None:
        if operation.idempotency is not Idempotency.KEYED:
            raise ValueError(f"idempotency_key is for POST and PATCH; {operation.name} is a {operation.method}")
        _check_key(key)


def _path_hint(operation: Operation[object], unknown: set[str]) -> str:
    """Return how to pass the values of the path, if one of the unknown options is meant as one."""
    is_of_path = any(f"{{{name}}}" in operation.path for name in unknown)
    if not is_of_path and unknown.isdisjoint({*_NAMES_OF_PATHS, *operation.path_params}):
        return ""
    return f"; pass the values of the path positionally: {', '.join(operation.path_params) or 'it has none'}"


def check_wait_options(method: str, timeout: float | None, poll: PollPolicy | None, options: PollOptions) -> None:
    """Raise TypeError or ValueError for options that a wait does not take."""
    unknown = options.keys() - PollOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"{method} takes no {', '.join(sorted(unknown))}")
    if timeout is not None:
        check_seconds("timeout", timeout)
    if poll is not None:
        check_instance("poll", poll, PollPolicy)


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in check_str_mapping("headers", headers).items():
        problem = _header_problem(name, value)
        if problem is not None:
            raise ValueError(f"headers must be {problem}")


def _header_problem(name: str, value: str) -> str | None:
    if not is_token(name) or not value.isprintable():
        return "valid header names with printable values"
    if name.lower() in _RESERVED_HEADERS:
        return f"other headers than {name}, which the client sets"
    return None


def merge_headers(
    own: Mapping[str, str], given: Mapping[str, object], refused: Callable[[object, str], None]
) -> dict[str, str]:
    """Return the headers that a hook has `given`, with those that are the client's `own` to set as they were.

    What cannot be a header is left out, and `refused` is called with its name and why. Of two names that differ only in
    case, the later one counts.
    """
    merged = {name: value for name, value in own.items() if name.lower() in _RESERVED_HEADERS}
    names: dict[str, str] = {}
    for name, value in given.items():
        if name in merged and merged[name] == value:
            continue
        if not (isinstance(name, str) and isinstance(value, str)):
            refused(name, "headers must be strings")
        elif (problem := _header_problem(name, value)) is not None:
            refused(name, f"headers must be {problem}")
        else:
            merged.pop(names.get(name.lower(), ""), None)
            names[name.lower()] = name
            merged[name] = value
    return merged


def _check_key(key: str) -> None:
    text = check_str("idempotency_key", key)
    require(_GUID.fullmatch(text) is not None, "idempotency_key", "a GUID such as str(uuid.uuid4())", text)
