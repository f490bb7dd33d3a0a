"""Each cause, from a failed sync over its diagnosis and the action to a sync that succeeds; and a night of failures."""

import asyncio
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from attrs import evolve

from codat_commerce_async import CodatCommerce, Diagnosis, FailureCause, Resolver, Retry, SyncFailedError
from codat_commerce_async.cli._args import ReportOptions, parse
from codat_commerce_async.cli.report import report
from codat_commerce_async.models.configuration import Configuration, PaymentsConfiguration
from codat_commerce_async.models.configuration_changes import (
    AccountSection,
    select_account,
    select_customer,
    select_frequency,
    select_grouping_period,
    select_invoice_status,
    select_supplier,
    select_tax_rate,
)
from codat_commerce_async.models.failure_rules import rule_of
from codat_commerce_async.syncing.journal import read_journal
from tests.support.fans import LATENCY, Codat

pytestmark = pytest.mark.virtual_time

Change = Callable[[Configuration], Configuration]


def account(section: AccountSection, name: str) -> Change:
    """Return the change that selects the last of the account's options."""

    def change(configuration: Configuration) -> Configuration:
        assert configuration.configuration is not None
        options = getattr(configuration.configuration, section).accounts[name].account_options
        return select_account(configuration, section, name, options[-2].id)

    return change


def customer(configuration: Configuration) -> Configuration:
    sales = configuration.configuration.sales if configuration.configuration else None
    assert sales is not None
    assert sales.sales_customer is not None
    return select_customer(configuration, str(sales.sales_customer.customer_options[-1].id))


def supplier(configuration: Configuration) -> Configuration:
    fees = configuration.configuration.fees if configuration.configuration else None
    assert fees is not None
    assert fees.fees_supplier is not None
    return select_supplier(configuration, str(fees.fees_supplier.supplier_options[-1].id))


def tax_rate(configuration: Configuration) -> Configuration:
    sales = configuration.configuration.sales if configuration.configuration else None
    assert sales is not None
    return select_tax_rate(configuration, "sales", str(sales.tax_rates["sales"].tax_rate_options[-1].id))


def payments(configuration: Configuration) -> Configuration:
    commerce = configuration.configuration
    assert commerce is not None
    assert commerce.sales is not None
    on = PaymentsConfiguration(sync_payments=True, accounts={"bank": commerce.sales.accounts["sales"]})
    return evolve(configuration, configuration=evolve(commerce, payments=on))


THROUGH_THE_API: Mapping[FailureCause, Change] = {
    FailureCause.SYNC_DISABLED: lambda configuration: evolve(configuration, enable=True),
    FailureCause.PAYMENTS_NOT_CONFIGURED: payments,
    FailureCause.SAME_PREPAID_ACCOUNT: account("payments", "prepaidPayment"),
    FailureCause.SAME_PAYOUT_ACCOUNT: account("new_payments", "payout"),
    FailureCause.INVALID_SALES_CUSTOMER: customer,
    FailureCause.CUSTOMER_NOT_FOUND: customer,
    FailureCause.INVALID_ACCOUNT: account("sales", "sales"),
    FailureCause.ACCOUNT_NOT_FOUND: account("sales", "sales"),
    FailureCause.UNMAPPED_ACCOUNT: account("sales", "giftCards"),
    FailureCause.INVALID_GROUPING: lambda configuration: select_grouping_period(configuration, "Daily sales"),
    FailureCause.PAYMENTS_ON_DRAFT_INVOICES: lambda configuration: select_invoice_status(configuration, "Submitted"),
    FailureCause.INVALID_INVOICE_STATUS: lambda configuration: select_invoice_status(configuration, "Submitted"),
    FailureCause.INVALID_SCHEDULE: lambda configuration: select_frequency(configuration, "Daily"),
    FailureCause.UNMAPPED_TAX_RATE: tax_rate,
    FailureCause.TAX_RATE_NOT_FOUND: tax_rate,
    FailureCause.INVALID_FEES_SUPPLIER: supplier,
    FailureCause.SUPPLIER_NOT_FOUND: supplier,
}
"""What the integrator does; the simulator plays the merchant and Codat for every other cause."""
COVERED = {FailureCause.DUPLICATE_PERIOD, FailureCause.OVERLAPPING_PERIOD}


async def failed_sync(client: CodatCommerce, company_id: str) -> SyncFailedError:
    with pytest.raises(SyncFailedError) as failed:
        await client.sync.run(company_id)
    return failed.value


async def act(codat: Codat, client: CodatCommerce, company_id: str, found: Diagnosis) -> None:
    change = THROUGH_THE_API.get(found.cause)
    if change is None:
        codat.simulator.repair(company_id)
        return
    assert Resolver.INTEGRATOR in found.resolvers
    configuration = await client.advanced_controls.get_configuration(company_id)
    await client.advanced_controls.set_configuration(company_id, change(configuration))


@pytest.mark.parametrize("cause", [cause for cause in FailureCause if cause not in COVERED])
async def test_the_action_of_a_diagnosis_leads_to_a_sync_that_succeeds(cause: FailureCause) -> None:
    codat = Codat(1)
    company_id = codat.ids[0]
    codat.simulator.cause_failure(company_id, cause)
    async with codat.client() as client:
        failed = await failed_sync(client, company_id)
        before = codat.requests
        found = await client.sync.diagnose(failed.status)
        assert found.requests == codat.requests - before <= 5
        assert (found.cause, found.unchecked, found.retry) == (cause, (), rule_of(cause).retry)
        assert found.actions
        assert found.evidence
        await act(codat, client, company_id, found)
        assert (await client.sync.run(company_id)).succeeded


@pytest.mark.parametrize("cause", sorted(COVERED))
async def test_a_covered_period_needs_no_new_sync(cause: FailureCause) -> None:
    codat = Codat(1)
    company_id = codat.ids[0]
    codat.simulator.cause_failure(company_id, cause)
    covering = codat.simulator.syncs(company_id)[0].sync_id
    async with codat.client() as client:
        found = await client.sync.diagnose((await failed_sync(client, company_id)).status)
        assert (found.cause, found.resolvers, found.retry) == (cause, (Resolver.NOBODY,), Retry.NEVER)
        assert covering in [each.id for each in found.evidence if each.kind == "sync"]
        await asyncio.sleep(600)
        assert (await client.sync.get(company_id, covering)).succeeded


async def test_the_items_that_were_refused_are_evidence() -> None:
    codat = Codat(1)
    codat.simulator.cause_failure(codat.ids[0], FailureCause.ITEMS_NOT_WRITTEN)
    async with codat.client() as client:
        found = await client.sync.diagnose((await failed_sync(client, codat.ids[0])).status)
    operations = [each for each in found.evidence if each.kind == "push_operation"]
    assert operations
    for each in operations:
        assert each.id
        assert each.requested_at
        assert each.completed_at
        assert [item.item_id and item.message for item in each.items]


async def test_more_than_a_page_of_push_operations_is_stated_as_truncated() -> None:
    codat = Codat(1)
    codat.simulator.cause_failure(codat.ids[0], FailureCause.ITEMS_NOT_WRITTEN)
    async with codat.client() as client:
        failed = await failed_sync(client, codat.ids[0])
        for number in range(101):
            codat.simulator.add_push_operation(codat.ids[0], error="refused", items={str(number): "refused"})
        found = await client.sync.diagnose(failed.status)
    assert found.unchecked == ("push operations: only the newest 100 were requested, there are more",)


NIGHT = [cause for cause in FailureCause if cause not in COVERED][:20]


async def night(codat: Codat, *, diagnose: bool, journal: Path | None = None) -> tuple[Counter[str], float, int]:
    """Return the diagnosed causes of a night, how long it took and the requests."""
    for number, company_id in enumerate(codat.ids):
        if number % 4 == 0:
            codat.simulator.cause_failure(company_id, NIGHT[number // 4 % len(NIGHT)])
    began = asyncio.get_running_loop().time()
    async with codat.client() as client, client.sync.run_many(codat.ids, diagnose=diagnose, journal=journal) as run:
        outcomes = await run.results()
    causes = Counter(str(outcome.diagnosis.cause) for outcome in outcomes if outcome.diagnosis)
    requests = sum(outcome.diagnosis.requests for outcome in outcomes if outcome.diagnosis)
    assert sum(not outcome.ok for outcome in outcomes) == len(codat.ids) // 4
    return causes, asyncio.get_running_loop().time() - began, requests


def expected_causes(companies: int) -> dict[str, int]:
    failures = companies // 4
    return {str(cause): failures // len(NIGHT) + (number < failures % len(NIGHT)) for number, cause in enumerate(NIGHT)}


@pytest.mark.parametrize("companies", [80, pytest.param(1000, marks=pytest.mark.real)])
async def test_a_night_of_twenty_failures_costs_no_more_than_its_requests(companies: int) -> None:
    plain, diagnosed = Codat(companies), Codat(companies)
    _, duration, _ = await night(plain, diagnose=False)
    causes, longer, requests = await night(diagnosed, diagnose=True)
    assert causes == expected_causes(companies)
    assert 0 < requests <= 5 * companies // 4
    assert diagnosed.simulator.peak_per_minute <= 1000
    assert longer <= duration + requests * (60 / 900) + 5 * 1.5 * LATENCY


@pytest.mark.parametrize("companies", [80, pytest.param(1000, marks=pytest.mark.real)])
async def test_the_report_of_a_journal_groups_the_failures_exactly(
    companies: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "night.db"
    await night(Codat(companies), diagnose=True, journal=journal)
    expected = expected_causes(companies)
    options = parse(["report", str(journal), "--failed", "--csv"])
    assert isinstance(options, ReportOptions)
    await report(options)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert Counter(row["cause"] for row in rows) == expected
    assert {(row["cause"], row["retry"]) for row in rows} == {
        (str(cause), str(rule_of(cause).retry)) for cause in NIGHT
    }
    assert all(row["action"].startswith(f"{row['resolver']}: ") for row in rows)
    await report(evolve(options, format="json"))
    groups = json.loads(capsys.readouterr().out)["summary"]["causes"]
    assert {group["cause"]: group["count"] for group in groups} == expected
    assert all(group["examples"] and group["action"] for group in groups)
    await report(evolve(options, format=None))
    count = expected["unmapped_account"]
    assert f"{count} unmapped_account (integrator): select an account for giftCards; " in capsys.readouterr().out


async def test_the_journal_keeps_the_end_of_a_sync_and_its_diagnosis(tmp_path: Path) -> None:
    codat, journal = Codat(1), tmp_path / "night.db"
    codat.simulator.cause_failure(codat.ids[0], FailureCause.UNMAPPED_ACCOUNT)
    async with codat.client() as client, client.sync.run_many(codat.ids, diagnose=True, journal=journal) as run:
        (outcome,) = await run.results()
        reported = codat.simulator.now()
    (entry,) = read_journal(journal)
    assert outcome.diagnosis is not None
    assert entry.to_outcome().diagnosis == outcome.diagnosis
    assert entry.ended_at is not None
    assert entry.ended_at < reported
