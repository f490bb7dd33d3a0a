"""An error response of Codat's API."""

from collections.abc import Sequence

__all__ = ["ApiError"]


class ApiError(Exception):
    """An error response; `status` is the HTTP status, from which the `statusCode` in the body can differ."""

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
        """Return the body; `invalid` (field, message) becomes its `validation`."""
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
