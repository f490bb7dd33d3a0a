"""One HTTP exchange, and the only place that knows how it is done."""

import base64
import math
import os
import platform
import re
import socket
import ssl
import traceback
import zlib
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

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
    "Credentials",
    "Request",
    "Response",
    "Session",
    "Transport",
    "parse_base_url",
]

Connector: TypeAlias = aiohttp.BaseConnector
Session: TypeAlias = aiohttp.ClientSession

# An answer of the API is a few megabytes at the very most; an endless one must not fill the memory.
MAX_BODY = 64 * 2**20
_LONGEST_LABEL = 63
# The search for every spelling of the key takes a millisecond for every 4 KB.
_LONGEST_SEARCHED = 64 * 1024
_SHORTEST_KEY = 16
_LONGEST_REASON = 300
_GZIP = b"\x1f\x8b"
_DEFAULT_HEADERS = {
    "Accept": "application/json",
    "User-Agent": f"codat-commerce-async/{__version__} Python/{platform.python_version()}",
}


class Request:
    """What is sent: `target` is the path and query, quoted; `body` goes out byte for byte.

    `headers` are those of this request; what all requests have in common is the transport's to add. `before_send`,
    if there is one, is called once a connection is there, right before the first byte is written; when it raises,
    nothing is sent. A transport that knows sets `started`: False before it connects, True when it begins to write.
    """

    __slots__ = ("before_send", "body", "headers", "method", "started", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> None:
        self.method = method
        self.target = target
        self.before_send: Callable[[], None] | None = None
        self.started: bool | None = None
        self.headers = headers
        self.body = body


class Response:
    """What came back, whole; `headers` can be asked in any case."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Transport(Protocol):
    """What sends a request once and gives the whole reply, or raises a TransportError."""

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Exchange one request for one reply."""
        ...

    async def aclose(self) -> None:
        """Let go of the connections."""
        ...


class Credentials:
    """The value of the Authorization header, out of sight.

    Takes the raw API key, or the value ready to send (`Basic ...`), which is what Codat's portal shows.
    """

    __slots__ = ("_anchors", "_header", "_traces")

    def __init__(self, api_key: str | None, auth_header: str | None) -> None:
        if (api_key is None) == (auth_header is None):
            raise ValueError("give either api_key or auth_header")
        name, given = ("api_key", api_key) if auth_header is None else ("auth_header", auth_header)
        if not isinstance(given, str):
            raise TypeError(f"{name} takes a string, not {type(given).__name__}")
        given = given.strip()
        if not given or not given.isprintable():
            raise ValueError(f"{name} takes the key as Codat shows it: not empty, no control characters")
        scheme, _, rest = given.partition(" ")
        if scheme.lower() == "basic" and rest:
            self._header = f"Basic {rest.strip()}"
        elif auth_header is not None:
            raise ValueError("auth_header takes the value ready to send: 'Basic ' and the encoded key")
        else:
            self._header = "Basic " + base64.b64encode(given.encode()).decode()
        encoded = self._header.removeprefix("Basic ").encode()
        secrets = (encoded.rstrip(b"=") or encoded, _decoded(encoded))
        self._traces = _spellings(*secrets)
        self._anchors = tuple(map(_anchor, (secret for secret in secrets if len(secret) >= _SHORTEST_KEY)))

    def header(self) -> str:
        """The header's value, for the wire only."""
        return self._header

    def redact(self, body: bytes) -> bytes:
        """Return the body of an error without the key in it, should a server or gateway have sent it back."""
        return self._traces.sub(b"***", body) if len(body) <= _LONGEST_SEARCHED else self.redact_echo(body)

    def redact_echo(self, body: bytes) -> bytes:
        """Return any body without the key in it, at the cost of a substring search.

        A key that is too short to be one of Codat's is left, as it may be part of any text.
        """
        return self._traces.sub(b"***", body) if any(anchor in body for anchor in self._anchors) else body

    def redact_text(self, text: str) -> str:
        """Return a header's value without the key in it."""
        return self.redact_echo(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def __repr__(self) -> str:
        return "Credentials(***)"

    def __reduce__(self) -> str:
        raise TypeError("credentials are not pickled; make the client anew where you need it")


def _decoded(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        return b""


def _anchor(secret: bytes) -> bytes:
    """The longest part of a secret that nobody escapes."""
    parts: list[bytes] = re.findall(rb"[A-Za-z0-9]+", secret)
    return max(parts, key=len, default=secret)


def _spellings(*secrets: bytes) -> re.Pattern[bytes]:
    r"""What finds the secrets in a body, plain or as JSON and URLs escape them (.NET writes `+` as `\u002B`)."""
    return re.compile(b"|".join(b"".join(map(_spelling, secret)) for secret in secrets if secret))


def _spelling(byte: int) -> bytes:
    plain = re.escape(bytes((byte,)))
    return rb"(?:\\?%b|(?i:\\u00%02x|%%%02x))" % (plain, byte, byte)


def _split_url(name: str, text: str) -> SplitResult:
    if not isinstance(text, str):
        raise TypeError(f"{name} takes a string, not {type(text).__name__}")
    parts = _parts(text)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{name} takes an http or https URL with a host")
    return parts


def _parts(text: str) -> SplitResult | None:
    """None for what is no URL: the standard library's error would quote it, with the password that may be in it."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts if text.isprintable() and not {" ", "\\"} & set(text) and _is_host(parts.hostname or "") else None


def _is_host(name: str) -> bool:
    """Whether the name could be looked up at all."""
    # https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4
    return ":" in name or all(1 <= len(label) <= _LONGEST_LABEL for label in name.removesuffix(".").split("."))


def _proxy_url_of(text: str) -> str:
    _split_url("proxy", text)
    return text


def parse_base_url(text: str) -> str:
    """The base URL without a slash at its end; raises ValueError for what is none."""
    parts = _split_url("base_url", text)
    if parts.query or parts.fragment:
        raise ValueError("base_url takes a URL with neither query nor fragment")
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url takes no user or password; give the key as api_key")
    return text.rstrip("/")


def _check_kinds(session: object, connector: object, ssl_context: object) -> None:
    """Raise TypeError for what only looks like one of aiohttp's, such as a wrapper around a session."""
    for name, value, kind in (
        ("session", session, aiohttp.ClientSession),
        ("connector", connector, aiohttp.BaseConnector),
        ("ssl_context", ssl_context, ssl.SSLContext),
    ):
        if value is not None and not isinstance(value, kind):
            given = f"{type(value).__module__}.{type(value).__qualname__}"
            raise TypeError(f"{name} must be an {kind.__module__.partition('.')[0]}.{kind.__name__}, not {given}")


class _ConnectionLost(aiohttp.ClientError):
    """A connection broke while a request was under way."""


class _Sending:
    """A client middleware for one attempt: it sends the request once at most, and notes when it does.

    It also sets the Authorization header, as late as that is possible: so the client's key replaces what a session,
    `.netrc` or a middleware brings along.
    """

    __slots__ = ("_authorization", "_request")

    def __init__(self, request: Request, authorization: str) -> None:
        self._request = request
        self._authorization = authorization

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Keep aiohttp from sending GET and PUT again by itself when a kept connection breaks.

        It does so, uncounted, on two exceptions; told by another that the connection broke, it lets the error through.
        https://github.com/aio-libs/aiohttp/discussions/10790
        """
        request.headers[aiohttp.hdrs.AUTHORIZATION] = self._authorization
        # aiohttp calls `send` with the connection that it has made or taken from its pool.
        request.send = partial(self._send, request.send)  # type: ignore[method-assign]
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise _ConnectionLost from error
        finally:
            # The request refers to itself by way of it, and would be left to the garbage collector.
            vars(request).pop("send", None)

    def _send(
        self, send: Callable[[Connection], Coroutine[Any, Any, aiohttp.ClientResponse]], connection: Connection
    ) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        if self._request.before_send is not None:
            self._request.before_send()
        self._request.started = True
        return send(connection)


class AiohttpTransport:
    """Sends over an aiohttp session: its own, made on first use, or a borrowed one, left as it is."""

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
    ) -> None:
        _check_kinds(session, connector, ssl_context)
        if session is not None and (connector is not None or trust_env):
            raise ValueError("a borrowed session brings its own connector and trust_env; give one or the other")
        self._base_url = base_url
        self._host = urlsplit(base_url).hostname
        self._credentials = credentials
        self._session = session
        self._owned = session is None
        self._connector = connector
        self._trust_env = trust_env
        self._closed = False
        self._timeouts: dict[Timeouts, aiohttp.ClientTimeout] = {}
        # A borrowed session may be set up to raise for a status or to leave bodies compressed.
        self._routing: dict[str, Any] = {
            "allow_redirects": False,
            "raise_for_status": False,
            "auto_decompress": True,
        }
        if proxy is not None:
            self._routing["proxy"] = _proxy_url_of(proxy)
        if ssl_context is not None:
            self._routing["ssl"] = ssl_context
        # Given per request, middlewares replace a borrowed session's own, which are to run as ever.
        self._middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = getattr(session, "_middlewares", ())

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Exchange one request for one reply; raises TransportError, and nothing of aiohttp's.

        Raises ClientClosedError when nothing was sent because the session is closed.
        """
        session = self._session if self._session is not None or self._closed else self._open()
        if session is None or session.closed or self._closed:
            raise ClientClosedError("the client is closed" if self._closed else "the session is closed")
        request.started = False
        try:
            return await self._exchange(session, request, timeouts)
        except CodatError as error:
            failure: BaseException = error
        except Exception as error:  # noqa: BLE001 - it is raised below, as one of ours
            closed = session.closed and not request.started
            failure = (
                ClientClosedError("the session is closed")
                if closed
                else _map_exception(error, self._host, sent=request.started)
            )
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failure = error
        # Outside of the handlers and without its past, as aiohttp's exceptions and the frames below hold the headers.
        failure.__context__ = None
        raise failure.with_traceback(None)

    async def aclose(self) -> None:
        """Close the session, if it is ours."""
        self._closed = True
        if self._owned and self._session is not None:
            await self._session.close()

    @property
    def is_open(self) -> bool:
        """Whether a session of ours is still open."""
        return self._owned and self._session is not None and not self._session.closed

    async def _exchange(self, session: aiohttp.ClientSession, request: Request, timeouts: Timeouts) -> Response:
        response = await session.request(
            request.method,
            URL(self._base_url + request.target, encoded=True),
            # A session of ours has the common ones from the start, a borrowed one is not altered.
            headers=request.headers if self._owned else {**_DEFAULT_HEADERS, **request.headers},
            data=request.body,
            timeout=self._timeout(timeouts),
            middlewares=(*self._middlewares, _Sending(request, self._credentials.header())),
            **self._routing,
        )
        try:
            body = await _read(response)
            return Response(response.status, response.headers, _plain(response, body) if body else body)
        finally:
            response.release()

    def _open(self) -> aiohttp.ClientSession:
        # The gate bounds what is in flight; a bound here would only hide the wait for a connection in the timeouts.
        connector = self._connector or aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=self._connector is None,
            headers=_DEFAULT_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
        )
        return self._session

    def _timeout(self, timeouts: Timeouts) -> aiohttp.ClientTimeout:
        known = self._timeouts.get(timeouts)
        if known is None:
            known = self._timeouts[timeouts] = aiohttp.ClientTimeout(
                total=_finite(timeouts.total),
                sock_connect=_finite(timeouts.connect),
                # A timer for every piece that is read costs more than all the rest of it; the total's will do.
                sock_read=_finite(timeouts.read) if timeouts.read < timeouts.total else None,
            )
        return known


def _finite(seconds: float) -> float | None:
    """The seconds as aiohttp takes them, which counts None for no bound and cannot round infinity."""
    return seconds if math.isfinite(seconds) else None


def _map_exception(error: Exception, host: str | None, *, sent: bool) -> TransportError:
    """The error as one of ours; whatever a host application's tracing or middleware raises becomes one too."""
    row = next((row for row in _EXCEPTION_MAP if isinstance(error, row[0])), None)
    _, ours, message, repeatable = row or (Exception, TransportError, f"the HTTP client raised {_raised(error)}", False)
    if isinstance(error, TimeoutError) and not sent:
        message = "connecting took too long"
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        message, repeatable = f"{message} with {error.status}", is_retryable_status(error.status)
    reason, address = _reason(error), getattr(error, "host", host)
    return ours(f"{message}: {reason}" if reason else message, None, sent, repeatable, address, _errno(error), reason)


def _raised(error: Exception) -> str:
    """The type of an exception and where it was raised. Its text is left out, as it may contain anything."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


def _reason(error: Exception) -> str | None:
    """Why no connection was made, in the words of OpenSSL or the operating system, which know no credentials."""
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
    """The number that the operating system gave, also when another exception stands before its."""
    number = getattr(error, "errno", None)
    if number is None and error.__cause__ is not None:
        number = getattr(error.__cause__, "errno", None)
    return number if isinstance(number, int) else None


class _EndlessBodyError(aiohttp.ClientError):
    """The body is larger than any answer of the API."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, as long as it ends within reason."""
    content = response.content
    body = await content.readany()
    if content.at_eof():
        # Empty also when a host application's tracing or middleware has read it: then the response has kept it.
        return body or await response.read()
    pieces = [body]
    size = len(body)
    while not content.at_eof():
        piece = await content.readany()
        size += len(piece)
        if size > MAX_BODY:
            raise _EndlessBodyError
        pieces.append(piece)
    return b"".join(pieces)


def _plain(response: aiohttp.ClientResponse, body: bytes) -> bytes:
    """The body without the one compression that aiohttp does not undo, gzip under its older name.

    Source: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3
    """
    if response.headers.get("Content-Encoding", "").strip().lower() != "x-gzip" or not body.startswith(_GZIP):
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


# In order of precedence, as some are kinds of others: aiohttp's exception, ours, what it means, whether trying again
# can help.
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
    (aiohttp.ServerTimeoutError, RequestTimeoutError, "the answer took too long", True),
    (TimeoutError, RequestTimeoutError, "the answer took too long", True),
    (_EndlessBodyError, TransportError, "the answer is too large to be one", False),
    (aiohttp.ClientPayloadError, TransportError, "the answer was cut off", True),
    (aiohttp.ClientResponseError, TransportError, "the answer is not valid HTTP", False),
    (aiohttp.ClientError, TransportError, "the connection was lost before the answer", True),
    (OSError, TransportError, "the connection was lost before the answer", True),
)
