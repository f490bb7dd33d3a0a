"""The body that Codat sends with an error status."""

from attrs import frozen

from codat_commerce_async.models.base import Model

__all__ = ["ErrorMessage", "ErrorValidation", "ErrorValidationItem"]


@frozen(kw_only=True)
class ErrorValidationItem(Model):
    """One thing that the validation of a request found."""

    item_id: str | None = None
    message: str | None = None
    validator_name: str | None = None


@frozen(kw_only=True)
class ErrorValidation(Model):
    """What the validation of a request found: errors stop it, warnings do not."""

    errors: tuple[ErrorValidationItem, ...] = ()
    warnings: tuple[ErrorValidationItem, ...] = ()


@frozen(kw_only=True)
class ErrorMessage(Model):
    """An error as Codat words it; `correlation_id` is what its support asks for.

    `status_code` can differ from the HTTP status, which is the one that decides.
    Source: https://docs.codat.io/using-the-api/errors
    """

    status_code: int | None = None
    service: str | None = None
    error: str | None = None
    correlation_id: str | None = None
    validation: ErrorValidation | None = None
    can_be_retried: str | None = None
    detailed_error_code: int | None = None
