"""Identify a requested sync among the company's syncs, although the API names it by two different ids."""

from datetime import timedelta

from codat_commerce_async._core.log import extra_fields, logger_of
from codat_commerce_async._core.operation import is_id
from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.errors import NotFoundError, OutcomeUnknownError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import BaseSyncStatus, CompanySyncStatus, SyncStatus
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.syncing._context import SyncContext

__all__ = ["SyncResolver"]

_logger = logger_of("sync")

# `Date` counts whole seconds, and Codat's machines need not agree to the millisecond.
_SKEW = timedelta(seconds=2)


class SyncResolver:
    """Poll one sync, and find out its `syncId`.

    The response to a request names a sync by its `commerceSyncId`, the statuses by its `syncId`. While our sync is the
    company's newest one, `get_status` returns both ids. Once a newer sync runs, these rules apply in turn:

    1. Codat may find the sync by its commerce id.
    2. Otherwise, it is the only one with the `syncUtc` that the response to our request had.
    3. Otherwise, if the request was for a sync up to now, the only one that started after it and belongs to no other
       request of this client is adopted; the handle then has `adopted` set.

    In all other cases OutcomeUnknownError names the candidates: the status of another sync is never returned as ours.
    """

    def __init__(self, context: SyncContext, handle: SyncHandle, *, adopt: bool = True) -> None:
        self._context = context
        self._adopt = adopt
        self.handle = handle
        identifiers = handle.commerce_sync_id, handle.idempotency_key
        self._claim = context.claims.claim(handle.company_id, handle.sync_id, *identifiers)
        context.claims.record(self._claim, handle.sync_id, *identifiers)

    async def poll(self, options: CallOptions) -> SyncStatus | None:
        """Return the status of the sync; None while it is not visible yet."""
        if self.handle.sync_id is not None:
            return self._to_sync_status(
                await self._context.calls.get(self.handle.company_id, self.handle.sync_id, **options)
            )
        newest = await self._context.calls.get_status(self.handle.company_id, **options)
        if self._matches(newest):
            self._set_sync_id(newest.sync_id, proven=True)
            return newest
        if self._began_before(newest):
            # Ours is not visible yet.
            return None
        _logger.info(
            "company %s has a newer sync than the one that was requested",
            self.handle.company_id,
            extra=extra_fields(self.handle.company_id),
        )
        return await self._resolve_superseded(newest, options)

    def _matches(self, status: SyncStatus) -> bool:
        ours = self.handle.commerce_sync_id
        return ours is not None and status.commerce_sync_id == ours

    async def _resolve_superseded(self, newest: SyncStatus, options: CallOptions) -> SyncStatus | None:
        handle = self.handle
        # Rule 1.
        if handle.commerce_sync_id is not None:
            try:
                status = await self._context.calls.get(handle.company_id, handle.commerce_sync_id, **options)
            except NotFoundError:
                pass
            else:
                self._set_sync_id(status.sync_id, proven=True)
                return self._to_sync_status(status)
        everything = await self._context.calls.list(handle.company_id, **options)
        rest = self._not_others(everything, newest)
        # Rule 2.
        exact = self._began_with_ours(rest)
        if exact is not None and exact.sync_utc is not None:
            # A time without a fraction may be that of another sync, started in the same second.
            self._set_sync_id(exact.sync_id, adopted=exact.sync_utc.microsecond == 0)
            return self._to_sync_status(exact)
        # Rule 3.
        possible = [status for status in rest if not self._began_before(status)]
        if not possible:
            return None
        if len(possible) > 1 or not self._may_adopt(possible[0]):
            raise self._unknown(possible)
        self._set_sync_id(possible[0].sync_id, adopted=True)
        return self._to_sync_status(possible[0])

    def _not_others(self, everything: tuple[CompanySyncStatus, ...], newest: SyncStatus) -> list[CompanySyncStatus]:
        """Return the syncs that are not known to belong to another request."""
        # The newest sync is certainly another one only if both commerce ids are known.
        both_known = self.handle.commerce_sync_id is not None and newest.commerce_sync_id is not None
        others = {newest.sync_id} if both_known else set()
        return [
            status
            for status in everything
            if status.sync_id is not None
            and status.sync_id not in others
            and not self._context.claims.is_others(self._claim, status.sync_id)
        ]

    def _began_with_ours(self, rest: list[CompanySyncStatus]) -> CompanySyncStatus | None:
        """Return the only sync with the `syncUtc` of our response.

        A time without a fraction is no proof, so it counts only for a request that may adopt.
        """
        moment = self.handle.sync_utc
        if moment is None or (moment.microsecond == 0 and not (self._adopt and self.handle.is_up_to_now)):
            return None
        same = [status for status in rest if status.sync_utc and as_utc(status.sync_utc) == as_utc(moment)]
        return same[0] if len(same) == 1 else None

    def _may_adopt(self, status: CompanySyncStatus) -> bool:
        """Return True if the sync covers what was requested, and no other request of the client may have started it."""
        handle, claims = self.handle, self._context.claims
        if not (self._adopt and handle.is_up_to_now) or status.sync_utc is None or handle.requested_at is None:
            return False
        began = as_utc(status.sync_utc)
        if began < handle.requested_at:
            return False
        return not any(other.may_have_created(began) for other in claims.others(self._claim))

    def _unknown(self, possible: list[CompanySyncStatus]) -> OutcomeUnknownError:
        return OutcomeUnknownError(
            f"{len(possible)} syncs may be the one that was requested, and Codat does not report which one; "
            "wait for one of the candidates by its id",
            None,
            self.handle.requested_at,
            None,
            self.handle,
            tuple(status.sync_id or "?" for status in possible),
        )

    def _began_before(self, status: BaseSyncStatus) -> bool:
        """Return True if the sync certainly started before ours was requested."""
        requested_at, started_at = self.handle.requested_at, status.sync_utc
        if requested_at is None or started_at is None:
            return False
        return as_utc(started_at) < requested_at - _SKEW

    def _set_sync_id(self, sync_id: str | None, *, proven: bool = False, adopted: bool = False) -> None:
        # An id that does not fit into a path would fail every later poll. Without it, the newest status is polled.
        if not is_id(sync_id):
            return
        if adopted and not self.handle.adopted:
            _logger.warning(
                "adopted sync %s of company %s for request %s: no response named it, but it is the only candidate",
                sync_id,
                self.handle.company_id,
                self.handle.idempotency_key,
                extra=extra_fields(self.handle.company_id),
            )
        self.handle = self.handle.with_sync_id(sync_id, adopted=adopted)
        self._context.claims.assign(self._claim, sync_id, proven=proven)

    def _to_sync_status(self, status: CompanySyncStatus) -> SyncStatus:
        """Return the status as a SyncStatus, which has both ids; it has no connections, as Codat reports none here."""
        return SyncStatus(
            company_id=status.company_id or self.handle.company_id,
            commerce_sync_id=self.handle.commerce_sync_id,
            sync_id=status.sync_id or self.handle.sync_id,
            sync_status_code=status.sync_status_code,
            sync_status=status.sync_status,
            error_message=status.error_message,
            sync_exception_message=status.sync_exception_message,
            sync_utc=status.sync_utc,
            data_pushed=status.data_pushed,
            unparsed=status.unparsed,
        )
