"""Users who follow an incident: their list, and the messages to them, as outbox rows of the transaction that changes the
incident."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.notify.v1 import notification_pb2
from tocsin.type.v1.severity_pb2 import SEVERITY_INFO
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.ids import new_id

from tocsin_escalation.app.notices.notice_jobs import NOTICE
from tocsin_escalation.app.people import targets
from tocsin_escalation.domain.decision import Note
from tocsin_escalation.domain.escalation import Escalation, State
from tocsin_escalation.domain.followers import MOST_FOLLOWERS, lines_for
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.store.incidents import followers

_USE: Final = timedelta(days=1)
"""How long such a message is of use."""
_ACTOR: Final = "an incident that you follow"
_TITLE: Final = 500
_TEXT: Final = 4000

Row = tuple[str, str, str, bytes, float]
"""Of the outbox: kind, tenant, ordering key, payload, delay."""


async def follow(tx: Tx, incident: UUID, user: str, channel: str) -> None:
    """Raises INCIDENT_NOT_FOUND, INCIDENT_RESOLVED, USER_NOT_FOUND (as INVALID_ARGUMENT), LIMIT_REACHED."""
    await targets.check(tx, [("user", Target(TargetKind.USER, user))])
    state, known = await _lock(tx, incident)
    name = f"incidents/{incident}"
    if state is State.RESOLVED:
        raise TocsinError(reasons.ERROR_REASON_INCIDENT_RESOLVED, f"{name} is resolved", metadata={"name": name})
    if user not in known and len(known) >= MOST_FOLLOWERS:
        text = f"{name} has {MOST_FOLLOWERS} followers, which is the most; subscribe to its events instead"
        raise TocsinError(reasons.ERROR_REASON_LIMIT_REACHED, text, metadata={"limit": str(MOST_FOLLOWERS)})
    await followers.save(tx, incident, {**known, user: channel})


async def unfollow(tx: Tx, incident: UUID, user: str) -> None:
    """Raises INCIDENT_NOT_FOUND."""
    _, known = await _lock(tx, incident)
    if user in known:
        await followers.save(tx, incident, {each: channel for each, channel in known.items() if each != user})


async def of_incident(tx: Tx, incident: UUID) -> dict[str, str]:
    """Channels by user. Raises INCIDENT_NOT_FOUND."""
    _, known = await _lock(tx, incident, lock=False)
    return known


async def _lock(tx: Tx, incident: UUID, *, lock: bool = True) -> tuple[State, dict[str, str]]:
    found = await followers.get(tx, incident, lock=lock)
    if found is None:
        raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{incident}")
    return found


def messages(notes: Iterable[tuple[Escalation, Note]], now: datetime) -> list[Row]:
    """One message for each follower of each incident, about all changes of this step."""
    runs: dict[UUID, Escalation] = {}
    happened = defaultdict[UUID, list[Note]](list)
    for run, note in notes:
        if run.followers:
            runs[run.incident_id] = run
            happened[run.incident_id].append(note)
    return [
        (NOTICE, run.org_id, "", _job(run, user, channel, lines, now).SerializeToString(), 0.0)
        for id, run in runs.items()
        for user, channel in run.followers.items()
        if (lines := lines_for(happened[id], user))
    ]


def _job(run: Escalation, user: str, channel: str, lines: list[str], now: datetime) -> notification_pb2.NotificationJob:
    # Without `incident`, which decides what stops a message: an acknowledge stops pages, but followers are to be told of it.
    job = notification_pb2.NotificationJob(
        page=f"pages/{new_id()}",
        org_id=run.org_id,
        type=notification_pb2.NOTIFICATION_TYPE_MESSAGE,
        user=f"users/{user}",
        title=run.facts.title[:_TITLE],
        text="\n".join(lines)[:_TEXT],
        about=f"incidents/{run.incident_id}",
        severity=SEVERITY_INFO,
        actor=_ACTOR,
    )
    if channel:
        job.channel_override = notification_pb2.Channel.Value(f"CHANNEL_{channel.upper()}")
    job.planned_time.FromDatetime(now)
    job.expire_time.FromDatetime(now + _USE)
    return job
