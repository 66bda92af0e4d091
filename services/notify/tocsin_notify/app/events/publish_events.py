"""Incident events into deliveries, one for each subscription that wants the event."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID, uuid5

from tocsin.notify.v1.incident_event_pb2 import IncidentEvent
from tocsin_kit.budgets import Budgets, Limit
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.logging import get_logger

from tocsin_notify.app.events.event_types import NAMES
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.events import event_deliveries, subscriptions
from tocsin_notify.store.events.event_deliveries import NewDelivery
from tocsin_notify.store.events.subscriptions import Subscription

_log = get_logger(__name__)

PENDING: Final = "pending_events"
SUBSCRIPTIONS: Final = "subscriptions"


def limits(subscriptions_: int, pending: int) -> tuple[Limit, ...]:
    """A tenant's limits: its subscriptions, and the deliveries that may wait for each of them."""
    return Limit(SUBSCRIPTIONS, subscriptions_), Limit(PENDING, pending)


class PublishEvents:
    """One transaction for each batch. The subscriptions are locked, so that the numbers of an incident's events are
    consecutive."""

    def __init__(self, db: Database, budgets: Budgets, metrics: NotifyMetrics, nudge: Callable[[], None]) -> None:
        """`nudge`: tells the sender that something is due."""
        self._db = db
        self._budgets = budgets
        self._metrics = metrics
        self._nudge = nudge

    async def __call__(self, events: Sequence[IncidentEvent]) -> int:
        """How many deliveries were made; committed when it returns. An event that was published before makes no
        delivery."""
        incidents = [
            parse_uuid_name(event.incident.name, "incidents", field=f"events[{index}].incident.name")
            for index, event in enumerate(events)
        ]

        async def work(tx: Tx) -> int:
            found = defaultdict(list)
            for each in await subscriptions.lock_of(tx, sorted({event.org_id for event in events})):
                found[each.org_id].append(each)
            if not found:
                return 0
            return await self._store(tx, events, incidents, found)

        return await self._db.run(None, work)

    async def _store(
        self,
        tx: Tx,
        events: Sequence[IncidentEvent],
        incidents: Sequence[UUID],
        found: dict[str, list[Subscription]],
    ) -> int:
        wanted = [
            (subscription, incident, event, uuid5(subscription.id, event.id))
            for event, incident in zip(events, incidents, strict=True)
            for subscription in found.get(event.org_id, ())
            if wants(subscription, event)
        ]
        if not wanted:
            return 0
        known = await event_deliveries.known(tx, [(subscription.org_id, id) for subscription, _, _, id in wanted])
        fresh = {id: each for each in wanted if (id := each[3]) not in known}
        pairs = {(each.org_id, each.id, incident) for each, incident, _, _ in fresh.values()}
        numbers = await event_deliveries.last(tx, sorted(pairs)) if pairs else {}
        made: list[NewDelivery] = []
        stored: Counter[Subscription] = Counter()
        lost: Counter[Subscription] = Counter()
        for subscription, incident, event, id in fresh.values():
            room = self._budgets.allowed(subscription.org_id, PENDING) - subscription.pending
            if subscription.stop_time is not None or stored[subscription] >= room:
                lost[subscription] += 1
                continue
            stored[subscription] += 1
            numbers[subscription.id, incident] = number = numbers[subscription.id, incident] + 1
            made.append(
                NewDelivery(
                    id,
                    subscription.org_id,
                    subscription.id,
                    incident,
                    number,
                    NAMES[event.type],
                    event.SerializeToString(),
                )
            )
        if made:
            await event_deliveries.insert(tx, made)
        changed = stored.keys() | lost.keys()
        if changed:
            await subscriptions.count(tx, [(each.org_id, each.id, stored[each], lost[each]) for each in changed])
        tx.after_commit(lambda: self._tell(len(made), lost))
        return len(made)

    def _tell(self, made: int, lost: Counter[Subscription]) -> None:
        if made:
            self._nudge()
        for subscription, count in lost.items():
            self._metrics.events_lost.inc(count)
            self._budgets.note_refusal(subscription.org_id, PENDING)
            reason = "stopped" if subscription.stop_time is not None else "too many wait"
            _log.warning(
                "events_lost", org_id=subscription.org_id, subscription=str(subscription.id), count=count, reason=reason
            )


def wants(subscription: Subscription, event: IncidentEvent) -> bool:
    """Whether the subscription is told of this event. No subscription is told of a kind that this version does not
    know."""
    name = NAMES.get(event.type)
    least = subscription.least_severity
    return (
        name is not None
        and not subscription.disabled
        and (not subscription.event_types or name in subscription.event_types)
        and (not subscription.policies or event.incident.policy in subscription.policies)
        and (not least or event.incident.severity <= least)
    )
