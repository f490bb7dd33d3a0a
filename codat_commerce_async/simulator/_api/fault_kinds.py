"""The kinds of faults.

A new kind takes these steps:

1. A member here, and a line in `FAULTS` in `faults.py` with what it does. With `transient=True` it is also in
   `TRANSIENT`, the default of `FaultPlan.kinds`, so the same seed then gives other faults.
2. If the connection fails in a new way, a member of `Break` in `faults.py`, and a row in each `_BREAKS`, in
   `simulator/_server.py` and `simulator/in_memory.py`.
3. A row in the table of `docs/testing.md`, and a test of what the client does.
"""

from enum import Enum

__all__ = ["FaultKind"]


class FaultKind(Enum):
    """One way in which a request fails; `before` and `after` mean before or after Codat has done the work."""

    LOST_BEFORE = "lost_before"
    """The connection closes without a response; nothing was done."""
    LOST_AFTER = "lost_after"
    """The connection closes without a response; the work is done, and takes `seconds` more."""
    RESET_BEFORE = "reset_before"
    """The connection is reset; nothing was done."""
    RESET_AFTER = "reset_after"
    """The connection is reset; the work is done, and takes `seconds` more."""
    CUT_OFF = "cut_off"
    """The work was done, and the connection closes in the middle of the response body."""
    ENDLESS = "endless"
    """The work was done, and the response body never ends."""
    LATE = "late"
    """The response comes `seconds` late, while Codat works: a request under the same key gets a 409 until then."""
    RATE_LIMITED = "rate_limited"
    """429 with `seconds` as `Retry-After`, from Codat or the platform; nothing was done, the key can be used again."""
    ERROR_BEFORE = "error_before"
    """The error `status` from Codat; nothing was done, but the response is replayed for the key."""
    ERROR_AFTER = "error_after"
    """The error `status` from Codat although the work was done; the response is replayed for the key."""
    UNAVAILABLE = "unavailable"
    """503, maintenance; nothing was done, but the response is replayed for the key."""
    BAD_GATEWAY = "bad_gateway"
    """502 in HTML from a gateway; Codat never received the request."""
    GATEWAY_TIMEOUT = "gateway_timeout"
    """504 in HTML from a gateway; Codat never received the request."""
    GATEWAY_TIMEOUT_AFTER = "gateway_timeout_after"
    """504 with an empty body from a gateway; Codat does the work, for `seconds` more, and replays its response."""
    REDIRECT = "redirect"
    """302 to another address; Codat never received the request."""
    WRONG_CONTENT_TYPE = "wrong_content_type"
    """The work was done, and the JSON is declared as HTML."""
    EMPTY = "empty"
    """The work was done, and the response body is empty."""
    CLOCK_SKEW = "clock_skew"
    """The response's `Date` is `seconds` ahead, or behind if they are negative."""
    NEW_ENUM_VALUES = "new_enum_values"
    """Enum fields of the response have values that are not in the specification."""
    NEW_FIELDS = "new_fields"
    """Every object of the response has fields that are not in the specification."""
    NUMBERS_AS_TEXT = "numbers_as_text"
    """The numbers in the response are strings."""
