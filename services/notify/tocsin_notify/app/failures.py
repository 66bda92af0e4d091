"""A notification is given up: its page goes to the user's next method, and a dead letter tells why.

Every notification that ends DEAD has exactly one dead letter, as the contract says; its detail names the method the page
went to, or says that none was left. The last case is loud: an error line and its own metric value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger

from tocsin_notify.domain.failover import Add, PullForward, Sibling, fail_over
from tocsin_notify.domain.page import Channel, DeathReason, State
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store import dead_letters, notifications, pages, people
from tocsin_notify.store.dead_letters import NewDeadLetter
from tocsin_notify.store.notifications import NewNotification

_log = get_logger(__name__)

_NO_LEASE: Final = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """A notification to give up, with the columns of its row that matter."""

    id: UUID
    org_id: str
    page_id: UUID
    user_id: str
    incident: UUID | None
    generation: int
    priority: int
    contact_method: UUID
    reason: DeathReason
    detail: str


async def give_up(tx: Tx, failed: Sequence[Failed], metrics: NotifyMetrics) -> list[UUID]:
    """End these, fail over, keep dead letters; returns the notifications that are due now instead.

    Two replicas that give up notifications of one page do so one after the other: each sees what the other chose.
    """
    if not failed:
        return []
    locked = await pages.lock(tx, {each.page_id for each in failed})
    known = await people.read(tx, {(each.org_id, each.user_id) for each in failed})
    siblings = await notifications.siblings(tx, locked.keys())
    pulled: list[UUID] = []
    added: list[NewNotification] = []
    letters: list[NewDeadLetter] = []
    reasons: dict[UUID, str] = {}
    for each in failed:
        page, job = locked[each.page_id]
        family = [Sibling(s.id, s.method, State.DEAD) if s.id == each.id else s for s in siblings[each.page_id]]
        methods = known[each.org_id, each.user_id].methods
        choice = fail_over(page, each.contact_method, family, methods)
        match choice:
            case PullForward(notification=next_one, method=method):
                pulled.append(next_one)
                outcome = f"; the page went to contactMethods/{method}"
            case Add(method=next_method, step=step):
                row = _replacement(each, next_method.id, step, next_method.channel)
                added.append(row)
                family.append(Sibling(row.id, row.contact_method, State.SENDING))
                outcome = f"; the page went to contactMethods/{next_method.id}"
            case None:
                outcome = "; no other contact method is left"
                _log.error(
                    "notification_dead",
                    org_id=each.org_id,
                    notification=str(each.id),
                    page=str(each.page_id),
                    user=each.user_id,
                    reason=each.reason,
                    detail=each.detail,
                )
        siblings[each.page_id] = family
        reasons[each.id] = each.detail + outcome
        letters.append(
            NewDeadLetter(
                id=new_id(),
                org_id=each.org_id,
                notification_id=each.id,
                page_id=each.page_id,
                user_id=each.user_id,
                incident=each.incident,
                reason=each.reason,
                detail=each.detail + outcome,
                job=job,
            )
        )
        metrics.dead_letters.labels(each.reason).inc()
    await notifications.kill(tx, reasons)
    if pulled:
        await notifications.pull_forward(tx, pulled)
    if added:
        await notifications.insert(tx, added, _NO_LEASE)
    await dead_letters.insert(tx, letters)
    return [*pulled, *(row.id for row in added)]


def _replacement(failed: Failed, method: UUID, step: int, channel: Channel) -> NewNotification:
    return NewNotification(
        id=new_id(),
        org_id=failed.org_id,
        page_id=failed.page_id,
        user_id=failed.user_id,
        incident=failed.incident,
        generation=failed.generation,
        priority=failed.priority,
        contact_method=method,
        channel=channel,
        step=step,
        state=State.PENDING,
        reason=f"took over from notifications/{failed.id}",
        delay=0.0,
    )
