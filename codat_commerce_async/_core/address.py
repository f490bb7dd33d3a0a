"""Warn about clients of one process that send to the same server without sharing a rate limiter."""

import ipaddress
import threading
from typing import Protocol
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from codat_commerce_async._core.local_rate_limiter import LocalRateLimiter
from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.rate_limiter import RateLimiter

__all__ = ["warn_of_separate_limiters"]

_logger = logger_of("quota")


class _Client(Protocol):
    @property
    def closed(self) -> bool: ...

    def __hash__(self) -> int: ...


# The server and rate limiter of each client that has not been garbage-collected.
_clients: WeakKeyDictionary[_Client, tuple[str, RateLimiter]] = WeakKeyDictionary()
_lock = threading.Lock()


def warn_of_separate_limiters(client: _Client, base_url: str, limiter: RateLimiter) -> None:
    """Log a warning if another open client sends to the same server, and the two do not share a rate limiter.

    Codat's limit per minute holds for the IP address, whatever the API key. Of any number of such clients, only the
    second causes a warning. A limiter of another class may share its count by other means, so it causes none.
    """
    server = urlsplit(base_url).netloc.lower()
    if _is_loopback(urlsplit(base_url).hostname or ""):
        return
    with _lock:
        others = [known for each, (at, known) in list(_clients.items()) if at == server and not each.closed]
        _clients[client] = server, limiter
    if not others or not isinstance(limiter, LocalRateLimiter) or _share(limiter, others[0]):
        return
    if all(_share(each, others[0]) for each in others[1:]):
        _logger.warning(
            "another client of this process sends to %s with a rate limiter of its own, but Codat's limit per minute "
            "holds for the IP address, whatever the API key; create limiter = LocalRateLimiter() once and pass "
            "rate_limiter=limiter to each client, or use one client for everything",
            server,
            extra=extra_fields(),
        )


def _share(one: RateLimiter, other: RateLimiter) -> bool:
    return one is other or (isinstance(one, LocalRateLimiter) and one.shares_address_with(other))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
