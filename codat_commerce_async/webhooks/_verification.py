"""Whether a delivery was signed with one of the endpoint's secrets, and just now.

The scheme: https://www.standardwebhooks.com
"""

import base64
import hmac
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from codat_commerce_async.errors import WebhookVerificationError

try:
    from standardwebhooks import Webhook
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "webhooks need an extra: pip install 'codat-commerce-async[webhooks]'", name=error.name
    ) from error

__all__ = ["WebhookVerifier"]

_PREFIX = "whsec_"
# The library would take other spellings of the same moment, which were not what was signed.
_SECONDS = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)
_ID = re.compile(r"[!-~]{1,256}", re.ASCII)


class WebhookVerifier:
    """Tells genuine deliveries from others.

    Takes the endpoint's secret (`whsec_...`), and more than one while a secret is rotated: a signature by any of them
    will do. `tolerance` is how many seconds a delivery's timestamp may lie before or after now by `wall_clock` (epoch
    seconds). Raises ValueError for a secret that is none.
    """

    __slots__ = ("_keys", "_tolerance", "_wall_clock")

    def __init__(
        self,
        secret: str,
        *more_secrets: str,
        tolerance: float = 300.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ValueError("tolerance takes seconds, 0 or more")
        self._keys = tuple(Webhook(_key(one)) for one in (secret, *more_secrets))
        self._tolerance = tolerance
        self._wall_clock = wall_clock

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """The `webhook-id` of a genuine delivery, the same over all deliveries of one event.

        `body` is the raw one, as it came. Raises WebhookVerificationError, and nothing else, for what is not genuine.
        """
        webhook_id = _header(headers, "webhook-id", _ID)
        sent_at = int(_header(headers, "webhook-timestamp", _SECONDS))
        signatures = _header(headers, "webhook-signature").encode(errors="replace").split(b" ")
        if not abs(self._wall_clock() - sent_at) <= self._tolerance:
            raise WebhookVerificationError("the webhook was signed too long ago, or in the future")
        # Texts are compared, not what they decode to: several texts decode to the same bytes.
        expected = [one.encode() for one in self._expected(webhook_id, sent_at, body)]
        if not any(hmac.compare_digest(one, given) for one in expected for given in signatures):
            raise WebhookVerificationError("no signature of the webhook is by a known secret")
        return webhook_id

    def _expected(self, webhook_id: str, sent_at: int, body: bytes) -> list[str]:
        try:
            moment, text = datetime.fromtimestamp(sent_at, UTC), body.decode()
            return [key.sign(webhook_id, moment, text) for key in self._keys]
        except (ValueError, OverflowError, OSError):
            pass
        # Out here, as what was caught carries the body.
        raise WebhookVerificationError("the webhook is not text that was signed")

    def __repr__(self) -> str:
        return f"<WebhookVerifier of {len(self._keys)} secrets, {self._tolerance:g} s of tolerance>"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not pickled; make the verifier anew where you need it")


def _key(secret: str) -> bytes:
    encoded = secret.strip().removeprefix(_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("a secret is whsec_ and base64, as Codat's portal shows it")
    return key


def _header(headers: Mapping[str, str], name: str, form: re.Pattern[str] | None = None) -> str:
    values = [value for key, value in headers.items() if key.lower() == name]
    if len(values) != 1:
        raise WebhookVerificationError(f"the webhook has {'no' if not values else 'more than one'} {name}")
    if form and not form.fullmatch(values[0]):
        raise WebhookVerificationError(f"the webhook's {name} is none")
    return values[0]
