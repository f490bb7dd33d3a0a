"""A journal of one's own is refused when it is passed, unless the run can record everything in it."""

from collections.abc import Mapping

import pytest

from codat_commerce_async.syncing.journal import JournalStore, NullJournal
from tests.support.cases import all_cases
from tests.support.fans import Codat
from tests.support.scripted import client_of

MEMBERS = {name: value for name, value in vars(JournalStore).items() if not name.startswith("_")} | {
    "run": 1,
    "run_id": None,
    "session": 1,
    "is_persistent": False,
}


def store(base: type = object, changes: Mapping[str, object] = MEMBERS) -> object:
    """Return a store with these members."""
    return type("Store", (base,), {**changes})()


async def record_start_without_position(self: object, request: object, key: str, sent_at: float) -> None: ...


async def record_outcome_with_another_name(self: object, outcome: object, now: float, *, run: int = 1) -> None: ...


async def record_running_with_one_more(self: object, request: object, handle: object, run: int, more: int) -> None: ...


def record_end_that_is_not_awaited(self: object, now: float) -> None: ...


async def count_poll_that_is_not_awaited(self: object, now: float) -> None: ...


async def unfinished_as_a_list(self: object) -> list[object]:
    return []


def refused(journal: object) -> str:
    codat, transport = client_of()
    with pytest.raises(TypeError) as caught:
        codat.sync.run_many(["c"], journal=journal)  # type: ignore[arg-type]
    assert transport.sent == []
    return str(caught.value)


@all_cases("name", MEMBERS)
def test_a_member_that_is_missing_or_only_inherited_from_the_protocol_is_named(name: str) -> None:
    others = {other: member for other, member in MEMBERS.items() if other != name}
    for base in (object, JournalStore):
        expected = f"journal must be a path or a JournalStore (got Store): {name} must be "
        assert expected in refused(store(base, others))


@all_cases(
    ("name", "given", "words"),
    [
        (
            "record_start",
            record_start_without_position,
            "a coroutine method (request, key, sent_at, server_offset=None, position=None)",
        ),
        (
            "record_outcome",
            record_outcome_with_another_name,
            "a coroutine method (outcome, now, *, run=None, position=None)",
        ),
        ("record_running", record_running_with_one_more, "a coroutine method (request, handle, run=None)"),
        ("record_end", record_end_that_is_not_awaited, "a coroutine method (now)"),
        ("get", "text", "a coroutine method (request)"),
        ("count_poll", count_poll_that_is_not_awaited, "a plain method (now)"),
        ("unfinished", unfinished_as_a_list, "an async generator method ()"),
    ],
)
def test_a_method_of_another_kind_or_signature_is_named_with_the_right_one(
    name: str, given: object, words: str
) -> None:
    assert refused(store(changes={**MEMBERS, name: given})) == (
        f"journal must be a path or a JournalStore (got Store): {name} must be {words}"
    )


@all_cases(
    ("journal", "given"), [(3, "int"), (b"night.db", "bytes"), (store, "function"), (type(store()), "the class Store")]
)
def test_an_object_that_is_no_store_is_refused(journal: object, given: str) -> None:
    assert refused(journal) == f"journal must be a path or a JournalStore (got {given})"


class Positional:
    """A store of other parameter names, with more that are optional, which are as good."""

    async def record_outcome(self, *values: object, run: object = None, position: object = None) -> None: ...

    async def get(self, what: object, *, hint: object = None) -> None: ...


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "journal",
    [store(), NullJournal(), store(NullJournal, {}), store(changes=MEMBERS | vars(Positional))],
)
async def test_a_store_that_implements_every_member_is_accepted(journal: JournalStore) -> None:
    codat = Codat(2)
    async with codat.client() as client, client.sync.run_many(codat.ids, journal=journal) as run:
        assert [outcome.ok for outcome in await run.results()] == [True, True]
