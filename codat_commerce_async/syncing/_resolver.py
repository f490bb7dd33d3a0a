"""Which of a company's syncs is the one that was asked for, though its answers carry two different ids."""

from datetime import timedelta

from codat_commerce_async._core.log import logger_of
from codat_commerce_async._core.operation import is_id
from codat_commerce_async._core.validation import as_utc
from codat_commerce_async.errors import NotFoundError, OutcomeUnknownError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import BaseSyncStatus, CompanySyncStatus, SyncStatus
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.syncing._calls import SyncContext

__all__ = ["SyncResolver"]

_logger = logger_of("sync")

# `Date` counts whole seconds, and Codat's machines need not agree to the millisecond.
_SKEW = timedelta(seconds=2)


class SyncResolver:
    """Finds one sync, look by look, and learns its `syncId` on the way.

    The answer to a request names a sync by its `commerceSyncId`, the statuses by its `syncId`. While ours is the
    company's newest, `get_status` says both. Once another has overtaken it, Codat may know it by the commerce id all
    the same; if not, it is the one that began at the very moment that Codat gave ours. Failing that, the only one that
    began since and belongs to no other request of the client is adopted, if ours was to go up to now; the handle then
    says `adopted`. Whenever that leaves a doubt, OutcomeUnknownError names the candidates: another's result is never
    given as ours.
    """

    def __init__(self, context: SyncContext, handle: SyncHandle, *, adopt: bool = True) -> None:
        self._context = context
        self._adopt = adopt
        self.handle = handle
        names = handle.commerce_sync_id, handle.idempotency_key
        self._claim = context.claims.claim(handle.company_id, handle.sync_id, *names)
        context.claims.record(self._claim, handle.sync_id, *names)

    async def look(self, options: CallOptions) -> SyncStatus | None:
        """Where the sync has got to; None when it cannot be seen yet."""
        if self.handle.sync_id is not None:
            return self._to_sync_status(
                await self._context.calls.get(self.handle.company_id, self.handle.sync_id, **options)
            )
        newest = await self._context.calls.get_status(self.handle.company_id, **options)
        if self._matches(newest):
            self._set_sync_id(newest.sync_id, proven=True)
            return newest
        if self._began_before(newest):
            return None
        _logger.info(
            "a newer sync of company %s runs beside the one that was asked for",
            self.handle.company_id,
            extra={"company_id": self.handle.company_id},
        )
        return await self._resolve_superseded(newest, options)

    def _matches(self, status: SyncStatus) -> bool:
        ours = self.handle.commerce_sync_id
        return ours is not None and status.commerce_sync_id == ours

    async def _resolve_superseded(self, newest: SyncStatus, options: CallOptions) -> SyncStatus | None:
        handle = self.handle
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
        exact = self._began_with_ours(rest)
        if exact is not None and exact.sync_utc is not None:
            # Of a whole second, there may be another that began in the same one.
            self._set_sync_id(exact.sync_id, adopted=exact.sync_utc.microsecond == 0)
            return self._to_sync_status(exact)
        possible = [status for status in rest if not self._began_before(status)]
        if not possible:
            return None
        if len(possible) > 1 or not self._may_adopt(possible[0]):
            raise self._unknown(possible)
        self._set_sync_id(possible[0].sync_id, adopted=True)
        return self._to_sync_status(possible[0])

    def _not_others(self, everything: tuple[CompanySyncStatus, ...], newest: SyncStatus) -> list[CompanySyncStatus]:
        """What belongs to no other request, as far as is known."""
        # Both commerce ids have to be known to tell that the newest is another.
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
        """The one sync with the time that the response gave ours; a whole second is not precise enough for a period."""
        moment = self.handle.sync_utc
        if moment is None or (moment.microsecond == 0 and not (self._adopt and self.handle.is_up_to_now)):
            return None
        same = [status for status in rest if status.sync_utc and as_utc(status.sync_utc) == as_utc(moment)]
        return same[0] if len(same) == 1 else None

    def _may_adopt(self, status: CompanySyncStatus) -> bool:
        """Whether it covers what was requested, and no other request of the client may have started it."""
        handle, claims = self.handle, self._context.claims
        if not (self._adopt and handle.is_up_to_now) or status.sync_utc is None or handle.requested_at is None:
            return False
        began = as_utc(status.sync_utc)
        if began < handle.requested_at:
            return False
        return not any(other.may_have_created(began) for other in claims.others(self._claim))

    def _unknown(self, possible: list[CompanySyncStatus]) -> OutcomeUnknownError:
        return OutcomeUnknownError(
            f"{len(possible)} syncs may be the one that was requested, and Codat does not say which is; "
            "wait for one of the candidates by its id",
            None,
            self.handle.requested_at,
            None,
            self.handle,
            tuple(status.sync_id or "?" for status in possible),
        )

    def _began_before(self, status: BaseSyncStatus) -> bool:
        """Whether the sync began before ours was asked for; one that does not say when may not have."""
        asked, began = self.handle.requested_at, status.sync_utc
        if asked is None or began is None:
            return False
        return as_utc(began) < asked - _SKEW

    def _set_sync_id(self, sync_id: str | None, *, proven: bool = False, adopted: bool = False) -> None:
        # An id that no path can hold would fail every later poll; without it, the newest status identifies the sync.
        if not is_id(sync_id):
            return
        if adopted and not self.handle.adopted:
            _logger.warning(
                "adopted sync %s of company %s for request %s: no response named it, but no other one can be it",
                sync_id,
                self.handle.company_id,
                self.handle.idempotency_key,
                extra={"company_id": self.handle.company_id},
            )
        self.handle = self.handle.with_sync_id(sync_id, adopted=adopted)
        self._context.claims.assign(self._claim, sync_id, proven=proven)

    def _to_sync_status(self, status: CompanySyncStatus) -> SyncStatus:
        """The status in the form that carries both ids."""
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
