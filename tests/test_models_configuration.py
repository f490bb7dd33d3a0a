"""A configuration is written back as it was read, but for what was changed."""

import pickle
from typing import Any

import orjson
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from codat_commerce_async._core.codec import decode
from codat_commerce_async._core.encoding import encode
from codat_commerce_async.models.configuration import (
    AccountConfiguration,
    AccountConfigurationOption,
    CommerceConfiguration,
    Configuration,
    SalesConfiguration,
    SyncSchedule,
)
from codat_commerce_async.models.enums import SyncFrequency
from tests.strategies import JSON
from tests.support.cases import all_cases


def a_configuration() -> dict[str, Any]:
    """A configuration in an order of its own, with unknown keys at every depth."""
    return {
        "futureFlag": {"deep": [1, {"er": None}]},
        "configured": True,
        "companyId": "c-1",
        "enable": None,
        "revision": 7,
        "schedule": {
            "startDate": "2022-10-27T10:22:43.6464237Z",
            "weekdays": ["Mon", {"from": 2}],
            "syncHour": 3,
            "frequencyOptions": ["Daily", "Hourly"],
            "selectedFrequency": "Hourly",
        },
        "configuration": {
            "region": "emea",
            "fees": None,
            "sales": {
                "taxRates": None,
                "accounts": {
                    "sales": {
                        "required": True,
                        "hint": "x",
                        "selectedAccountId": None,
                        "accountOptions": [
                            {"balance": 1.5, "id": "a", "name": "Sales", "currency": {"code": "GBP"}},
                            {"id": "b", "nominalCode": None},
                        ],
                    },
                    "refund": {"accountOptions": None, "labelText": "Refunds"},
                },
                "newTaxRates": {"taxRateMappings": [{"selectedCommerceTaxRateIds": ["t"], "since": 2020}]},
            },
        },
    }


BODY = orjson.dumps(a_configuration())


def read() -> Configuration:
    return decode(BODY, Configuration)


def written(configuration: Configuration) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(encode(configuration))
    return body


def sales(configuration: Configuration) -> SalesConfiguration:
    assert configuration.configuration is not None
    assert configuration.configuration.sales is not None
    return configuration.configuration.sales


def with_sales(configuration: Configuration, changed: SalesConfiguration) -> Configuration:
    assert configuration.configuration is not None
    return evolve(configuration, configuration=evolve(configuration.configuration, sales=changed))


def test_unchanged_values_are_written_back_byte_for_byte() -> None:
    assert encode(read()) == BODY


def test_it_survives_pickle() -> None:
    assert encode(pickle.loads(pickle.dumps(read()))) == BODY  # noqa: S301 - our own bytes


def test_a_change_five_levels_deep_changes_nothing_else() -> None:
    configuration = read()
    account = sales(configuration).accounts["sales"]
    option = evolve(account.account_options[1], name="Renamed")
    account = evolve(account, account_options=(account.account_options[0], option))
    accounts = {**sales(configuration).accounts, "sales": account}
    expected = a_configuration()
    expected["configuration"]["sales"]["accounts"]["sales"]["accountOptions"][1]["name"] = "Renamed"
    changed = encode(with_sales(configuration, evolve(sales(configuration), accounts=accounts)))
    assert changed == orjson.dumps(expected)


def test_a_change_at_the_top_changes_nothing_else() -> None:
    expected = a_configuration() | {"enable": False}
    assert encode(evolve(read(), enable=False)) == orjson.dumps(expected)


def test_a_value_can_be_taken_back_to_null() -> None:
    assert written(evolve(read(), configured=None))["configured"] is None


def test_a_change_that_is_undone_leaves_no_trace() -> None:
    assert encode(evolve(evolve(read(), enable=True), enable=None)) == BODY


def test_entries_can_be_added_and_taken_out() -> None:
    configuration = read()
    accounts = {
        "gratuity": AccountConfiguration(selected_account_id="g"),
        "sales": sales(configuration).accounts["sales"],
    }
    body = written(with_sales(configuration, evolve(sales(configuration), accounts=accounts)))
    expected = a_configuration()["configuration"]["sales"]["accounts"]
    assert body["configuration"]["sales"]["accounts"] == {
        "gratuity": {"selectedAccountId": "g"},
        "sales": expected["sales"],
    }


def test_lists_that_were_null_can_be_filled() -> None:
    refund = sales(read()).accounts["refund"]
    assert refund.account_options == ()
    filled = evolve(refund, account_options=(AccountConfigurationOption(id="a"),))
    assert orjson.loads(encode(filled)) == {"accountOptions": [{"id": "a"}], "labelText": "Refunds"}


def test_a_schedule_keeps_the_digits_of_its_start_until_it_is_moved() -> None:
    schedule = read().schedule
    assert schedule is not None
    assert schedule.start_date is not None
    assert schedule.start_date.microsecond == 646423
    assert orjson.loads(encode(evolve(schedule, sync_hour=4)))["startDate"] == "2022-10-27T10:22:43.6464237Z"
    moved = evolve(schedule, start_date=schedule.start_date.replace(microsecond=0))
    assert orjson.loads(encode(moved))["startDate"] == "2022-10-27T10:22:43Z"


def test_an_unknown_frequency_is_sent_back_as_it_was_received() -> None:
    schedule = read().schedule
    assert schedule is not None
    assert schedule.selected_frequency == "Hourly"
    assert schedule.frequency_options == (SyncFrequency.DAILY, "Hourly")
    assert written(read())["schedule"]["selectedFrequency"] == "Hourly"


def test_unknown_fields_can_be_read_and_changed() -> None:
    configuration = read()
    assert configuration.extra == {"futureFlag": {"deep": [1, {"er": None}]}, "revision": 7}
    changed = evolve(configuration, extra={"revision": 8, "added": True})
    body = written(changed)
    assert "futureFlag" not in body
    assert list(body) == ["configured", "companyId", "enable", "revision", "schedule", "configuration", "added"]
    assert body["revision"] == 8


def test_unknown_fields_count_in_a_comparison() -> None:
    assert read() == read()
    assert hash(read()) == hash(read())
    assert read() != evolve(read(), extra={})
    assert read() != evolve(read(), enable=True)


def test_the_received_json_does_not_count_in_a_comparison() -> None:
    bodies = [b'{"companyId":"c","enable":true}', b'{"enable":true,"schedule":null,"companyId":"c"}']
    assert decode(bodies[0], Configuration) == decode(bodies[1], Configuration)
    assert decode(bodies[0], Configuration) == Configuration(company_id="c", enable=True)


def test_unknown_fields_are_not_in_the_repr() -> None:
    assert "futureFlag" not in repr(read())
    assert "received" not in repr(read())


def test_a_configuration_made_by_hand_reports_only_what_was_reported() -> None:
    made = Configuration(
        company_id="c",
        schedule=SyncSchedule(selected_frequency=SyncFrequency.DAILY, sync_hour=0),
        configuration=CommerceConfiguration(sales=SalesConfiguration(sync_sales=False)),
    )
    assert encode(made) == (
        b'{"companyId":"c","schedule":{"selectedFrequency":"Daily","syncHour":0},'
        b'"configuration":{"sales":{"syncSales":false}}}'
    )


@all_cases("number", ["12345678901234567890123456789", "-9223372036854775809", "18446744073709551615", "1.5"])
def test_numbers_of_any_length_come_back(number: str) -> None:
    body = f'{{"schedule":{{"x":[{number}]}},"y":{number}}}'.encode()
    assert encode(decode(body, Configuration)) == body
    changed = encode(evolve(decode(body, Configuration), enable=True))
    assert changed == body[:-1] + b',"enable":true}'


PATHS = [(), ("schedule",), ("configuration",), ("configuration", "sales"),
         ("configuration", "sales", "accounts", "sales"),
         ("configuration", "sales", "accounts", "sales", "accountOptions", 0),
         ("configuration", "sales", "newTaxRates", "taxRateMappings", 0)]  # fmt: skip


@given(path=st.sampled_from(PATHS), key=st.text(min_size=9, max_size=12), value=JSON, change=st.booleans())
def test_any_unknown_key_at_any_depth_comes_back(
    path: tuple[str | int, ...], key: str, value: object, *, change: bool
) -> None:
    body = a_configuration()
    target: Any = body
    for step in path:
        target = target[step]
    if key in target:
        return
    target[key] = value
    configuration = decode(orjson.dumps(body), Configuration)
    if change:
        body["enable"] = True
        configuration = evolve(configuration, enable=True)
    assert encode(configuration) == orjson.dumps(body)
