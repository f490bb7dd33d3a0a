"""Paged answers: `page`, `pageSize`, `query` and `orderBy`."""

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
    present: Callable[[T], Item],
    fields: Collection[str],
    *,
    look: Callable[[T], Item] | None = None,
) -> Item:
    """One page of the records, each as `present` gives it, with `_links`.

    `look` gives what `query` and `orderBy` look at where `present` would cost too much for every record.

    Of Codat's query language it understands `field=value`, `field!=value`, values in double quotes, `&&`
    and `||` (`&&` binds tighter), over the text of `fields`; anything else is refused with 400, as is an
    unknown field. https://docs.codat.io/using-the-api/querying
    """
    page = _whole_number(parameters, "page", 1, None)
    size = _whole_number(parameters, "pageSize", _DEFAULT_SIZE, _LARGEST_SIZE)
    first = (page - 1) * size
    query, order = parameters.get("query"), parameters.get("orderBy")
    if query or order:
        looked_at = [(look(record) if look else present(record), record) for record in records]
        found = _ordered(_filtered(looked_at, query, fields), order, fields)
        total, shown = len(found), [present(record) for _, record in found[first : first + size]]
    else:
        total, shown = len(records), [present(record) for record in islice(records, first, first + size)]
    kept = {name: value for name, value in (("query", query), ("orderBy", order)) if value}
    return {
        "results": shown,
        "pageNumber": page,
        "pageSize": size,
        "totalResults": total,
        "_links": _links(path, page, size, total, kept),
    }


def _whole_number(parameters: Mapping[str, str], name: str, usual: int, largest: int | None) -> int:
    text = parameters.get(name)
    if text is None:
        return usual
    number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
    if number < 1 or (largest is not None and number > largest):
        bound = "or more" if largest is None else f"to {largest}"
        raise ApiError(400, "The request is not valid.", invalid=[(name, f"{name} takes a whole number, 1 {bound}.")])
    return number


def _links(path: str, page: int, size: int, total: int, kept: dict[str, str]) -> Item:
    def link(number: int) -> Item:
        return {"href": f"{path}?{urlencode({'page': number, 'pageSize': size, **kept})}"}

    links: Item = {"self": {"href": path}, "current": link(page)}
    if page * size < total:
        links["next"] = link(page + 1)
    if page > 1:
        links["previous"] = link(page - 1)
    return links


def _filtered(records: list[tuple[Item, T]], query: str | None, fields: Collection[str]) -> list[tuple[Item, T]]:
    if not query:
        return records
    alternatives = [[_comparison(part, fields) for part in group.split("&&")] for group in query.split("||")]
    return [one for one in records if any(all(holds(one[0]) for holds in group) for group in alternatives)]


def _comparison(text: str, fields: Collection[str]) -> Callable[[Item], bool]:
    parsed = _COMPARISON.fullmatch(text)
    if parsed is None:
        raise ApiError(400, "Error parsing query - malformed.", service="ClientsApi")
    name, operator, value = parsed.groups()
    _known(name, fields)
    wanted = value.strip('"')
    return lambda item: (_text(item.get(name)) == wanted) is (operator == "=")


def _ordered(records: list[tuple[Item, T]], order: str | None, fields: Collection[str]) -> list[tuple[Item, T]]:
    if not order:
        return records
    name = order.removeprefix("-")
    _known(name, fields)
    return sorted(records, key=lambda one: _text(one[0].get(name)), reverse=order.startswith("-"))


def _known(name: str, fields: Collection[str]) -> None:
    if name not in fields:
        raise ApiError(400, f"Error parsing query - no property {name} here.", service="PullApi")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
