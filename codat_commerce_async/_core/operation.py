"""An operation of the API as a value: its name, method, path, response type and idempotency."""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeGuard, TypeVar
from urllib.parse import quote, unquote

from attrs import field, frozen

from codat_commerce_async._core.validation import check_mapping, check_str, check_url_text, is_token, require

__all__ = ["Idempotency", "Operation", "Query", "check_id", "is_id"]

T_co = TypeVar("T_co", covariant=True)

Query = Mapping[str, str | int | None]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_ENCODED = re.compile("(%[0-9A-Fa-f]{2})")
# https://www.rfc-editor.org/rfc/rfc3986#section-3.3
_PATH_CHARACTERS = "/:@!$&'()*+,;="
# What ids are made of as a rule; it needs no quoting, and cannot be a dotted segment.
_is_plain = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*", re.ASCII).fullmatch
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Idempotency(Enum):
    """What makes it safe to send the same request again."""

    NATIVE = "native"
    """The same request again changes nothing."""
    KEYED = "keyed"
    """Codat remembers the idempotency key for 90 minutes."""
    NONE = "none"
    """Nothing does."""


# Keys work on POST and PATCH only: https://docs.codat.io/using-the-api/idempotency
_IDEMPOTENCY = {
    "GET": Idempotency.NATIVE,
    "HEAD": Idempotency.NATIVE,
    "PUT": Idempotency.NATIVE,
    "POST": Idempotency.KEYED,
    "PATCH": Idempotency.KEYED,
}


@frozen
class Operation(Generic[T_co]):
    """One endpoint: `name` and `path` as Codat writes them, `response_type` the type of what comes back.

    What a path cannot hold is percent-encoded, in `path` and in the values for its places.

    With `NoneType` as its response type, an operation returns None, whatever the body is. An endpoint that this library
    does not model has `object` as its response type and returns the parsed JSON, None for a 204.

    Raises:
        ValueError: The path holds a query, a fragment, or a segment that would lead to another endpoint.

    Example:
        ```python
        GET_COMPANY = Operation("get-company", "GET", "/companies/{companyId}", object)
        company = await codat.call(GET_COMPANY, company_id)
        ```
    """

    name: str
    """The name in Codat's reference."""

    method: str
    """The HTTP method."""

    path: str
    """The path as Codat writes it, with places such as `{companyId}`."""

    response_type: type[T_co]
    """The type that the response is decoded to."""

    path_params: tuple[str, ...] = field(init=False, repr=False, eq=False)
    """The names of the places in the path, as arguments."""

    idempotency: Idempotency = field(init=False, repr=False, eq=False)
    """How a request of this operation may be repeated."""
    _template: str = field(init=False, repr=False, eq=False)
    _company_at: int | None = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        require(bool(check_str("name", self.name)) and self.name.isprintable(), "name", "printable text", self.name)
        _check_path(check_str("path", self.path))
        method = check_str("method", self.method).upper()
        require(is_token(method), "method", "an HTTP method such as 'GET'", self.method)
        arguments = tuple(_CAMEL_BOUNDARY.sub("_", name).lower() for name in _PLACEHOLDER.findall(self.path))
        # Computed once per operation, as every call needs them.
        derived = {
            "method": method,
            "path_params": arguments,
            "idempotency": _IDEMPOTENCY.get(method, Idempotency.NONE),
            "_template": _template(self.path),
            "_company_at": arguments.index("company_id") if "company_id" in arguments else None,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def format_target(self, values: tuple[str, ...], query: Query | None) -> str:
        """Return the path and query of a request, quoted; values of the query that are None are left out.

        Args:
            values: The values of the places in the path, in order.
            query: The query parameters.

        Raises:
            TypeError: A value has a type that a path or query cannot hold.
            ValueError: A value is one that a path or query cannot hold.
        """
        if len(values) != len(self.path_params):
            raise TypeError(f"{self.name} requires {', '.join(self.path_params) or 'no path values'}")
        for value in values:
            if type(value) is not str or not _is_plain(value):
                values = tuple(map(check_id, self.path_params, values))
                break
        path = self._template % values
        if not query:
            return path
        check_mapping("query", query)
        return path + _query_string(query)

    def format_path(self, values: tuple[str, ...]) -> str:
        """Return the path with the values in their places, quoted.

        Args:
            values: The values of the places in the path, in order.

        Raises:
            TypeError: The number of values is wrong, or one is no string.
            ValueError: A value would lead to another endpoint.
        """
        return self.format_target(values, None)

    def company_id(self, values: tuple[str, ...]) -> str | None:
        """Return the company id among the values, or None.

        Args:
            values: The values of the places in the path, in order.
        """
        return None if self._company_at is None else values[self._company_at]


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise ValueError("path must be the endpoint's path, beginning with a slash")
    if "?" in path or "#" in path:
        raise ValueError("path must have no query and no fragment; pass the query as query= to the call")
    literal = _PLACEHOLDER.sub("", path)
    if "{" in literal or "}" in literal:
        raise ValueError("path must have placeholders of letters, digits and underscores, such as {companyId}")
    if any(unquote(segment) in {".", ".."} for segment in path.split("/")):
        raise ValueError("path must have no segment '.' or '..', which would lead to another endpoint")


def _template(path: str) -> str:
    """Return the path with %s for each placeholder, and all else quoted that is not yet."""
    try:
        literals = [_quoted(text).replace("%", "%%") for text in _PLACEHOLDER.split(path)[::2]]
    except UnicodeEncodeError:
        raise ValueError("path must be text without lone surrogates") from None
    return "%s".join(literals)


def _quoted(text: str) -> str:
    """Return a piece of a path with what cannot stand in one percent-encoded; what is encoded already stays so."""
    pieces = _ENCODED.split(text)
    return "".join(piece if index % 2 else quote(piece, safe=_PATH_CHARACTERS) for index, piece in enumerate(pieces))


def is_id(value: object) -> TypeGuard[str]:
    """Return whether the value can be an id, that is, one segment of a path."""
    try:
        check_id("id", value)
    except (TypeError, ValueError):
        return False
    return True


def check_id(name: str, value: object) -> str:
    """Return the value quoted as one segment of a path; raise TypeError or ValueError if it cannot be one."""
    if type(value) is str and _is_plain(value):
        return value
    text = check_url_text(name, value)
    require(bool(text.strip()), name, "an id that is neither empty nor blank", text)
    # A dotted segment is normalized into another endpoint by URL libraries and servers alike, even when quoted.
    require(text not in {".", ".."}, name, "an id other than '.' and '..', which lead to another endpoint", text)
    # Such as the line break of a line that was read from a file.
    require(text.isprintable(), name, "an id without line breaks, control and invisible characters", text)
    return quote(text, safe="")


def _query_string(query: Query) -> str:
    """Return the query, quoted, without the values that are None."""
    pairs = [f"{_quote_name(name)}={_quote_value(name, value)}" for name, value in query.items() if value is not None]
    return "?" + "&".join(pairs) if pairs else ""


def _quote_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"query must have names that are strings (got {type(name).__name__})")
    try:
        return quote(name, safe="$")
    except UnicodeEncodeError:
        raise ValueError("query must have names without lone surrogates") from None


def _quote_value(name: str, value: str | int) -> str:
    if not isinstance(value, str | int):
        raise TypeError(f"{name} must be a string or an integer (got {type(value).__name__})")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text without lone surrogates") from None
