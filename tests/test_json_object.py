from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from codat_commerce_async._core.json_object import JsonObject

TICKET = JsonObject.parse(
    "a ticket",
    '{"polls": 3, "age": 2, "name": "one", "at": "2024-01-15T08:00:00+00:00", "never": null, "ids": ["a", 1],'
    ' "parts": [{"name": "part"}], "whole": {"name": 7}, "yes": true}',
)


def test_fields_are_read_by_their_types() -> None:
    assert (TICKET.value("polls", int), TICKET.value("age", float), TICKET.value("name", str)) == (3, 2.0, "one")
    assert type(TICKET.value("age", float)) is float
    assert [TICKET.optional("never", str), TICKET.optional("missing", str), TICKET.times("missing")] == [None] * 3
    assert TICKET.time("at") == datetime(2024, 1, 15, 8, tzinfo=UTC)
    assert [part.value("name", str) for part in TICKET.objects("parts")] == ["part"]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: TICKET.value("polls", str), "polls of a ticket must be a string (got int)"),
        (lambda: TICKET.value("polls", bool), "polls of a ticket must be a boolean (got int)"),
        (lambda: TICKET.value("yes", int), "yes of a ticket must be an integer (got bool)"),
        (lambda: TICKET.value("name", float), "name of a ticket must be a number (got str)"),
        (lambda: TICKET.value("never", dict), "never of a ticket must be an object (got NoneType)"),
        (lambda: TICKET.optional("name", int), "name of a ticket must be an integer (got str)"),
        (lambda: TICKET.values("name", str), "name of a ticket must be a list (got str)"),
        (lambda: TICKET.values("ids", str), "ids of a ticket must be a list, each of whose items is a string"),
        (lambda: TICKET.time("name"), "name of a ticket must be a time in ISO 8601 format (got 'one')"),
        (lambda: TICKET.nested("whole").value("name", str), "name of a ticket must be a string (got int)"),
        (lambda: JsonObject.parse("a ticket", "[" * 100_000), "a ticket must be JSON"),
        (lambda: JsonObject.parse("a ticket", b"\xff"), "a ticket must be JSON"),
        (lambda: JsonObject.parse("a ticket", "[]"), "a ticket must be a JSON object"),
    ],
)
def test_an_error_names_the_field_and_what_it_belongs_to(read: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        read()
    assert str(caught.value) == message
