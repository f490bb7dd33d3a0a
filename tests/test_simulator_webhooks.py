"""The signed webhooks that the simulator sends."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest
import standardwebhooks
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from codat_commerce_async.cli._args import SimulateOptions, parse
from codat_commerce_async.cli.simulate import deliver_webhooks
from codat_commerce_async.simulator import Simulator, WebhookFault, WebhookFaultPlan, WebhookSender
from tests.support.cases import all_cases
from tests.support.simulated import SimulatedApi

SECRET = "whsec_" + base64.b64encode(b"a secret of the tests").decode()
OTHER = "whsec_" + base64.b64encode(b"the one before it").decode()


class Receiver:
    """Accept webhooks, and respond to each with the next of the statuses; an OSError is raised."""

    def __init__(self, *statuses: int | OSError) -> None:
        self.statuses = list(statuses)
        self.messages: list[tuple[Mapping[str, str], bytes]] = []

    async def post(self, headers: Mapping[str, str], body: bytes) -> int:
        self.messages.append((headers, body))
        status = self.statuses.pop(0) if self.statuses else 204
        if isinstance(status, OSError):
            raise status
        return status

    @property
    def names(self) -> list[str]:
        return [json.loads(body)["payload"]["name"] for _, body in self.messages]

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.messages]


def signature(secret: str, headers: Mapping[str, str], body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def test_a_webhook_is_signed_over_its_id_its_time_and_its_bytes() -> None:
    api, receiver = SimulatedApi(), Receiver()
    company_id = api.simulator.add_company()
    assert await WebhookSender(api.simulator, receiver.post, SECRET).deliver() == 0
    ((headers, body),) = receiver.messages
    assert headers["webhook-signature"] == signature(SECRET, headers, body)
    assert headers["webhook-timestamp"] == str(int(api.wall))
    event = json.loads(body)
    assert (event["eventType"], event["payload"]["id"]) == ("company.created", company_id)
    assert set(event) == {"id", "eventType", "generatedDate", "payload"}


async def test_while_a_secret_is_rotated_both_sign() -> None:
    api, receiver = SimulatedApi(), Receiver()
    api.simulator.add_company()
    await WebhookSender(api.simulator, receiver.post, SECRET, OTHER).deliver()
    ((headers, body),) = receiver.messages
    assert headers["webhook-signature"].split() == [signature(secret, headers, body) for secret in (SECRET, OTHER)]


async def test_a_delivery_without_2xx_is_repeated_under_the_same_id() -> None:
    api, receiver = SimulatedApi(), Receiver(200, 500, ConnectionRefusedError(), 204)
    for _ in range(3):
        api.simulator.add_company()
    sender = WebhookSender(api.simulator, receiver.post, SECRET)
    assert await sender.deliver() == 2
    api.wait(60)
    assert await sender.deliver() == 0
    assert receiver.ids[3:] == receiver.ids[1:3]
    assert len(set(receiver.ids)) == 3
    assert receiver.messages[3][0]["webhook-timestamp"] != receiver.messages[1][0]["webhook-timestamp"]


async def test_a_simulator_that_is_started_again_repeats_no_webhook_id() -> None:
    receiver = Receiver()
    for seconds in (0, 60):
        api = SimulatedApi()
        api.wait(seconds)
        api.simulator.add_company()
        await WebhookSender(api.simulator, receiver.post, SECRET).deliver()
    assert len(set(receiver.ids)) == len(receiver.ids) == 2


async def test_after_twenty_eight_hours_a_webhook_is_given_up() -> None:
    api, receiver = SimulatedApi(), Receiver(500, 500, 500)
    api.simulator.add_company()
    sender = WebhookSender(api.simulator, receiver.post, SECRET)
    waiting = [await sender.deliver()]
    for _ in range(2):
        api.wait(14 * 3600)
        waiting.append(await sender.deliver())
    assert waiting == [1, 1, 0]


def test_a_secret_that_is_none_is_refused() -> None:
    api, receiver = SimulatedApi(), Receiver()
    for secrets in ((), ("abc",), ("whsec_!",)):
        with pytest.raises(ValueError, match=r"secret|base64"):
            WebhookSender(api.simulator, receiver.post, *secrets)


def companies(simulator: Simulator, *names: str) -> None:
    for name in names:
        simulator.add_company(name)


async def test_a_late_webhook_is_first_posted_when_it_is_due() -> None:
    api, receiver = SimulatedApi(), Receiver()
    companies(api.simulator, "A", "B")
    faults = WebhookFaultPlan(script={"company.created": ["late", None]}, late_by=600)
    sender = WebhookSender(api.simulator, receiver.post, SECRET, faults=faults)
    assert (await sender.deliver(), receiver.names) == (1, ["B"])
    api.wait(599)
    assert await sender.deliver() == 1
    api.wait(1)
    assert (await sender.deliver(), receiver.names) == (0, ["B", "A"])
    ((headers, body),) = receiver.messages[1:]
    assert headers["webhook-timestamp"] == str(int(api.wall))
    assert headers["webhook-signature"] == signature(SECRET, headers, body)


async def test_a_webhook_comes_twice_under_one_id_although_it_was_taken() -> None:
    api, receiver = SimulatedApi(), Receiver()
    companies(api.simulator, "A", "B")
    faults = WebhookFaultPlan(script={"*": [WebhookFault.TWICE]})
    sender = WebhookSender(api.simulator, receiver.post, SECRET, faults=faults)
    assert (await sender.deliver(), receiver.names) == (0, ["A", "B", "A"])
    assert receiver.ids[0] == receiver.ids[2] != receiver.ids[1]
    assert receiver.messages[0][1] == receiver.messages[2][1]
    assert await sender.deliver() == 0
    assert len(receiver.messages) == 3


async def test_webhooks_out_of_order_arrive_behind_later_ones() -> None:
    api, receiver = SimulatedApi(), Receiver()
    companies(api.simulator, "A", "B", "C")
    faults = WebhookFaultPlan(script={"*": ["out_of_order", "out_of_order"]})
    sender = WebhookSender(api.simulator, receiver.post, SECRET, faults=faults)
    assert (await sender.deliver(), receiver.names) == (0, ["C", "B", "A"])


async def test_a_copy_that_is_not_taken_is_delivered_again_too() -> None:
    api, receiver = SimulatedApi(), Receiver(204, 500)
    companies(api.simulator, "A")
    faults = WebhookFaultPlan(rate=1, kinds=["twice"])
    sender = WebhookSender(api.simulator, receiver.post, SECRET, faults=faults)
    assert [await sender.deliver(), await sender.deliver(), len(receiver.messages)] == [1, 0, 3]


async def test_a_rate_affects_the_types_it_is_for_the_same_way_every_time() -> None:
    orders = []
    for _ in range(2):
        api, receiver = SimulatedApi(), Receiver()
        faults = WebhookFaultPlan(rate=0.5, kinds=["out_of_order"], seed=3, event_types=["company.created"])
        for number in range(40):
            company_id = api.simulator.add_company(f"{number:02}")
            api.simulator.add_connection(company_id, "gbol")
        await WebhookSender(api.simulator, receiver.post, SECRET, faults=faults).deliver()
        events = [json.loads(body) for _, body in receiver.messages]
        created = [event["payload"]["name"] for event in events if event["eventType"] == "company.created"]
        others = [event["payload"]["connection"]["created"] for event in events if "connection" in event["payload"]]
        orders.append(created)
        assert sorted(created) != created
        assert len(others) == 80
    assert orders[0] == orders[1]


@all_cases(
    "arguments",
    [
        {"rate": 1.5},
        {"rate": 0.5, "kinds": []},
        {"late_by": -1},
        {"kinds": ["lost"]},
        {"event_types": ["company.made"]},
        {"script": {"invoices.write.successful": ["late"]}},
    ],
)
def test_faults_of_webhooks_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|is not a valid|there is no event type"):
        WebhookSender(Simulator(), Receiver().post, SECRET, faults=WebhookFaultPlan(**arguments))


async def test_the_command_posts_signed_webhooks() -> None:
    secret = "whsec_" + base64.b64encode(b"of the merchant's service").decode()
    received: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def receive(request: web.BaseRequest) -> web.Response:
        standardwebhooks.Webhook(secret).verify(await request.text(), dict(request.headers))
        await received.put((request.path, json.loads(await request.text())["eventType"]))
        return web.Response()

    async with Simulator(durations=lambda _: 0.0) as simulator, RawTestServer(receive) as receiver:
        options = parse(["simulate", "--webhooks", str(receiver.make_url("/hooks")), "--secret", secret])
        assert isinstance(options, SimulateOptions)
        delivering = asyncio.create_task(deliver_webhooks(simulator, options))
        simulator.start_external_sync(simulator.add_linked_company(), 2000)
        path, event = await received.get()
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
    assert (path, event.partition(".")[0]) == ("/hooks", "company")
