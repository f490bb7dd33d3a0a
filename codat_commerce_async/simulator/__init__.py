"""A simulated Codat: the other side of the API, for tests and demonstrations.

    async with Simulator(seed=7) as simulator:
        company_id = simulator.add_linked_company()
        simulator.script_sync(company_id, Outcome(5130, takes=90))
        async with CodatCommerce(simulator.api_key, base_url=simulator.url) as codat: ...

It shares no code with the client, so that neither can hide the other's mistakes.
"""

from codat_commerce_async.simulator._exchange import Request, Response, SeenRequest
from codat_commerce_async.simulator._faults import TRANSIENT, Fault, FaultKind, Faults
from codat_commerce_async.simulator._quota import RequestQuota, ResetFormat
from codat_commerce_async.simulator._records import Outcome, Sync
from codat_commerce_async.simulator._routes import ROUTES, Route
from codat_commerce_async.simulator._simulator import Simulator
from codat_commerce_async.simulator._webhook_faults import WebhookFault, WebhookFaults
from codat_commerce_async.simulator._webhooks import WebhookSender

__all__ = [
    "ROUTES",
    "TRANSIENT",
    "Fault",
    "FaultKind",
    "Faults",
    "Outcome",
    "Request",
    "RequestQuota",
    "ResetFormat",
    "Response",
    "Route",
    "SeenRequest",
    "Simulator",
    "Sync",
    "WebhookFault",
    "WebhookFaults",
    "WebhookSender",
]
