"""Send one HTTP request and return its response. The only module that uses aiohttp."""

import math
import os
import platform
import socket
import ssl
import traceback
import zlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.connector import Connection
from attrs import define, field
from yarl import URL

from codat_commerce_async._core.credentials import Credentials
from codat_commerce_async._version import __version__
from codat_commerce_async.errors import (
    ClientClosedError,
    CodatError,
    RequestTimeoutError,
    TransportError,
    is_retryable_status,
)
from codat_commerce_async.policies import Timeouts

__all__ = [
    "AiohttpTransport",
    "Connector",
    "Request",
    "Response",
    "Session",
    "Transport",
    "parse_base_url",
]

Connector: TypeAlias = aiohttp.BaseConnector
Session: TypeAlias = aiohttp.ClientSession

# Responses of the API have a few megabytes at the very most; an endless one must not fill the memory.
MAX_BODY = 64 * 2**20
_LONGEST_LABEL = 63
_LONGEST_REASON = 300
_GZIP = b"\x1f\x8b"
_DEFAULT_HEADERS = {
    "Accept": "application/json",
    "User-Agent": f"codat-commerce-async/{__version__} Python/{platform.python_version()}",
}


# Without a repr, as bodies and headers may contain secrets.
@define(eq=False, repr=False)
class Request:
    """A request that a transport sends.

    `target` is the quoted path and query, relative to the base URL. `headers` are those of this request; the transport
    adds the Authorization header and those that all requests have in common. `body` is sent byte for byte.

    `before_send`, if set, must be called when a connection is available, right before the first byte is written. If it
    raises, nothing may be sent. A transport that reports it sets `started`: False before it connects, True when it
    starts to write.
    """

    method: str
    """The HTTP method."""

    target: str
    """The quoted path and query, relative to the base URL."""

    headers: dict[str, str]
    """The headers of this request."""

    body: bytes | None
    """The bytes to send."""

    before_send: Callable[[], None] | None = field(default=None, init=False)
    """Must be called right before the first byte is written, if it is set."""

    started: bool | None = field(default=None, init=False)
    """Whether the transport has started to write; None if it does not know."""


@define(eq=False, repr=False)
class Response:
    """A whole response. `headers` must find a header whatever the case of its name."""

    status: int
    """The HTTP status."""

    headers: Mapping[str, str]
    """The headers, found by their names in any case."""

    body: bytes
    """The bytes of the body."""


class Transport(Protocol):
    """The interface of a transport. Pass your own as `CodatCommerce(key, transport=...)`, for example in tests."""

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Send the request once and return its response, whatever its status.

        Args:
            request: The request.
            timeouts: How long the request may take.

        Raises:
            TransportError: There is no whole response.
            ClientClosedError: The connections are closed.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


def _split_url(name: str, text: str) -> SplitResult:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string (got {type(text).__name__})")
    parts = _parts(text)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{name} must be an http or https URL with a host")
    return parts


def _parts(text: str) -> SplitResult | None:
    """Return the parts of a URL, or None: the standard library's error would quote a password in an invalid one."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts if text.isprintable() and not {" ", "\\"} & set(text) and _is_host(parts.hostname or "") else None


def _is_host(name: str) -> bool:
    """Return whether the name is a valid host name or IP address."""
    # https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4
    return ":" in name or all(1 <= len(label) <= _LONGEST_LABEL for label in name.removesuffix(".").split("."))


def parse_base_url(text: str) -> str:
    """Return the base URL without a slash at its end; raise ValueError if it is invalid."""
    parts = _split_url("base_url", text)
    if parts.query or parts.fragment:
        raise ValueError("base_url must be a URL without query and fragment")
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not contain a user or password; pass the key as api_key")
    return text.rstrip("/")


def _check_kinds(session: object, connector: object, ssl_context: object) -> None:
    """Raise TypeError for objects that only resemble aiohttp's, such as a wrapper around a session."""
    for name, value, kind in (
        ("session", session, aiohttp.ClientSession),
        ("connector", connector, aiohttp.BaseConnector),
        ("ssl_context", ssl_context, ssl.SSLContext),
    ):
        if value is not None and not isinstance(value, kind):
            given = f"{type(value).__module__}.{type(value).__qualname__}"
            raise TypeError(f"{name} must be an {kind.__module__.partition('.')[0]}.{kind.__name__}, not {given}")


_Send: TypeAlias = Callable[[Connection], Coroutine[Any, Any, aiohttp.ClientResponse]]


class _ConnectionLost(aiohttp.ClientError):
    """A connection broke during a request."""


class _NoReplay:
    """Send one attempt's request at most once, and record when that happens: a client middleware.

    It also sets the Authorization header, as late as possible, so that the client's key replaces what a session,
    `.netrc` or another middleware has set.
    """

    __slots__ = ("_authorization", "_request", "_send_by_aiohttp")

    def __init__(self, request: Request, authorization: str) -> None:
        self._request = request
        self._authorization = authorization

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Keep aiohttp from sending GET and PUT again by itself when a kept connection breaks.

        It does so, uncounted, on two exceptions; an exception of another type passes through.
        https://github.com/aio-libs/aiohttp/discussions/10790
        """
        request.headers[aiohttp.hdrs.AUTHORIZATION] = self._authorization
        self._send_by_aiohttp: _Send | None = request.send
        # aiohttp calls `send` with the connection that it has made or taken from its pool.
        request.send = self._send  # type: ignore[method-assign]
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise _ConnectionLost from error
        finally:
            # The request refers to this object: a cycle, which would keep both until the next garbage collection.
            self._send_by_aiohttp = None

    def _send(self, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        send, self._send_by_aiohttp = self._send_by_aiohttp, None
        assert send is not None  # noqa: S101 - for the type checker: aiohttp sends a request once
        if self._request.before_send is not None:
            self._request.before_send()
        self._request.started = True
        return send(conn)


class AiohttpTransport:
    """Send requests with an aiohttp session: its own, created on first use, or a borrowed one, which is not altered."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        session: aiohttp.ClientSession | None = None,
        connector: aiohttp.BaseConnector | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trust_env: bool = False,
        user_agent: str | None = None,
    ) -> None:
        _check_kinds(session, connector, ssl_context)
        if session is not None and (connector is not None or trust_env):
            raise ValueError("session must not be combined with connector or trust_env: a borrowed session has its own")
        self._base_url = base_url
        self._host = urlsplit(base_url).hostname
        self._credentials = credentials
        self._session = session
        self._owned = session is None
        self._connector = connector
        self._trust_env = trust_env
        self._closed = False
        self._headers = _headers_with(user_agent)
        # The timeouts of the last request, and the same as aiohttp takes them.
        self._timeouts: Timeouts | None = None
        self._aiohttp_timeout = aiohttp.ClientTimeout()
        # A borrowed session may be set up to raise for a status or to leave bodies compressed.
        self._request_options: dict[str, Any] = {"allow_redirects": False}
        if session is not None:
            self._request_options |= {"raise_for_status": False, "auto_decompress": True}
        if proxy is not None:
            _split_url("proxy", proxy)
            self._request_options["proxy"] = proxy
        if ssl_context is not None:
            self._request_options["ssl"] = ssl_context
        # Middlewares passed with a request replace those of a borrowed session, so they are passed again.
        self._middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = getattr(session, "_middlewares", ())

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Send the request and return its response.

        Raises TransportError for every error of aiohttp, and ClientClosedError when nothing was sent because the
        session is closed.
        """
        session = self._session if self._session is not None or self._closed else self._open()
        if session is None or session.closed or self._closed:
            raise ClientClosedError("the client is closed" if self._closed else "the session is closed")
        request.started = False
        try:
            response = await session.request(
                request.method,
                URL(self._base_url + request.target, encoded=True),
                # Its own session has the default headers; a borrowed one is not altered.
                headers=request.headers if self._owned else {**self._headers, **request.headers},
                data=request.body,
                timeout=self._timeout(timeouts),
                middlewares=(*self._middlewares, _NoReplay(request, self._credentials.header)),
                **self._request_options,
            )
            try:
                # aiohttp releases the connection at the end of the body.
                body = await _read(response)
            except BaseException:
                response.close()
                # It knows the headers of its request, and tracebacks show the variables of this frame.
                del response
                raise
            return Response(response.status, response.headers, body)
        except CodatError as error:
            failure: BaseException = error
        except Exception as error:  # noqa: BLE001 - it is mapped and raised below
            closed = session.closed and not request.started
            failure = (
                ClientClosedError("the session is closed")
                if closed
                else _map_exception(error, self._host, sent=request.started)
            )
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failure = error
        # Raised outside the handlers, without context and traceback: both would expose the Authorization header.
        failure.__context__ = None
        raise failure.with_traceback(None)

    async def aclose(self) -> None:
        """Close the session, unless it is borrowed."""
        self._closed = True
        if self._owned and self._session is not None:
            await self._session.close()

    @property
    def is_open(self) -> bool:
        """Whether the transport has a session of its own that is open."""
        return self._owned and self._session is not None and not self._session.closed

    def _open(self) -> aiohttp.ClientSession:
        # The rate limiter bounds what is in flight; with a bound here, waiting for a connection counted as connecting.
        connector = self._connector or aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=self._connector is None,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
        )
        return self._session

    def _timeout(self, timeouts: Timeouts) -> aiohttp.ClientTimeout:
        # A client passes the same object with every request.
        if timeouts is not self._timeouts:
            self._timeouts = timeouts
            self._aiohttp_timeout = aiohttp.ClientTimeout(
                total=_finite(timeouts.total),
                sock_connect=_finite(timeouts.connect),
                # A timer for every chunk is expensive, and adds nothing to that of `total`.
                sock_read=_finite(timeouts.read) if timeouts.read < timeouts.total else None,
            )
        return self._aiohttp_timeout


def _headers_with(user_agent: str | None) -> dict[str, str]:
    """Return the headers of all requests; `user_agent` is appended to the library's own."""
    if user_agent is None:
        return _DEFAULT_HEADERS
    if not isinstance(user_agent, str):
        raise TypeError(f"user_agent must be a string (got {type(user_agent).__name__})")
    if not (user_agent.isascii() and user_agent.isprintable() and user_agent.strip()):
        raise ValueError("user_agent must be printable ASCII text, such as 'nightly/1.0 process/4711'")
    return {**_DEFAULT_HEADERS, "User-Agent": f"{_DEFAULT_HEADERS['User-Agent']} {user_agent.strip()}"}


def _finite(seconds: float) -> float | None:
    """Return the seconds as aiohttp expects them: it cannot round infinity, and takes None for no bound."""
    return seconds if math.isfinite(seconds) else None


def _map_exception(error: Exception, host: str | None, *, sent: bool) -> TransportError:
    """Return the error as a TransportError, also one that an application's tracing or middleware has raised."""
    row = next((row for row in _EXCEPTION_MAP if isinstance(error, row[0])), None)
    _, ours, message, repeatable = row or (Exception, TransportError, f"the HTTP client raised {_raised(error)}", False)
    if isinstance(error, TimeoutError) and not sent:
        message = "connecting took too long"
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        message, repeatable = f"{message} with {error.status}", is_retryable_status(error.status)
    message += _address(error)
    reason, address = _reason(error), getattr(error, "host", host)
    return ours(f"{message}: {reason}" if reason else message, None, sent, repeatable, address, _errno(error), reason)


def _address(error: Exception) -> str:
    """Return in parentheses to which host and port no connection was made; nothing for other errors."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return ""
    host = f"[{error.host}]" if ":" in error.host else error.host
    return f" ({host})" if error.port is None else f" ({host}:{error.port})"


def _raised(error: Exception) -> str:
    """Return the type of an exception and where it was raised; not its text, as that may contain a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


def _reason(error: Exception) -> str | None:
    """Return why no connection was made, from OpenSSL or the operating system, which know no credentials."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = getattr(error.certificate_error, "verify_message", None)
    elif isinstance(error, aiohttp.ClientConnectorError):
        text = _system_reason(error.os_error)
    else:
        text = None
    return _printable(text) if isinstance(text, str) and text else None


def _system_reason(error: OSError) -> str | None:
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else None
    if isinstance(error, socket.gaierror):
        return error.strerror
    return os.strerror(error.errno) if error.errno is not None else None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:_LONGEST_REASON])


def _errno(error: BaseException) -> int | None:
    """Return the `errno` of the error, or of its cause."""
    number = getattr(error, "errno", None)
    if number is None and error.__cause__ is not None:
        number = getattr(error.__cause__, "errno", None)
    return number if isinstance(number, int) else None


class _EndlessBodyError(aiohttp.ClientError):
    """The body is larger than any response of the API."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the whole body; raise _EndlessBodyError above MAX_BODY."""
    content = response.content
    body = await content.readany()
    if not content.at_eof():
        body = await _read_rest(content, body)
    elif not body:
        # Also when an application's tracing or middleware has read it; the response has kept it then.
        body = await response.read()
    return _decompress(response, body) if body.startswith(_GZIP) else body


async def _read_rest(content: aiohttp.StreamReader, first: bytes) -> bytes:
    """Return the whole body, of which the first bytes have been read."""
    pieces = [first]
    size = len(first)
    while not content.at_eof():
        piece = await content.readany()
        size += len(piece)
        if size > MAX_BODY:
            raise _EndlessBodyError
        pieces.append(piece)
    return b"".join(pieces)


def _decompress(response: aiohttp.ClientResponse, body: bytes) -> bytes:
    """Return the body without `x-gzip`, the one compression that aiohttp does not undo.

    Source: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3
    """
    if response.headers.get("Content-Encoding", "").strip().lower() != "x-gzip":
        return body
    plain = b""
    while body.startswith(_GZIP):
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            plain += member.decompress(body, MAX_BODY + 1 - len(plain))
        except zlib.error as error:
            raise aiohttp.ClientPayloadError from error
        if len(plain) > MAX_BODY:
            raise _EndlessBodyError
        if not member.eof:
            raise aiohttp.ClientPayloadError
        body = member.unused_data
    return plain


# In order of precedence, as some are subclasses of others: aiohttp's exception, the class to raise, its message, and
# whether a retry can help.
_EXCEPTION_MAP: tuple[tuple[type[Exception], type[TransportError], str, bool], ...] = (
    (aiohttp.InvalidURL, TransportError, "the URL is not valid", False),
    (aiohttp.ClientConnectorCertificateError, TransportError, "the server's certificate is not valid", False),
    (aiohttp.ServerFingerprintMismatch, TransportError, "the server's certificate is not the pinned one", False),
    (aiohttp.ClientConnectorSSLError, TransportError, "no TLS connection could be made", False),
    (aiohttp.ClientSSLError, TransportError, "no TLS connection could be made", False),
    (aiohttp.ConnectionTimeoutError, RequestTimeoutError, "connecting took too long", True),
    (aiohttp.ClientProxyConnectionError, TransportError, "the proxy cannot be reached", True),
    (aiohttp.ClientHttpProxyError, TransportError, "the proxy refused the connection", False),
    (aiohttp.ClientConnectorDNSError, TransportError, "the server's name cannot be resolved", True),
    (aiohttp.ClientConnectorError, TransportError, "the server cannot be reached", True),
    (aiohttp.ServerTimeoutError, RequestTimeoutError, "the response took too long", True),
    (TimeoutError, RequestTimeoutError, "the response took too long", True),
    (_EndlessBodyError, TransportError, "the response is too large", False),
    (aiohttp.ClientPayloadError, TransportError, "the response was cut off", True),
    (aiohttp.ClientResponseError, TransportError, "the response is not valid HTTP", False),
    (aiohttp.ClientError, TransportError, "the connection was lost before the response", True),
    (OSError, TransportError, "the connection was lost before the response", True),
)
