"""Pages are locked all at once and in one order: transactions that decide about the same pages wait, and do not deadlock."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any, cast

from prometheus_client import CollectorRegistry
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_notify.app.delivery.calls import Finished, Start
from tocsin_notify.app.delivery.circuits import Circuits, Provider
from tocsin_notify.app.delivery.conclude import Aftermath, Conclude
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.go_around import GoAround
from tocsin_notify.app.delivery.slots import Slot
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, RetryPolicy
from tocsin_notify.domain.circuit import CircuitPolicy
from tocsin_notify.domain.page import CRITICAL, Channel, Kind
from tocsin_notify.metrics import NotifyMetrics

from tests.store.notify.support import World, job, new_org, until

WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


class _NoHints:
    """Takes hints, and forgets them."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def finished(org: str, id: uuid.UUID, method: uuid.UUID, page: NotificationJob, outcome: Outcome) -> Finished:
    """The first attempt of a notification, by text message."""
    delivery = Delivery(
        key="k",
        notification=id,
        org_id=org,
        kind=Kind.NEW_INCIDENT,
        job=page,
        target=Target(Channel.SMS, "+4915112345678"),
        attempt=1,
        start_time=datetime.now(UTC),
    )
    return Finished(Start(delivery, Slot(org, Channel.SMS, CRITICAL), 1, method), outcome)


async def test_outcomes_that_fail_over_and_that_go_around_hold_no_page_while_they_wait_for_another(
    world: World,
) -> None:
    org = new_org()
    sms = await world.method(org, sms="+4915112345678")
    await world.method(org, email="ana@example.com")
    low, high = sorted(uuid.uuid4() for _ in range(2))
    jobs = [job(org) for _ in range(2)]
    for page, id in zip(jobs, (low, high), strict=True):
        page.page = f"pages/{id}"
    async with world.replica(works=False) as notify:
        await notify.submit(*jobs)
        await world.admin.execute("DELETE FROM notifications WHERE channel = 'email'")
        await world.admin.execute(
            """UPDATE notifications SET state = 'sending', attempts = 1, tries = 1, due_time = NULL,
                 lease_until = app_now() + interval '1 hour'"""
        )
        rows = {row["page_id"]: row["id"] for row in await world.admin.fetch("SELECT id, page_id FROM notifications")}
        db, metrics, policy = notify.runtime.database, NotifyMetrics(CollectorRegistry()), RetryPolicy()
        circuits = Circuits(CircuitPolicy(), metrics)
        for _ in range(20):
            circuits.learn(Provider(Channel.SMS), uuid.uuid4(), Retryable("503"), 0.1)
        assert circuits.any_open()
        hints = cast(Any, _NoHints())
        failures = Failures(policy, metrics, hints, lambda: None)
        go_around = GoAround(db, circuits, hints, metrics, policy)
        conclude = Conclude(db, hints, metrics, policy, Aftermath(failures, circuits, go_around, cast(Any, None)))
        outcomes = [
            finished(org, rows[low], sms, jobs[0], Retryable("503")),
            finished(org, rows[high], sms, jobs[1], Permanent("no such number")),
        ]
        async with world.admin.transaction():
            await world.admin.execute("SELECT FROM pages WHERE id = $1 FOR NO KEY UPDATE", low)
            concluding = asyncio.create_task(conclude(outcomes))
            await until(lambda: world.admin.fetchval(WAITING))
            free = "SELECT id FROM pages WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED"
            assert await world.admin.fetchval(free, high) == high, "it holds one page while it waits for another"
        await concluding
    mails = await world.admin.fetch("SELECT page_id, state FROM notifications WHERE channel = 'email'")
    assert {row["page_id"]: row["state"] for row in mails} == {low: "pending", high: "pending"}
