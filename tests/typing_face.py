"""What type checkers see of the public face: nothing here is run, mypy and pyright read it."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime
from typing import Any, assert_type

import aiohttp

from codat_commerce_async import (
    ApiResponse,
    CodatCommerce,
    CodatError,
    CompanySyncStatus,
    ConnectionStatus,
    Diagnosis,
    Operation,
    OutcomeUnknownError,
    Paginator,
    PollPolicy,
    Problem,
    Quota,
    RateLimit,
    RequestTimeoutError,
    RetryPolicy,
    StatusError,
    SyncFailedError,
    SyncHandle,
    SyncStatus,
    SyncSummary,
    SyncWaitTimeoutError,
    Timeouts,
    Watches,
    problem,
)
from codat_commerce_async.models.call import Attempt
from codat_commerce_async.models.companies import Companies, Company
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.connections import Connection, Connections
from codat_commerce_async.models.integrations import Branding, Integration, Integrations
from codat_commerce_async.models.pull_operations import DataStatus, DataStatuses, PullOperation, PullOperations
from codat_commerce_async.models.push_operations import PushOperation, PushOperations
from codat_commerce_async.models.sync_flow import Localization, LocalizationInfo, SyncFlowUrl, VisibleAccounts
from codat_commerce_async.models.sync_settings import CompanySyncSettings, SyncSetting
from codat_commerce_async.models.webhook_consumers import WebhookConsumer, WebhookConsumers
from codat_commerce_async.syncing.outcome import RunProgress, RunReport, SyncOutcome
from codat_commerce_async.syncing.run import SyncRun
from codat_commerce_async.syncing.stepper import SyncStepper

NAMES = Operation("list-names", "GET", "/names", tuple[str, ...])
LOOSE = Operation("get-anything", "GET", "/anything", object)


async def the_client(session: aiohttp.ClientSession, moment: datetime) -> None:
    codat = CodatCommerce("key", base_url="https://h", session=session, retry=RetryPolicy(attempts=2))
    assert_type(codat, CodatCommerce)
    assert_type(CodatCommerce.from_env(quota=Quota.unlimited(), timeouts=Timeouts(total=5)), CodatCommerce)
    async with CodatCommerce(auth_header="Basic x", poll=PollPolicy()) as entered:
        assert_type(entered, CodatCommerce)
    assert_type(codat.closed, bool)
    assert_type(codat.rate_limit, RateLimit | None)
    codat.update_rate_limit(RateLimit(observed_at=moment))
    assert_type(await codat.aclose(), None)
    assert_type(await codat.call(NAMES), tuple[str, ...])
    assert_type(await codat.call(LOOSE, "id", query={"page": 1}, body={"a": 1}, timeout=5.0), object)
    response = await codat.send(NAMES, headers={"X-Own": "1"})
    assert_type(response, ApiResponse[tuple[str, ...]])
    assert_type(response.value, tuple[str, ...])
    assert_type(response.headers, Mapping[str, str])
    assert_type(response.attempts, tuple[Attempt, ...])


async def connections(codat: CodatCommerce) -> None:
    assert_type(await codat.connections.create("c", platform_key="gbol", timeout=5), Connection)
    assert_type(await codat.connections.get_sync_flow_url(commerce_key="fztf", accounting_key="gbol"), SyncFlowUrl)
    listing = codat.connections.list("c", page_size=50, retry=RetryPolicy.none())
    assert_type(listing, Paginator[Connections, Connection])
    page = await listing
    assert_type(page, Connections)
    assert_type(page.results, tuple[Connection, ...])
    async for connection in listing:
        assert_type(connection, Connection)
    async for each in listing.pages():
        assert_type(each, Connections)
    assert_type(await codat.connections.update_authorization("c", "k", {"user": "me"}), Connection)
    assert_type(await codat.connections.update_connection("c", "k", status="Unlinked"), Connection)
    assert_type(await codat.connections.update_connection("c", "k", status=ConnectionStatus.UNLINKED), Connection)


async def integrations(codat: CodatCommerce) -> None:
    assert_type(codat.integrations.list(query="name=Xero"), Paginator[Integrations, Integration])
    assert_type(await codat.integrations.list(), Integrations)
    assert_type([one async for one in codat.integrations.list()], list[Integration])
    assert_type(await codat.integrations.get_branding("gbol"), Branding)


async def advanced_controls(codat: CodatCommerce, configuration: Configuration) -> None:
    assert_type(codat.advanced_controls.list_companies(order_by="-created"), Paginator[Companies, Company])
    assert_type(await codat.advanced_controls.list_companies(), Companies)
    assert_type(await codat.advanced_controls.create_company(name="n", tags={"a": "b"}), Company)
    assert_type(await codat.advanced_controls.get_configuration("c"), Configuration)
    assert_type(await codat.advanced_controls.set_configuration("c", configuration), Configuration)


async def sync_flow_settings(codat: CodatCommerce) -> None:
    settings = codat.sync_flow_settings
    assert_type(await codat.sync_flow_settings.get_config_text_sync_flow(locale="en-us"), LocalizationInfo)
    texts: dict[str, str | Localization | None] = {"a": None, "b": "x", "c": Localization(text="y")}
    assert_type(
        await codat.sync_flow_settings.update_config_text_sync_flow(texts, locale="fr-fr"),
        LocalizationInfo,
    )
    assert_type((await settings.get_config_text_sync_flow(locale="en-us"))["a"], Localization)
    assert_type(await codat.sync_flow_settings.get_visible_accounts("client", "gbol"), VisibleAccounts)
    assert_type(
        await codat.sync_flow_settings.update_visible_accounts_sync_flow("gbol", ["a"]),
        VisibleAccounts,
    )
    assert_type(await settings.update_visible_accounts_sync_flow("gbol", None), VisibleAccounts)


async def platform(codat: CodatCommerce) -> None:
    assert_type(await codat.platform.get_company("c"), Company)
    assert_type(await codat.platform.update_company("c", name="n", tags={"a": "b"}), Company)
    assert_type(await codat.platform.delete_company("c"), None)
    assert_type(await codat.platform.get_connection("c", "k"), Connection)
    assert_type(await codat.platform.delete_connection("c", "k"), None)
    assert_type(await codat.platform.refresh_company_data("c"), None)
    assert_type(await codat.platform.refresh_data_type("c", "invoices", connection_id="k"), PullOperation)
    statuses = await codat.platform.get_company_data_status("c")
    assert_type(statuses, DataStatuses)
    assert_type(statuses["invoices"], DataStatus)
    assert_type(codat.platform.list_pull_operations("c"), Paginator[PullOperations, PullOperation])
    assert_type(await codat.platform.get_pull_operation("c", "d"), PullOperation)
    assert_type(codat.platform.get_company_push_history("c", page=1), Paginator[PushOperations, PushOperation])
    assert_type(await codat.platform.get_push_operation("c", "p"), PushOperation)
    assert_type(await codat.platform.list_webhook_consumers(), WebhookConsumers)
    created = await codat.platform.create_webhook_consumer(url="https://h", event_types=["read.completed"])
    assert_type(created, WebhookConsumer)
    assert_type(await codat.platform.delete_webhook_consumer("w"), None)
    assert_type(await codat.platform.get_company_sync_settings("c"), CompanySyncSettings)
    assert_type(await codat.platform.set_company_sync_settings("c", [SyncSetting()]), None)


async def sync(codat: CodatCommerce, moment: datetime) -> None:
    assert_type(await codat.sync.request("c", sync_to=moment, idempotency_key="k"), SyncSummary)
    assert_type(await codat.sync.request_for_date_range("c", start=moment, finish=moment), SyncSummary)
    assert_type(await codat.sync.get_status("c"), SyncStatus)
    assert_type(await codat.sync.get_last_successful_sync("c"), CompanySyncStatus)
    assert_type(await codat.sync.get_latest_sync("c"), CompanySyncStatus)
    assert_type(await codat.sync.get("c", "s"), CompanySyncStatus)
    assert_type(await codat.sync.list("c"), tuple[CompanySyncStatus, ...])
    handle = await codat.sync.start("c", date_range=(moment, moment))
    assert_type(handle, SyncHandle)
    assert_type(SyncHandle.from_json(handle.to_json()), SyncHandle)
    assert_type(await codat.sync.poll(handle), SyncStatus | None)
    assert_type(await codat.sync.wait(handle, timeout=None, poll=PollPolicy()), SyncStatus)
    assert_type(await codat.sync.wait("c", "s", raise_on_failure=False, background=True), SyncStatus)
    assert_type(codat.sync.watch(handle), AsyncGenerator[SyncStatus, None])
    async for status in codat.sync.watch("c", "s"):
        assert_type(status, SyncStatus)
        assert_type(status.is_terminal, bool)
    async with codat.sync.watches(end_on_signals=False) as watches:
        assert_type(watches, Watches)
        assert_type(watches.watch(handle), AsyncGenerator[SyncStatus, None])
        assert_type(watches.watch("c", "s", heartbeat=5.0), AsyncGenerator[SyncStatus | None, None])
        assert_type(watches.event_stream(handle), AsyncGenerator[bytes, None])
    assert_type(SyncHandle.from_token(handle.to_token(), "c"), SyncHandle)
    assert_type(problem(CodatError("")), Problem)
    assert_type(await codat.sync.run("c"), SyncStatus)
    assert_type(codat.sync.poll_now("c"), int)
    assert_type(codat.sync.stepper(timeout=None), SyncStepper)


async def sync_many(codat: CodatCommerce, more: AsyncIterator[str]) -> None:
    assert_type(await codat.sync.diagnose(SyncHandle(company_id="c", sync_id="s")), Diagnosis)
    async with codat.sync.run_many(["a", "b"], journal="nightly.db", diagnose=True) as run:
        assert_type(run, SyncRun)
        async for outcome in run:
            assert_type(outcome, SyncOutcome)
        assert_type(run.report, RunReport)
        assert_type(run.progress, RunProgress)
    async with codat.sync.run_many(more) as run:
        assert_type(await run.results(), list[SyncOutcome])


async def errors(codat: CodatCommerce) -> None:
    try:
        await codat.sync.run("c")
    except SyncFailedError as error:
        assert_type(error.status, SyncStatus)
        assert_type(error.handle, SyncHandle)
    except SyncWaitTimeoutError as error:
        assert_type(error.last_status, SyncStatus | None)
    except OutcomeUnknownError as error:
        assert_type(error.idempotency_key, str | None)
        assert_type(error.candidates, tuple[str, ...])
    except StatusError as error:
        assert_type(error.status, int)
        assert_type(error.retry_after, float | None)
    except RequestTimeoutError as error:
        also: TimeoutError = error
        assert_type(error.sent, bool)
        raise also from None
    except CodatError as error:
        assert_type(error.attempts, tuple[Attempt, ...])


async def what_is_wrong_is_seen(codat: CodatCommerce) -> None:
    # An ignored line with nothing wrong in it is an error to mypy.
    await codat.sync.get_status(7)  # type: ignore[arg-type]
    await codat.sync.get("c")  # type: ignore[call-arg]
    await codat.sync.get_status("c", bogus=1)  # type: ignore[call-arg]
    await codat.sync.get_status("c", timeout="5")  # type: ignore[arg-type]
    await codat.sync.wait("c", "s", idempotency_key="k")  # type: ignore[call-arg]
    await codat.connections.create("c", "gbol")  # type: ignore[call-arg]
    CodatCommerce("key", bogus=1)  # type: ignore[call-arg]
    RetryPolicy(attempts="3")  # type: ignore[arg-type]
    Quota().per_minute = 1  # type: ignore[misc]


def any_would_be_found(value: Any) -> None:
    assert_type(value, str)  # type: ignore[assert-type]
