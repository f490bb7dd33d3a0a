"""The page that shows a simulator to people in a browser, on its own address."""

import json
from collections.abc import Callable, Mapping
from importlib.resources import files

from codat_commerce_async.simulator._api.http import Request, Response

__all__ = ["browsed"]

_FILES = {
    "/": ("index.html", "text/html"),
    "/simulator/page.css": ("page.css", "text/css"),
    "/simulator/page.js": ("page.js", "text/javascript"),
}
_STATE = "/simulator/state"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def browsed(request: Request, state: Callable[[], Mapping[str, object]]) -> Response | None:
    """What a browser gets, without a key, off the log and the quota; None for what is Codat's to answer."""
    if request.method != "GET":
        return None
    if request.path == _STATE:
        return _answer("application/json", json.dumps(state(), separators=(",", ":")).encode())
    # Codat has nothing at its root; only who asks for a page gets one there.
    if request.path not in _FILES or (request.path == "/" and "text/html" not in request.headers.get("accept", "")):
        return None
    name, content_type = _FILES[request.path]
    return _answer(content_type, files("codat_commerce_async.simulator").joinpath("_page", name).read_bytes())


def _answer(content_type: str, body: bytes) -> Response:
    return Response(200, {"Content-Type": f"{content_type}; charset=utf-8", **_HEADERS}, body)
