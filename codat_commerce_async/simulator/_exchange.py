"""A request and a response as plain values, and a refusal in the shape that Codat gives it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codat_commerce_async.simulator._faults import FaultKind

__all__ = ["Refusal", "Request", "Response", "SeenRequest"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came in: `path` and `query` still quoted, headers under lower-case names."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {name.lower(): value for name, value in self.headers.items()})


@dataclass(frozen=True, slots=True)
class Response:
    """A response, and what the shell around the simulator has to do to it.

    `delay` is the real seconds until it may arrive. `fault` is one of those that only a connection can show:
    `LOST_*` and `RESET_*` (nothing arrives), `CUT_OFF` (`body` is the part that arrives, `content-length`
    speaks of the whole), `ENDLESS` (`body` is repeated for ever); for all other faults it is None, the
    response shows them itself.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    fault: FaultKind | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One line of the simulator's log; `time` is simulated, `status` what Codat or the gateway answered.

    `operation` is empty for a request that no operation takes, `status` None when nobody answered;
    `replayed` marks an answer out of the idempotency memory.
    """

    time: float
    operation: str
    method: str
    path: str
    query: str
    idempotency_key: str | None
    body_hash: str | None
    status: int | None
    fault: FaultKind | None
    replayed: bool


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of the program
    """Codat says no; `status` is the HTTP status, the body's own `statusCode` can differ."""

    def __init__(
        self,
        status: int,
        error: str,
        *,
        service: str = "PublicApi",
        body_status: int | None = None,
        invalid: Sequence[tuple[str, str]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, error)
        self.status = status
        self.error = error
        self.service = service
        self.body_status = status if body_status is None else body_status
        self.invalid = tuple(invalid)
        self.retry_after = retry_after

    def body(self, correlation_id: str) -> dict[str, object]:
        """The error's body; `invalid` (field, message) becomes its validation."""
        body: dict[str, object] = {
            "statusCode": self.body_status,
            "service": self.service,
            "error": self.error,
            "correlationId": correlation_id,
            "canBeRetried": "Unknown",
            "detailedErrorCode": 0,
        }
        if self.invalid:
            errors = [
                {"itemId": item, "message": message, "validatorName": "RequestValidator"}
                for item, message in self.invalid
            ]
            body["validation"] = {"errors": errors, "warnings": []}
        return body
