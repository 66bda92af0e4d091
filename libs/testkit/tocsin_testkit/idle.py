"""When nothing is due and nothing is under way: then no further page can come."""

import asyncio
from collections.abc import Mapping

from tocsin.notify.v1.notification_pb2 import NotificationJob

from tocsin_testkit.busy import within
from tocsin_testkit.owner_sessions import OwnerSessions

# What each service still has to do now. Escalation's `page` rows repeat what was handed over already, as soon as notify has the
# page; notify's `page_sent` rows only inform. They cause no page. An incident's event without an attempt is being sent from
# memory, although it is due later. Until ingest has said once that it takes alerts, to move its time would be an outage of it.
BUSY = {
    "ingest": """SELECT (SELECT count(*) FROM outbox WHERE dead_time IS NULL
                        AND (due_time <= app_now() OR (kind = 'incident_event' AND attempts = 0)))
                   + (SELECT count(*) FROM alert_holds WHERE due_time <= app_now())
                   + (SELECT count(*) FROM alert_pauses WHERE due_time <= app_now())
                   + (SELECT count(*) FROM alert_endings WHERE end_time <= app_now())
                   + (SELECT count(*) FROM silences WHERE changed)
                   + (SELECT count(*) FROM integrations WHERE heartbeat_due_time <= app_now() AND NOT heartbeat_missing)
                   + (SELECT 1 - count(*) FROM intakes WHERE org_id = '*')""",
    "escalation": """SELECT (SELECT count(*) FROM outbox WHERE dead_time IS NULL AND due_time <= app_now() AND kind <> 'page')
                       + (SELECT count(*) FROM timers WHERE due_time <= app_now())
                       + (SELECT count(*) FROM reminders WHERE next_time <= app_now())
                       + (SELECT count(*) FROM shift_notice_choices WHERE next_due <= app_now())""",
    "notify": """SELECT (SELECT count(*) FROM notifications
                        WHERE state IN ('pending', 'sending') AND coalesce(due_time, app_now()) <= app_now())
                   + (SELECT count(*) FROM outbox WHERE dead_time IS NULL AND kind = 'page_not_reached')
                   + (SELECT count(*) FROM messages WHERE state = 'scheduled' AND send_time <= app_now())
                   + (SELECT count(*) FROM digests WHERE next_time <= app_now() - interval '60 s')""",
}
_PAGES = "SELECT array_agg(payload) FROM outbox WHERE kind = 'page' AND dead_time IS NULL"
PATIENCE = 30.0


async def until_idle(databases: Mapping[str, str], sessions: OwnerSessions) -> None:
    """Return once every service has had nothing to do twice in a row. Raises AssertionError after 30 s of an idle machine."""
    counts: dict[str, int] = {}
    try:
        async with asyncio.timeout(within(PATIENCE)):
            still = 0
            while True:
                counts = {}
                for name, query in BUSY.items():  # in the order in which an alert passes through them
                    if name == "notify":
                        counts["on their way"] = await _pages_on_their_way(databases, sessions)
                    counts[name] = await sessions.fetchval(databases[name], query)
                still = still + 1 if not any(counts.values()) else 0
                if still == 2:
                    return
                # What notify tells escalation goes the other way: the second look sees what it caused.
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"still busy after {PATIENCE:g} s: {counts}") from None


async def _pages_on_their_way(databases: Mapping[str, str], sessions: OwnerSessions) -> int:
    """How many pages escalation has made that notify does not have yet. On a busy machine they take long through Redis."""
    payloads = await sessions.fetchval(databases["escalation"], _PAGES)
    if not payloads:
        return 0
    ids = {NotificationJob.FromString(each).page.removeprefix("pages/") for each in payloads}
    arrived = f"SELECT count(*) FROM pages WHERE id = ANY('{{{','.join(ids)}}}')"
    return len(ids) - int(await sessions.fetchval(databases["notify"], arrived))
