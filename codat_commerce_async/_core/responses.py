"""Turn a response with an error status into an error; its body only adds to the message."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TypeVar

from codat_commerce_async._core import codec as _codec
from codat_commerce_async._core import headers as _headers
from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._core.text import excerpt, is_same_text
from codat_commerce_async._core.transport import Response
from codat_commerce_async.errors import StatusError, status_error_class
from codat_commerce_async.models.error_message import ErrorMessage, ErrorValidation, ErrorValidationItem

__all__ = ["error_from_response", "error_message"]

T = TypeVar("T")

# At most this many validation errors are shown; `StatusError.validation_errors` has all.
_SHOWN_ITEMS = 3
# The keys under which other services put their message; the first two are of https://www.rfc-editor.org/rfc/rfc9457
_MESSAGE_KEYS = ("title", "detail", "message", "error", "error_description", "reason")
_KEY_HINT = "the API key is not accepted; pass a valid one as api_key (from_env: CODAT_API_KEY) or in auth_header"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def error_from_response(response: Response, credentials: Credentials, now: float) -> StatusError:
    """Return the error that a response with an error status is; `now` is in epoch seconds."""
    body = credentials.redact(response.body)
    error = error_message(body)
    phrase = _phrase(response.status)
    detail = "; ".join(_message_parts(error, phrase)) if error else ""
    correlation = f" (correlation id {excerpt(error.correlation_id)})" if error and error.correlation_id else ""
    detail = _with_hint(response.status, detail or _message_of_other_body(body, phrase))
    return status_error_class(response.status)(
        f"{response.status} {phrase}".rstrip() + f": {detail}{correlation}",
        None,
        response.status,
        error,
        _headers.retry_after(response.headers, now),
        _headers.rate_limit(response.headers, now),
    )


def error_message(body: bytes) -> ErrorMessage | None:
    """Return Codat's error message, without the fields that are of the wrong type; None if the body has none."""
    try:
        data = _if_type(dict, _codec.parse(body)) or {}
    except (ValueError, RecursionError):
        return None
    message = ErrorMessage(
        status_code=_if_type(int, data.get("statusCode")),
        service=_if_type(str, data.get("service")),
        error=_if_type(str, data.get("error")),
        correlation_id=_if_type(str, data.get("correlationId")),
        validation=_error_validation(data.get("validation")),
        can_be_retried=_if_type(str, data.get("canBeRetried")),
        detailed_error_code=_if_type(int, data.get("detailedErrorCode")),
    )
    return None if message == ErrorMessage() else message


def _if_type(kind: type[T], value: object) -> T | None:
    return value if type(value) is kind else None


def _error_validation(data: object) -> ErrorValidation | None:
    if not isinstance(data, dict):
        return None
    return ErrorValidation(
        errors=_error_validation_items(data.get("errors")),
        warnings=_error_validation_items(data.get("warnings")),
    )


def _error_validation_items(data: object) -> tuple[ErrorValidationItem, ...]:
    return tuple(
        ErrorValidationItem(
            item_id=_if_type(str, item.get("itemId")),
            message=_if_type(str, item.get("message")),
            validator_name=_if_type(str, item.get("validatorName")),
        )
        for item in _if_type(list, data) or ()
        if isinstance(item, dict)
    )


def _message_parts(error: ErrorMessage, phrase: str) -> Iterator[str]:
    """Yield Codat's message, unless it only repeats the status, and a summary of its validation errors."""
    if error.error and not is_same_text(error.error, phrase):
        yield excerpt(error.error)
    found = error.validation.errors if error.validation else ()
    if found:
        shown = [excerpt(item.message or item.validator_name or item.item_id or "?") for item in found[:_SHOWN_ITEMS]]
        more = ["..."] if len(found) > _SHOWN_ITEMS else []
        yield f"{len(found)} validation error{'s' * (len(found) > 1)}: {'; '.join(shown + more)}"


def _message_of_other_body(body: bytes, phrase: str) -> str:
    """Return the message of a body that is not of Codat's shape: a problem document, other JSON, or plain text.

    Texts that only repeat the status or one another are left out.
    """
    found = [phrase]
    for text in _texts_of_other_body(body):
        if text.strip() and not any(is_same_text(text, each) for each in found):
            found.append(text)
    return ": ".join(map(excerpt, found[1:]))


def _texts_of_other_body(body: bytes) -> list[str]:
    try:
        data = _codec.parse(body)
    except (ValueError, RecursionError):
        return [_plain_text(body)]
    found = [data.get(key) for key in _MESSAGE_KEYS] if isinstance(data, Mapping) else [data]
    return [text for text in found if isinstance(text, str)]


def _plain_text(body: bytes) -> str:
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        return ""
    # The first characters of an HTML page or of a truncated object explain nothing.
    return "" if text.startswith(("<", "{", "[")) else text


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _with_hint(status: int, detail: str) -> str:
    """Return the server's explanation with what to do about the status; without one, what the status means."""
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{detail.rstrip('.')}; {_KEY_HINT}" if detail else _KEY_HINT
    return detail or _default_detail(status)


def _default_detail(status: int) -> str:
    if status == HTTPStatus.FORBIDDEN:
        return "the API key may be outdated, or may not give access to this resource"
    if status in _REDIRECTS:
        return "a redirect, which is not followed; check the base URL"
    if status == HTTPStatus.NOT_MODIFIED:
        return "the request has no condition; a cache on the way must have responded"
    return "no reason given"
