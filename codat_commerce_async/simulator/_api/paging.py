"""Return pages of records, as `page`, `pageSize`, `query` and `orderBy` request them."""

import re
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import TypeVar
from urllib.parse import urlencode

from codat_commerce_async.simulator._state.errors import ApiError

__all__ = ["paged"]

T = TypeVar("T")

_DEFAULT_SIZE = 100
_LARGEST_SIZE = 5000
_COMPARISON = re.compile(
    r"\s*([A-Za-z_]\w*)\s*(!=|=)(?!=)\s*(\"[^\"]*\"|[^\s\"=!<>~&|(){}]+(?: +[^\s\"=!<>~&|(){}]+)*)\s*"
)

Item = dict[str, object]


def paged(
    path: str,
    parameters: Mapping[str, str],
    records: Collection[T],
    serialize: Callable[[T], Item],
    fields: Collection[str],
    *,
    searchable: Callable[[T], Item] | None = None,
) -> Item:
    """Return one page of the serialized records, with `_links`.

    `searchable` returns the fields that `query` and `orderBy` use, if `serialize` is too slow for every record.

    Of Codat's query language, `field=value`, `field!=value`, values in double quotes, `&&` and `||` (`&&` binds
    tighter) are supported, over the text of `fields`. Anything else gets a 400, and so does an unknown field.
    https://docs.codat.io/using-the-api/querying
    """
    page = _whole_number(parameters, "page", 1, None)
    size = _whole_number(parameters, "pageSize", _DEFAULT_SIZE, _LARGEST_SIZE)
    first = (page - 1) * size
    query, order = parameters.get("query"), parameters.get("orderBy")
    if query or order:
        candidates = [((searchable or serialize)(record), record) for record in records]
        found = _ordered(_filtered(candidates, query, fields), order, fields)
        total, results = len(found), [serialize(record) for _, record in found[first : first + size]]
    else:
        total, results = len(records), [serialize(record) for record in islice(records, first, first + size)]
    filters = {name: value for name, value in (("query", query), ("orderBy", order)) if value}
    return {
        "results": results,
        "pageNumber": page,
        "pageSize": size,
        "totalResults": total,
        "_links": _links(path, page, size, total, filters),
    }


def _whole_number(parameters: Mapping[str, str], name: str, default: int, largest: int | None) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
    if number < 1 or (largest is not None and number > largest):
        bound = "of at least 1" if largest is None else f"between 1 and {largest}"
        message = f"{name} must be a whole number {bound}."
        raise ApiError(400, "The request is not valid.", invalid=[(name, message)])
    return number


def _links(path: str, page: int, size: int, total: int, filters: dict[str, str]) -> Item:
    def link(number: int) -> Item:
        return {"href": f"{path}?{urlencode({'page': number, 'pageSize': size, **filters})}"}

    links: Item = {"self": {"href": path}, "current": link(page)}
    if page * size < total:
        links["next"] = link(page + 1)
    if page > 1:
        links["previous"] = link(page - 1)
    return links


def _filtered(records: list[tuple[Item, T]], query: str | None, fields: Collection[str]) -> list[tuple[Item, T]]:
    if not query:
        return records
    alternatives = [[_parse_comparison(part, fields) for part in group.split("&&")] for group in query.split("||")]
    return [one for one in records if any(all(holds(one[0]) for holds in group) for group in alternatives)]


def _parse_comparison(text: str, fields: Collection[str]) -> Callable[[Item], bool]:
    parsed = _COMPARISON.fullmatch(text)
    if parsed is None:
        raise ApiError(400, "Error parsing query - malformed.", service="ClientsApi")
    name, operator, value = parsed.groups()
    _check_field(name, fields)
    wanted = value.strip('"')
    return lambda item: (_text(item.get(name)) == wanted) is (operator == "=")


def _ordered(records: list[tuple[Item, T]], order: str | None, fields: Collection[str]) -> list[tuple[Item, T]]:
    if not order:
        return records
    name = order.removeprefix("-")
    _check_field(name, fields)
    return sorted(records, key=lambda one: _text(one[0].get(name)), reverse=order.startswith("-"))


def _check_field(name: str, fields: Collection[str]) -> None:
    if name not in fields:
        raise ApiError(400, f"Error parsing query - no property {name}.", service="PullApi")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
