"""Which of a company's syncs is the one that was asked for, though its answers carry two different ids."""

from datetime import UTC, datetime, timedelta

from codat_commerce_async._log import logger_of
from codat_commerce_async._operation import is_id
from codat_commerce_async.errors import NotFoundError, OutcomeUnknownError
from codat_commerce_async.models.handle import SyncHandle
from codat_commerce_async.models.sync import CompanySyncStatus, SyncState, SyncStatus
from codat_commerce_async.policies import CallOptions
from codat_commerce_async.syncing.api import SyncApi

__all__ = ["Tracker", "as_utc"]

_logger = logger_of("sync")

# `Date` counts whole seconds, and Codat's machines need not agree to the millisecond.
_SKEW = timedelta(seconds=2)


def as_utc(moment: datetime) -> datetime:
    """`syncUtc` is in UTC by its name, also where it does not say so."""
    return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment


class Tracker:
    """Finds one sync, look by look, and learns its `syncId` on the way.

    The answer to a request names a sync by its `commerceSyncId`, the statuses by its `syncId`. While ours is the
    company's newest, `get_status` says both. Once another has overtaken it, Codat may know it by the commerce id all
    the same; if not, it is the one that began when ours did, or the only one that can be it. When several can,
    OutcomeUnknownError names them: another's result is never given as ours.
    """

    def __init__(self, api: SyncApi, handle: SyncHandle) -> None:
        self._api = api
        self.handle = handle

    async def look(self, options: CallOptions) -> SyncStatus | None:
        """Where the sync has got to; None when it cannot be seen yet."""
        if self.handle.sync_id is not None:
            return self._ours(await self._api.look_at(self.handle.company_id, self.handle.sync_id, options))
        newest = await self._api.look_at_newest(self.handle.company_id, options)
        if self._is_named(newest):
            self._learn(newest.sync_id)
            return newest
        if self._began_before(newest):
            return None
        _logger.info(
            "a newer sync of company %s runs beside the one that was asked for",
            self.handle.company_id,
            extra={"company_id": self.handle.company_id},
        )
        return await self._overtaken(newest, options)

    def _is_named(self, status: SyncStatus) -> bool:
        ours = self.handle.commerce_sync_id
        return ours is not None and status.commerce_sync_id == ours

    async def _overtaken(self, newest: SyncStatus, options: CallOptions) -> SyncStatus | None:
        handle = self.handle
        if handle.commerce_sync_id is not None:
            try:
                status = await self._api.look_at(handle.company_id, handle.commerce_sync_id, options)
            except NotFoundError:
                pass
            else:
                self._learn(status.sync_id)
                return self._ours(status)
        everything = await self._api.look_at_all(handle.company_id, options)
        possible = self._possible(everything, newest)
        if len(possible) > 1:
            raise OutcomeUnknownError(
                f"{len(possible)} syncs have begun since ours was asked for, and Codat does not say which it is; "
                "wait for one of the candidates by its id",
                None,
                handle.requested_at,
                None,
                handle,
                tuple(status.sync_id or "?" for status in possible),
            )
        if not possible:
            return None
        _logger.warning(
            "Codat does not say which sync of company %s is the one that was asked for; it can only be %s",
            handle.company_id,
            possible[0].sync_id,
            extra={"company_id": handle.company_id},
        )
        self._learn(possible[0].sync_id)
        return self._ours(possible[0])

    def _possible(self, everything: tuple[CompanySyncStatus, ...], newest: SyncStatus) -> list[CompanySyncStatus]:
        handle = self.handle
        # Both commerce ids have to be known to tell that the newest is another.
        both_known = handle.commerce_sync_id is not None and newest.commerce_sync_id is not None
        others = {newest.sync_id} if both_known else set()
        rest = [status for status in everything if status.sync_id is not None and status.sync_id not in others]
        if handle.sync_utc is not None:
            began = as_utc(handle.sync_utc)
            same_moment = [status for status in rest if status.sync_utc and as_utc(status.sync_utc) == began]
            if len(same_moment) == 1:
                return same_moment
        return [status for status in rest if not self._began_before(status)]

    def _began_before(self, status: SyncState) -> bool:
        """Whether the sync began before ours was asked for; one that does not say when may not have."""
        asked, began = self.handle.requested_at, status.sync_utc
        if asked is None or began is None:
            return False
        return as_utc(began) < asked - _SKEW

    def _learn(self, sync_id: str | None) -> None:
        # An id that no path can hold would fail every later poll; without it, the newest status identifies the sync.
        if is_id(sync_id):
            self.handle = self.handle.identified(sync_id)

    def _ours(self, status: CompanySyncStatus) -> SyncStatus:
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
            unreadable=status.unreadable,
        )
