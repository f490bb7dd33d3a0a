"""The loggers of this library: one per area. Records are one printable line each, and have the same fields."""

import logging
from collections.abc import Mapping

from codat_commerce_async._core.operation import Operation
from codat_commerce_async._core.text import one_line, shown
from codat_commerce_async.errors import CodatError, OutcomeUnknownError, StatusError
from codat_commerce_async.models.call import Call

__all__ = ["FIELDS", "extra_fields", "logger_of", "named"]

_PACKAGE = "codat_commerce_async"
FIELDS = ("operation", "method", "path", "company_id", "status", "attempt", "correlation_id", "elapsed", "quota_wait")

# Without a handler, Python prints the warnings of an application that has not configured logging.
# https://docs.python.org/3/howto/logging.html#configuring-logging-for-a-library
logging.getLogger(_PACKAGE).addHandler(logging.NullHandler())


def logger_of(area: str) -> logging.Logger:
    """Return the logger of an area, such as `calls`.

    Every record has all of `FIELDS`, with None for an unknown value, so that a log format can use any of them.
    """
    logger = logging.getLogger(f"{_PACKAGE}.{area}")
    if _complete not in logger.filters:
        logger.addFilter(_complete)
    return logger


def extra_fields(
    company_id: str | None = None,
    *,
    operation: Operation[object] | None = None,
    error: Exception | None = None,
    **values: object,
) -> dict[str, object]:
    """Return the `extra` of a record: all of `FIELDS`, None where unknown, and further values by their names.

    The values of the operation and the error are theirs unless they are given by name.
    """
    fields: dict[str, object] = {name: None for name in FIELDS}  # noqa: C420 - pyright infers narrower keys for fromkeys
    if isinstance(error, CodatError):
        fields.update(_error_fields(error))
    if operation is not None:
        fields.update(operation=operation.name, method=operation.method, path=operation.path)
    return {**fields, "company_id": company_id, **values}


def named(operation: str | None, company_id: str | None) -> str:
    """Return what a record is about: the operation, and the company if there is one."""
    return f"{operation or 'call'} of company {company_id}" if company_id is not None else operation or "call"


def _error_fields(error: CodatError) -> dict[str, object]:
    # An error that was rebuilt from JSON may hold values of other types.
    call, attempts = error.call if isinstance(error.call, Call) else None, error.attempts
    return {
        "operation": error.operation,
        "method": call.method if call else None,
        "path": call.path if call else None,
        "status": error.status if isinstance(error, StatusError) else None,
        "attempt": attempts[-1].number if attempts else None,
        "correlation_id": error.correlation_id if isinstance(error, StatusError | OutcomeUnknownError) else None,
        "elapsed": attempts[-1].elapsed if attempts else None,
        "quota_wait": attempts[-1].quota_wait if attempts else None,
    }


def _complete(record: logging.LogRecord) -> bool:
    values = vars(record)
    for name in FIELDS:
        value = values.setdefault(name, None)
        if isinstance(value, str):
            values[name] = one_line(value)
    if isinstance(record.args, tuple):
        record.args = tuple(map(_argument, record.args))
    elif isinstance(record.args, Mapping):
        record.args = {name: _argument(value) for name, value in record.args.items()}
    return True


def _argument(value: object) -> object:
    return value if isinstance(value, int | float) else shown(value)
