"""Serve the page that shows the simulator in a browser."""

import json
from collections.abc import Callable, Mapping
from importlib.resources import files

from codat_commerce_async.simulator._api.http import Request, Response

__all__ = ["page_response"]

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


def page_response(request: Request, state: Callable[[], Mapping[str, object]]) -> Response | None:
    """Return the page, one of its files or its state; None for a request of Codat's API.

    These requests need no key, are not logged and do not count against the quota.
    """
    if request.method != "GET":
        return None
    if request.path == _STATE:
        return _response("application/json", json.dumps(state(), separators=(",", ":")).encode())
    # The API has no operation at its root; a request that accepts HTML gets the page.
    if request.path not in _FILES or (request.path == "/" and "text/html" not in request.headers.get("accept", "")):
        return None
    name, content_type = _FILES[request.path]
    return _response(content_type, files("codat_commerce_async.simulator").joinpath("_page", name).read_bytes())


def _response(content_type: str, body: bytes) -> Response:
    return Response(200, {"Content-Type": f"{content_type}; charset=utf-8", **_HEADERS}, body)
