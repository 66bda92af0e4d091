"""Messages about swaps, to users who want them: to those to whom one is offered, and to the one who offers it."""

from collections.abc import Callable, Collection

from tocsin_kit.db.pool import Tx

from tocsin_escalation.app.notices import notice_jobs
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.shift_change_texts import answer_text, offer_text
from tocsin_escalation.domain.shift_changes import Stretch
from tocsin_escalation.domain.shift_notice_texts import Names, Text
from tocsin_escalation.store.notices import shift_notices
from tocsin_escalation.store.schedules.swaps import SwapRow


async def offered(tx: Tx, row: SwapRow, users: Collection[str]) -> None:
    """Tells those of the users who want to hear of swaps."""
    names = await _names(tx, row, {row.user_id})
    giver, schedule = names.people((row.user_id,)), names.schedule(row.schedule_id)
    in_return = None
    if row.return_start_time is not None and row.return_end_time is not None:
        in_return = Stretch(schedule, minute_of(row.return_start_time), minute_of(row.return_end_time))
    await _tell(
        tx,
        row,
        set(users) - {row.user_id},
        lambda zone: offer_text(giver, _offered(row, schedule), in_return, row.reason, f"swaps/{row.id}", zone),
    )


async def answered(tx: Tx, row: SwapRow, who: Collection[str], *, accepted: bool) -> None:
    """Tells the one who offers it, if they want to hear of it and have not answered it themselves."""
    names = await _names(tx, row, who)
    listed, schedule = [names.people((user,)) for user in who], names.schedule(row.schedule_id)
    await _tell(
        tx, row, {row.user_id}, lambda zone: answer_text(listed, _offered(row, schedule), zone, accepted=accepted)
    )


def _offered(row: SwapRow, schedule: str) -> Stretch:
    return Stretch(schedule, minute_of(row.start_time), minute_of(row.end_time))


async def _names(tx: Tx, row: SwapRow, users: Collection[str]) -> Names:
    return Names(*await shift_notices.names(tx, {row.schedule_id}, users))


async def _tell(tx: Tx, row: SwapRow, users: Collection[str], text: Callable[[str], Text]) -> None:
    now = minute_of(await tx.now())
    jobs = [
        notice_jobs.job(
            tx.org_id,
            each.user_id,
            each.channel,
            text(notice_jobs.zone_of(each.time_zone)),
            frozenset({row.schedule_id}),
            now,
            minute_of(row.begins),
        )
        for each in await shift_notices.told_of_swaps(tx, users)
    ]
    await notice_jobs.append(tx, jobs)
