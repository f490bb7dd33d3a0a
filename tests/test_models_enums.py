"""Enumerations know what the specification names, and take what it does not name yet."""

import copy
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async.models import enums
from codat_commerce_async.models.base import UNSET
from codat_commerce_async.models.enums import ConnectionStatus, DataType, OpenEnum, SourceType, SyncFrequency
from tests.strategies import resolved
from tests.support.cases import all_cases
from tests.support.specification import specification

ENUMS = [member for _, member in inspect.getmembers(enums, inspect.isclass) if issubclass(member, OpenEnum)]
OWN = [enum for enum in ENUMS if enum is not OpenEnum]


def test_a_known_value_is_the_member_itself() -> None:
    assert ConnectionStatus("Linked") is ConnectionStatus.LINKED
    linked: str = ConnectionStatus.LINKED
    assert linked == "Linked"
    assert {"Linked": 1}[ConnectionStatus.LINKED] == 1
    assert f"{ConnectionStatus.LINKED}" == "Linked"
    assert repr(ConnectionStatus.LINKED) == "ConnectionStatus.LINKED"
    assert ConnectionStatus.LINKED.is_known


@given(st.text(), st.sampled_from(OWN))
def test_any_text_is_kept(text: str, enum: type[OpenEnum]) -> None:
    member = enum(text)
    assert member == text
    assert member.value == text
    assert str(member) == text
    assert hash(member) == hash(text)
    assert {member: 1}[enum(text)] == 1
    assert member.is_known == (text in list(enum))
    for copied in (copy.copy(member), copy.deepcopy(member), pickle.loads(pickle.dumps(member))):  # noqa: S301 - our own
        assert type(copied) is enum
        assert copied == member
        assert copied.is_known == member.is_known


def test_an_unknown_value_reports_what_it_is() -> None:
    assert repr(ConnectionStatus("Paused")) == "ConnectionStatus('Paused')"
    assert not ConnectionStatus("Paused").is_known


@all_cases("text", ["LINKED", "linked", "is_known", "_missing_", "name", ""])
def test_a_value_that_resembles_a_name_is_not_taken_for_one(text: str) -> None:
    assert not ConnectionStatus(text).is_known
    assert ConnectionStatus(text).value == text


def test_unknown_values_are_not_remembered() -> None:
    before = (list(ConnectionStatus), len(ConnectionStatus.__members__), len(ConnectionStatus._value2member_map_))
    for number in range(100):
        ConnectionStatus(f"New{number}")
    after = (list(ConnectionStatus), len(ConnectionStatus.__members__), len(ConnectionStatus._value2member_map_))
    assert after == before


@all_cases("value", [None, 7, b"Linked", ["Linked"]])
def test_an_enum_value_must_be_text(value: object) -> None:
    with pytest.raises(ValueError, match="is not a valid ConnectionStatus"):
        ConnectionStatus(value)  # type: ignore[arg-type]


@all_cases("enum", OWN)
def test_names_are_their_values_in_capitals(enum: type[OpenEnum]) -> None:
    for name, member in enum.__members__.items():
        letters = "".join(letter for letter in member.value if letter.isalnum())
        assert name.replace("_", "").lower() in letters.lower()


@all_cases(
    ("enum", "schema"),
    [
        (ConnectionStatus, "Connection/definitions/dataConnectionStatus"),
        (SourceType, "Integration/definitions/sourceType"),
        (enums.ErrorStatus, "Connection/definitions/dataConnectionError/properties/status"),
        (DataType, "Integration/definitions/dataTypeFeature/properties/dataType"),
        (enums.FeatureState, "Integration/definitions/featureState"),
        (enums.FeatureType, "Integration/definitions/featureType"),
        (SyncFrequency, "Configuration/definitions/syncFrequency"),
        (enums.OutputFormat, "Configuration/definitions/configurationMapSettings/properties/outputFormat"),
    ],
)
def test_the_values_are_those_of_the_specification(enum: type[OpenEnum], schema: str) -> None:
    document = specification()
    assert resolved(document, {"$ref": f"#/components/schemas/{schema}"})["enum"] == [each.value for each in enum]


def test_unset_is_one_falsy_value() -> None:
    assert not UNSET
    assert repr(UNSET) == "UNSET"
    assert copy.deepcopy(UNSET) is UNSET
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET  # noqa: S301 - our own bytes
