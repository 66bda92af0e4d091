"""Checks for an impossible state: a running escalation without a timer, which would never move."""

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.store.incidents import timers

_log = get_logger(__name__)


async def repair_missing_timers(db: Database, effects: Effects) -> int:
    """Give every running escalation without a timer one that is due now; how many there were (always 0, or a defect)."""

    async def work(tx: Tx) -> list[timers.LiveTimer]:
        missing = await timers.missing(tx)
        return await timers.insert_due_now(tx, [(incident_id, new_id()) for incident_id in missing])

    repaired = await db.run(None, work)
    for timer in repaired:
        _log.error("timer_was_missing", incident=str(timer.incident_id), repair="a timer that is due now")
    if repaired:
        effects.arming.arm(repaired, repaired[0].due_time)
    return len(repaired)
