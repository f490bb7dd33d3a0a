"""What the simulator tells of itself as signed webhooks."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

import pytest

from codat_commerce_async.simulator import WebhookSender
from tests.support.simulated import Side

SECRET = "whsec_" + base64.b64encode(b"a secret of the tests").decode()
OTHER = "whsec_" + base64.b64encode(b"the one before it").decode()


class Receiver:
    """Takes webhooks, and answers each with the next of its statuses; an OSError is raised."""

    def __init__(self, *answers: int | OSError) -> None:
        self.answers = list(answers)
        self.messages: list[tuple[Mapping[str, str], bytes]] = []

    async def post(self, headers: Mapping[str, str], body: bytes) -> int:
        self.messages.append((headers, body))
        answer = self.answers.pop(0) if self.answers else 204
        if isinstance(answer, OSError):
            raise answer
        return answer

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.messages]


def signature(secret: str, headers: Mapping[str, str], body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def test_a_webhook_is_signed_over_its_id_its_time_and_its_bytes() -> None:
    side, receiver = Side(), Receiver()
    company_id = side.simulator.add_company()
    assert await WebhookSender(side.simulator, receiver.post, SECRET).deliver() == 0
    ((headers, body),) = receiver.messages
    assert headers["webhook-signature"] == signature(SECRET, headers, body)
    assert headers["webhook-timestamp"] == str(int(side.wall))
    event = json.loads(body)
    assert (event["eventType"], event["payload"]["id"]) == ("company.created", company_id)
    assert set(event) == {"id", "eventType", "generatedDate", "payload"}


async def test_while_a_secret_is_rotated_both_sign() -> None:
    side, receiver = Side(), Receiver()
    side.simulator.add_company()
    await WebhookSender(side.simulator, receiver.post, SECRET, OTHER).deliver()
    ((headers, body),) = receiver.messages
    assert headers["webhook-signature"].split() == [signature(secret, headers, body) for secret in (SECRET, OTHER)]


async def test_what_was_not_taken_is_delivered_again_under_the_same_id() -> None:
    side, receiver = Side(), Receiver(200, 500, ConnectionRefusedError(), 204)
    for _ in range(3):
        side.simulator.add_company()
    sender = WebhookSender(side.simulator, receiver.post, SECRET)
    assert await sender.deliver() == 2
    side.wait(60)
    assert await sender.deliver() == 0
    assert receiver.ids[3:] == receiver.ids[1:3]
    assert len(set(receiver.ids)) == 3
    assert receiver.messages[3][0]["webhook-timestamp"] != receiver.messages[1][0]["webhook-timestamp"]


async def test_after_twenty_eight_hours_a_webhook_is_given_up() -> None:
    side, receiver = Side(), Receiver(500, 500, 500)
    side.simulator.add_company()
    sender = WebhookSender(side.simulator, receiver.post, SECRET)
    waiting = [await sender.deliver()]
    for _ in range(2):
        side.wait(14 * 3600)
        waiting.append(await sender.deliver())
    assert waiting == [1, 1, 0]


def test_a_secret_that_is_none_is_refused() -> None:
    side, receiver = Side(), Receiver()
    for secrets in ((), ("abc",), ("whsec_!",)):
        with pytest.raises(ValueError, match=r"secret|base64"):
            WebhookSender(side.simulator, receiver.post, *secrets)
