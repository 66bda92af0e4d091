"""Messages about swaps, to users who want them: to those to whom one is offered, and to the one who offers it."""

from collections.abc import Callable, Collection
from functools import partial

from tocsin.notify.v1.shift_pb2 import ShiftContent
from tocsin_kit.db.pool import Tx

from tocsin_escalation.app.notices import notice_jobs
from tocsin_escalation.app.notices.shift_contents import Offer, Reader, of_answer, of_offer
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.shift_changes import ShiftTime
from tocsin_escalation.domain.shift_details import Names
from tocsin_escalation.store.notices import shift_notices
from tocsin_escalation.store.schedules.swaps import SwapRow


async def offered(tx: Tx, row: SwapRow, users: Collection[str]) -> None:
    """Tells those of the users who want to hear of swaps."""
    names = await _names(tx, row, {row.user_id})
    await _tell(tx, row, set(users) - {row.user_id}, partial(of_offer, _offer(row), names))


async def answered(tx: Tx, row: SwapRow, who: Collection[str], *, accepted: bool) -> None:
    """Tells the one who offers it, if they want to hear of it and have not answered it themselves."""
    names = await _names(tx, row, who)
    await _tell(tx, row, {row.user_id}, partial(of_answer, _offer(row), who, names, accepted=accepted))


def _offer(row: SwapRow) -> Offer:
    in_return = None
    if row.return_start_time is not None and row.return_end_time is not None:
        in_return = ShiftTime(row.schedule_id, minute_of(row.return_start_time), minute_of(row.return_end_time))
    offered = ShiftTime(row.schedule_id, minute_of(row.start_time), minute_of(row.end_time))
    return Offer(f"swaps/{row.id}", row.user_id, offered, in_return, row.reason)


async def _names(tx: Tx, row: SwapRow, users: Collection[str]) -> Names:
    return Names(*await shift_notices.names(tx, {row.schedule_id}, users))


async def _tell(tx: Tx, row: SwapRow, users: Collection[str], tell: Callable[[Reader], ShiftContent]) -> None:
    now = minute_of(await tx.now())
    jobs = [
        notice_jobs.job(
            tx.org_id,
            each.user_id,
            each.channel,
            tell(Reader(notice_jobs.zone_of(each.time_zone), now)),
            frozenset({row.schedule_id}),
            now,
            minute_of(row.begins),
        )
        for each in await shift_notices.told_of_swaps(tx, users)
    ]
    await notice_jobs.append(tx, jobs)
