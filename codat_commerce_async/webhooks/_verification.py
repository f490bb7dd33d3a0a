"""Verify the signature and the timestamp of a delivery.

The scheme: https://www.standardwebhooks.com
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from codat_commerce_async._core.secrecy import hides_arguments
from codat_commerce_async._core.validation import check_seconds, check_str
from codat_commerce_async.errors import WebhookVerificationError

__all__ = ["WebhookVerifier"]

_PREFIX = "whsec_"
# Other spellings of the same number are not what was signed.
_SECONDS = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)
_ID = re.compile(r"[!-~]{1,256}", re.ASCII)


class WebhookVerifier:
    """Verifies that a delivery is from Codat.

    Pass the endpoint's secret (`whsec_...`), and several while a secret is rotated: a signature by any of them is
    valid. `tolerance` is the number of seconds by which a delivery's timestamp may differ from `wall_clock` (epoch
    seconds).

    Args:
        secret: The endpoint's secret, `whsec_...`.
        *more_secrets: Further secrets, while a secret is rotated.
        tolerance: Seconds by which the timestamp of a delivery may be wrong.
        wall_clock: Returns the time in epoch seconds.

    Raises:
        ValueError: A secret is not valid.
    """

    __slots__ = ("_keys", "_tolerance", "_wall_clock")

    @hides_arguments
    def __init__(
        self,
        secret: str,
        *more_secrets: str,
        tolerance: float = 300.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._tolerance = tolerance
        self._wall_clock = wall_clock
        self._keys = tuple(_key(one) for one in (secret, *more_secrets))
        if not all(self._keys):
            raise ValueError("secret must be `whsec_` and base64, as Codat's portal shows it")
        check_seconds("tolerance", tolerance, finite=True)

    def verify(self, headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes) -> str:
        """Return the `webhook-id` of a delivery from Codat; it is the same for all deliveries of one event.

        `body` is the raw body. `headers` must show repeated headers, as a multidict or pairs do.

        Args:
            headers: The headers of the delivery; repeated ones must show, as in pairs or a multidict.
            body: The raw body.

        Raises:
            WebhookVerificationError: The delivery is not valid. Nothing else is raised.
        """
        pairs = _pairs(headers)
        webhook_id = _header(pairs, "webhook-id", _ID)
        sent_at = int(_header(pairs, "webhook-timestamp", _SECONDS))
        signatures = _header(pairs, "webhook-signature").encode(errors="replace").split(b" ")
        if not abs(self._wall_clock() - sent_at) <= self._tolerance:
            raise WebhookVerificationError("the webhook's timestamp is too far from the current time")
        # Compare the text: several texts decode to the same bytes.
        signed = b".".join((webhook_id.encode(), str(sent_at).encode(), body))
        expected = [_signature(key, signed) for key in self._keys]
        # Compare every pair, so that the time does not depend on which one matches.
        matches = [hmac.compare_digest(one, given) for one in expected for given in signatures]
        if not any(matches):
            raise WebhookVerificationError("the webhook has no signature by a known secret")
        return webhook_id

    def __repr__(self) -> str:
        keys, tolerance = getattr(self, "_keys", ()), getattr(self, "_tolerance", 0.0)
        return f"<WebhookVerifier of {len(keys)} secrets, {tolerance:g} s of tolerance>"

    def __reduce__(self) -> str:
        raise TypeError("a WebhookVerifier cannot be pickled, because it holds secrets; create it where you need it")


def _signature(key: bytes, signed: bytes) -> bytes:
    return b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))


def _key(secret: str) -> bytes:
    """Return the key in a secret; empty bytes if the secret is not valid."""
    encoded = check_str("secret", secret).strip().removeprefix(_PREFIX).rstrip("=")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        return b""


def _pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    items = headers.items() if isinstance(headers, Mapping) else headers
    return tuple(cast("Iterable[tuple[str, str]]", items))


def _header(pairs: tuple[tuple[str, str], ...], name: str, form: re.Pattern[str] | None = None) -> str:
    values = [value for key, value in pairs if key.lower() == name]
    if len(values) != 1:
        raise WebhookVerificationError(f"the webhook has {'no' if not values else 'more than one'} {name}")
    if form and not form.fullmatch(values[0]):
        raise WebhookVerificationError(f"the webhook's {name} is not valid")
    return values[0]
