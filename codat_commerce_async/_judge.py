"""Which error an answer is, by its status; its body only adds to what the error says."""

from http import HTTPStatus

from codat_commerce_async import _codec, _headers
from codat_commerce_async._transport import Credentials, Reply
from codat_commerce_async.errors import StatusError, status_error_class

__all__ = ["judge"]

# What the server says of an error goes into the message, but not a whole page of it.
_LONGEST_TEXT = 300
_LONGEST_BODY = 64 * 1024


def judge(reply: Reply, credentials: Credentials, now: float) -> StatusError | None:
    """The error that a reply is, or None if it is none; `now` is in epoch seconds."""
    if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    error = _codec.decode_error_message(credentials.redact(reply.body[:_LONGEST_BODY]))
    said = _line(error.error) if error and error.error else _unsaid(reply.status)
    correlation = f" (correlation id {_line(error.correlation_id)})" if error and error.correlation_id else ""
    return status_error_class(reply.status)(
        f"{_name(reply.status)}: {said}{correlation}",
        None,
        reply.status,
        error,
        _headers.retry_after(reply.headers, now),
        _headers.rate_limit(reply.headers, now),
    )


def _line(text: str) -> str:
    """The text as a part of a line, which can end no line of a log nor color a terminal."""
    return "".join(character if character.isprintable() else " " for character in text[:_LONGEST_TEXT])


def _name(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _unsaid(status: int) -> str:
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return "a redirect, which is not followed; check base_url"
    return "the answer does not say why"
