"""The Authorization header, and its redaction from whatever a server sends back."""

import base64
import re

from attrs import frozen

from codat_commerce_async._core.validation import check_str

__all__ = ["Credentials"]

# Searching for every spelling of the key takes about a millisecond per 4 KB.
_LONGEST_SEARCHED = 64 * 1024
_SHORTEST_KEY = 16
# In Codat's JSON: ids are hexadecimal digits, and texts are mostly lowercase.
_LETTERS_FROM_RAREST = "zqxjkvbpygfwmucldrhsnioate"
_CHARACTERS_FROM_RAREST = f"{_LETTERS_FROM_RAREST.upper()}{_LETTERS_FROM_RAREST}0123456789".encode()
_MAX_CHARACTERS = 8


class Credentials:
    """Keep the value of the Authorization header out of representations, pickles and messages.

    Takes the raw API key, or the header's value (`Basic ...`), which is what Codat's portal shows.
    """

    __slots__ = ("_redaction_pattern", "echoes", "header")

    def __init__(self, api_key: str | None, auth_header: str | None) -> None:
        self.header = _header_from(api_key, auth_header)
        """The header's value, which must only be sent."""
        encoded = self.header.removeprefix("Basic ").encode()
        secrets = (encoded.rstrip(b"=") or encoded, _decoded(encoded))
        self._redaction_pattern = _redaction_pattern(*secrets)
        self.echoes = tuple(_echo(secret) for secret in secrets if len(secret) >= _SHORTEST_KEY)
        """What a text contains that contains the key; secrets themselves."""

    def redact(self, body: bytes) -> bytes:
        """Return the body of an error without the key, in case a server or gateway has echoed it."""
        return self._redaction_pattern.sub(b"***", body) if len(body) <= _LONGEST_SEARCHED else self.redact_echo(body)

    def redact_echo(self, body: bytes) -> bytes:
        """Return any body without the key, at the cost of a substring search.

        A key that is too short to be one of Codat's is left, as it may be part of any text.
        """
        if any(echo.text in body for echo in self.echoes):
            return self._redaction_pattern.sub(b"***", body)
        return body

    def redact_text(self, text: str) -> str:
        """Return a header's value without the key."""
        return self.redact_echo(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def __repr__(self) -> str:
        return "Credentials(***)"

    def __reduce__(self) -> str:
        raise TypeError("credentials cannot be pickled; create the client where you need it")


@frozen(repr=False)
class _Echo:
    """What every body contains that contains a secret."""

    text: bytes
    """The longest part of the secret that is never escaped."""

    rarest: bytes
    """The rarest characters of the text: one of them that is missing is found faster than the text."""


def _echo(secret: bytes) -> _Echo:
    parts: list[bytes] = re.findall(rb"[A-Za-z0-9]+", secret)
    text = max(parts, key=len, default=secret)
    return _Echo(text, bytes(each for each in _CHARACTERS_FROM_RAREST if each in text)[:_MAX_CHARACTERS])


def _header_from(api_key: str | None, auth_header: str | None) -> str:
    if (api_key is None) == (auth_header is None):
        raise ValueError("either api_key or auth_header must be passed, and not both")
    name, given = ("api_key", api_key) if auth_header is None else ("auth_header", auth_header)
    given = check_str(name, given).strip()
    if not given or not given.isprintable():
        raise ValueError(f"{name} must be the key as Codat shows it: not empty, without control characters")
    if not given.isascii():
        raise ValueError(f"{name} must be the key as Codat shows it: ASCII characters only, as a header requires")
    scheme, _, rest = given.partition(" ")
    if scheme.lower() == "basic" and rest:
        return f"Basic {rest.strip()}"
    if auth_header is not None:
        raise ValueError("auth_header must be the header's whole value: 'Basic ' and the encoded key")
    return "Basic " + base64.b64encode(given.encode()).decode()


def _decoded(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        return b""


def _redaction_pattern(*secrets: bytes) -> re.Pattern[bytes]:
    r"""Return a pattern that finds the secrets, plain or as JSON and URLs escape them (.NET writes `+` as `\u002B`)."""
    return re.compile(b"|".join(b"".join(map(_escaped_forms, secret)) for secret in secrets if secret))


def _escaped_forms(byte: int) -> bytes:
    plain = re.escape(bytes((byte,)))
    return rb"(?:\\?%b|(?i:\\u00%02x|%%%02x))" % (plain, byte, byte)
