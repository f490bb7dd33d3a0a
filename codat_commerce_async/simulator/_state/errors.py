"""An error of Codat's, with the body that it sends."""

from collections.abc import Sequence

__all__ = ["ApiError"]


class ApiError(Exception):
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
