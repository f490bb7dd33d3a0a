"""What a failure means for the company and for the other companies of a run."""

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async.errors import CodatError, OutcomeUnknownError, QuotaExhaustedError

__all__ = ["as_codat_error", "cause_of", "raise_if_fatal", "seconds_to_reset"]

_logger = logger_of("sync")

# The pause in seconds after the daily quota is exhausted, if the server does not report when it is reset.
_DEFAULT_QUOTA_PAUSE = 60.0


def as_codat_error(company_id: str, error: Exception) -> CodatError:
    """Return the error, or a CodatError caused by it if it is of any other type."""
    if isinstance(error, CodatError):
        return error
    _logger.error("unexpected error for company %s", company_id, exc_info=error, extra=extra_fields(company_id))
    unexpected = CodatError(f"unexpected {type(error).__name__}: {error}")
    unexpected.__cause__ = error
    return unexpected


def cause_of(error: CodatError) -> BaseException | None:
    """Return the error of the last request if the error is ambiguous; any other error is its own cause."""
    return error.__cause__ if isinstance(error, OutcomeUnknownError) else error


def raise_if_fatal(error: CodatError) -> None:
    """Raise the cause of the failure if it ends the run."""
    cause = cause_of(error)
    if isinstance(cause, CodatError) and cause.fatal_for_run:
        raise cause


def seconds_to_reset(error: QuotaExhaustedError) -> float:
    """Return for how many seconds nothing is to be sent, because the daily quota is exhausted."""
    return error.retry_after or _DEFAULT_QUOTA_PAUSE
