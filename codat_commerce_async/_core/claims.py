"""Which created resource belongs to which request of one client, so that none is ever assigned to two requests.

A `Claim` is the entry of one request here. To adopt a resource is to assign it to a request whose response did not name
it. An alias is an id that only the response has, where lists show another: the `commerceSyncId` of a sync.
"""

from datetime import datetime

from attrs import define

from codat_commerce_async._core.idempotency import DRIFT, KEY_RETENTION, FirstUse

__all__ = ["Claim", "Claims"]

# Three per request: at a start, a poll and a lookup each, 1,000 requests a minute need hours to reach it. What is
# dropped then started long before any request whose outcome is unknown.
_MAX_IDENTIFIERS = 100_000
_MAX_OPEN_GROUPS = 20_000
_MAX_OPEN_IN_GROUP = 1_000


@define(eq=False)
class Claim:
    """One request, and the resource it created as far as that is known.

    `since` and `deadline` are server times: when the request was first sent, and after which it was not sent any more
    (None: it is still in flight). `alias` is the id that the response named, where the list shows another; `created_at`
    is the time of creation in the response. `first_use` holds the readings of all clocks when this process first sent
    the request.
    """

    group: str
    first_use: FirstUse | None = None
    since: datetime | None = None
    deadline: datetime | None = None
    alias: str | None = None
    id: str | None = None
    created_at: datetime | None = None

    def may_have_created(self, created_at: datetime | None) -> bool:
        """Return True unless the request was certainly sent after that moment, or long before it."""
        if created_at is None:
            return True
        if self.since is not None and created_at < self.since - DRIFT:
            return False
        # A resource that the response named existed when it was sent.
        return self.deadline is None or created_at <= self.deadline + (KEY_RETENTION if self.alias is None else DRIFT)


class Claims:
    """The requests of one client by group: the company of a sync, or the name of a new company.

    A resource in a group has one owner. Requests without a known resource stay open: as long as one may have created a
    candidate, no other request adopts it.
    """

    def __init__(self) -> None:
        # By group and identifier: a key of the request, or an id of its resource.
        self._owners: dict[tuple[str, str], Claim] = {}
        # By group.
        self._open: dict[str, list[Claim]] = {}

    def claim(self, group: str, *identifiers: str | None) -> Claim:
        """Return the group's claim that has one of these keys or ids, or a new one."""
        owners = (self._owners.get((group, each)) for each in identifiers if each is not None)
        return next((owner for owner in owners if owner is not None), None) or Claim(group)

    def mark_sent(self, claim: Claim, key: str, at: datetime) -> None:
        """Record that the request was, or is about to be, sent under this key."""
        self._set_owner(claim, key)
        claim.deadline = None
        if claim.since is None or at < claim.since:
            claim.since = at
        self._keep_open(claim)

    def sending_ended(self, claim: Claim, at: datetime) -> None:
        """Record that the request is not sent any more after this server time, whatever its outcome."""
        claim.deadline = at

    def remove(self, claim: Claim) -> None:
        """Record that the request created nothing."""
        self._close(claim)

    def record_response(self, claim: Claim, alias: str | None, created_at: datetime | None, at: datetime) -> None:
        """Record the response: the resource exists, under an id that the list may not show."""
        claim.alias, claim.created_at, claim.deadline = alias, created_at, at
        if alias is not None:
            self._set_owner(claim, alias)
        if claim.id is None:
            self._keep_open(claim)

    def assign(self, claim: Claim, resource: str, *, proven: bool = False) -> bool:
        """Make the claim the owner of a resource; return False if it is another's. Only a proof replaces an owner."""
        owner = self._owners.get((claim.group, resource))
        if owner is not None and owner is not claim and not proven:
            return False
        claim.id = resource
        self._close(claim)
        self._set_owner(claim, resource)
        return True

    def is_others(self, claim: Claim, identifier: str) -> bool:
        """Return True if the resource with this id, or the key, belongs to another request."""
        owner = self._owners.get((claim.group, identifier))
        return owner is not None and owner is not claim

    def others(self, claim: Claim) -> list[Claim]:
        """Return the group's other requests whose resource is not known."""
        return [other for other in self._open.get(claim.group, ()) if other is not claim]

    def record(self, claim: Claim, resource: str | None, *identifiers: str | None) -> None:
        """Record what is known of a request from elsewhere, from a handle or a journal: its resource, keys and ids."""
        for identifier in identifiers:
            if identifier is not None and not self.is_others(claim, identifier):
                self._set_owner(claim, identifier)
        if resource is not None:
            self.assign(claim, resource)

    def _set_owner(self, claim: Claim, identifier: str) -> None:
        self._owners.pop((claim.group, identifier), None)
        self._owners[claim.group, identifier] = claim
        if len(self._owners) > _MAX_IDENTIFIERS:
            del self._owners[next(iter(self._owners))]

    def _keep_open(self, claim: Claim) -> None:
        claims = self._open.setdefault(claim.group, [])
        if claim not in claims:
            claims.append(claim)
        if len(claims) > _MAX_OPEN_IN_GROUP:
            del claims[0]
        if len(self._open) > _MAX_OPEN_GROUPS:
            del self._open[next(iter(self._open))]

    def _close(self, claim: Claim) -> None:
        claims = self._open.get(claim.group, [])
        if claim in claims:
            claims.remove(claim)
        if not claims:
            self._open.pop(claim.group, None)
