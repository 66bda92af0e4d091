"""Reminders of incidents that stay unresolved: made when an incident opens, if its policy says so."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.ids import new_id

from tocsin_escalation.domain.policy import Policy, TargetKind
from tocsin_escalation.domain.reminders import Rhythm
from tocsin_escalation.store.notices import reminders
from tocsin_escalation.store.notices.reminders import NewReminder


async def plan(tx: Tx, opened: Iterable[tuple[str, UUID, Policy | None]], now: datetime) -> None:
    """For incidents (tenant, id, policy) that open in this transaction and whose rows are there."""
    news = [
        (org_id, _reminder(incident_id, policy, now))
        for org_id, incident_id, policy in opened
        if policy is not None and policy.unresolved_target is not None
    ]
    if news:
        await reminders.insert_all(tx, news)


def _reminder(incident_id: UUID, policy: Policy, now: datetime) -> NewReminder:
    target, after = policy.unresolved_target, policy.unresolved_after
    assert target is not None, "asked before"
    assert after is not None, "both or neither"
    of_user = target.kind is TargetKind.USER
    user, team = (target.id, None) if of_user else ("", target.id)
    return NewReminder(new_id(), incident_id, user, team, "", Rhythm(), now + after, f"policies/{policy.id}")
