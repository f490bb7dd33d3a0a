"""The body that Codat sends with an error status."""

from attrs import frozen

from codat_commerce_async.models.base import Model

__all__ = ["ErrorMessage", "ErrorValidation", "ErrorValidationItem"]


@frozen(kw_only=True, slots=False)
class ErrorValidationItem(Model):
    """One finding of the validation of a request."""

    item_id: str | None = None
    """What the finding is about."""

    message: str | None = None
    """What is wrong."""

    validator_name: str | None = None
    """The check that found it."""


@frozen(kw_only=True, slots=False)
class ErrorValidation(Model):
    """The findings of the validation of a request; errors reject it, warnings do not."""

    errors: tuple[ErrorValidationItem, ...] = ()
    """Findings that reject the request."""

    warnings: tuple[ErrorValidationItem, ...] = ()
    """Findings that do not reject it."""


@frozen(kw_only=True, slots=False)
class ErrorMessage(Model):
    """Codat's error message; its support needs the `correlation_id`.

    `status_code` can differ from the HTTP status, which takes precedence.
    Source: https://docs.codat.io/using-the-api/errors
    """

    status_code: int | None = None
    """The status in the body, which can differ from the HTTP status."""

    service: str | None = None
    """Codat's service that returned the error."""

    error: str | None = None
    """Codat's explanation."""

    correlation_id: str | None = None
    """The id that Codat's support needs."""

    validation: ErrorValidation | None = None
    """The findings of the validation."""

    can_be_retried: str | None = None
    """Codat's note on repeating the request."""

    detailed_error_code: int | None = None
    """A code for the kind of error."""
