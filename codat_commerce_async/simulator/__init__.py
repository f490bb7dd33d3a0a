"""A simulator of Codat's API, for tests and demonstrations.

    async with Simulator(seed=7) as simulator:
        company_id = simulator.add_linked_company()
        simulator.script_sync(company_id, ScriptedSync(5130, duration=90))
        async with CodatCommerce(simulator.api_key, base_url=simulator.url) as codat: ...

It shares no code with the client, so that neither can hide the other's mistakes. The exceptions are the checks of
Python arguments, `FailureCause`, and `InMemoryTransport`, which connects the two.
"""

from codat_commerce_async.simulator._api.fault_kinds import FaultKind
from codat_commerce_async.simulator._api.faults import TRANSIENT, Fault, FaultPlan
from codat_commerce_async.simulator._api.http import RecordedRequest, Request, Response
from codat_commerce_async.simulator._api.routes import PLATFORM_ROUTES, ROUTES, Route
from codat_commerce_async.simulator._simulator import Simulator
from codat_commerce_async.simulator._state.quota import RequestQuota, ResetFormat
from codat_commerce_async.simulator._state.records import ScriptedSync, Sync
from codat_commerce_async.simulator._webhook_faults import WebhookFault, WebhookFaultPlan
from codat_commerce_async.simulator._webhooks import WebhookSender

__all__ = [
    "PLATFORM_ROUTES",
    "ROUTES",
    "TRANSIENT",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "RecordedRequest",
    "Request",
    "RequestQuota",
    "ResetFormat",
    "Response",
    "Route",
    "ScriptedSync",
    "Simulator",
    "Sync",
    "WebhookFault",
    "WebhookFaultPlan",
    "WebhookSender",
]
