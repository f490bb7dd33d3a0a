"""Distinguish a platform that throttles one company from a limit on all requests."""

__all__ = ["ThrottledCompanies"]

# So many companies make a common cause likely. Each of them is paused anyway, so the number may be low.
_SEVERAL = 3
# Responses within so many seconds count as simultaneous.
_SAME_TIME = 5.0


class ThrottledCompanies:
    """Track the companies that received a 429 recently, while no request of another company succeeded.

    A request that was sent after a 429 and succeeded shows that not all requests are throttled.
    """

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def add(self, company_id: str, now: float) -> bool:
        """Record a company's 429; return whether several companies received one at about the same time."""
        self._since = {each: since for each, since in self._since.items() if now - since <= _SAME_TIME}
        self._since.setdefault(company_id, now)
        return len(self._since) >= _SEVERAL

    def note_success(self, sent_at: float) -> None:
        """Forget the 429s that were received before a request was sent that then succeeded."""
        self._since = {each: since for each, since in self._since.items() if since >= sent_at}
