"""Deliveries of webhooks, signed by the text of the Standard Webhooks specification and nothing of ours."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field

__all__ = ["COMPANY", "NOW", "OTHER_SECRET", "SECRET", "Delivery", "body_of", "payload_of", "sign"]

SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes or more").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"what it is rotated to soon").decode()
NOW = 1_705_305_600
COMPANY = "0498e921-9b53-4396-a412-4f2f5983b0a2"


def sign(secret: str, webhook_id: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = webhook_id.encode() + b"." + timestamp.encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


@dataclass
class Delivery:
    """One delivery; what is not given is as it should be."""

    body: bytes = b'{"eventType": "company.created"}'
    webhook_id: str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
    timestamp: str = str(NOW)
    secrets: tuple[str, ...] = (SECRET,)
    signature: str = field(init=False)

    def __post_init__(self) -> None:
        self.signature = " ".join(sign(one, self.webhook_id, self.timestamp, self.body) for one in self.secrets)

    @property
    def headers(self) -> dict[str, str]:
        return {
            "webhook-id": self.webhook_id,
            "webhook-timestamp": self.timestamp,
            "webhook-signature": self.signature,
        }


def payload_of(event_type: str) -> dict[str, object]:
    """The payload of a type as Codat sends it."""
    company = {"id": COMPANY, "name": "Toft stores"}
    if event_type.startswith("company."):
        return {**company, "products": ["commerce"], "productId": "commerce", "productName": "Commerce"}
    if event_type.startswith("connection."):
        return {"referenceCompany": company, "connection": {"id": "c-1", "status": "Linked"}}
    if event_type.startswith("read."):
        return {"referenceCompany": company, "dataTypes": [{"dataType": "invoices", "status": "Complete"}]}
    if event_type.startswith("client."):
        return {"dailyQuota": 12000, "quotaRemaining": 11993, "expiryDate": "2024-01-16T00:00:00Z"}
    if ".write." in event_type:
        return {"id": "w-1", "type": "Create", "referenceCompany": company, "status": "Success"}
    return {"referenceCompany": company, "news": [1, 2]}


def body_of(event_type: str, payload: object = None, generated: str = "2024-01-15T08:00:00Z") -> bytes:
    """An event's body; its payload is the usual one of the type if none is given."""
    envelope = {
        "id": "ba29118f-5406-4e59-b05c-ba307ca38d01",
        "eventType": event_type,
        "generatedDate": generated,
        "payload": payload_of(event_type) if payload is None else payload,
    }
    return json.dumps(envelope).encode()
