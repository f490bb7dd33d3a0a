"""The body that Codat sends with an error status."""

from attrs import frozen

from codat_commerce_async.models.base import Model

__all__ = ["ErrorMessage", "ErrorValidation", "ErrorValidationItem"]


@frozen(kw_only=True)
class ErrorValidationItem(Model):
    """One finding of the validation of a request."""

    item_id: str | None = None
    message: str | None = None
    validator_name: str | None = None


@frozen(kw_only=True)
class ErrorValidation(Model):
    """The findings of the validation of a request; errors reject it, warnings do not."""

    errors: tuple[ErrorValidationItem, ...] = ()
    warnings: tuple[ErrorValidationItem, ...] = ()


@frozen(kw_only=True)
class ErrorMessage(Model):
    """Codat's error message; its support needs the `correlation_id`.

    `status_code` can differ from the HTTP status, which takes precedence.
    Source: https://docs.codat.io/using-the-api/errors
    """

    status_code: int | None = None
    service: str | None = None
    error: str | None = None
    correlation_id: str | None = None
    validation: ErrorValidation | None = None
    can_be_retried: str | None = None
    detailed_error_code: int | None = None
