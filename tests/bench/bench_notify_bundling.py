"""A storm: how long it takes to put 10,000 pages of 20 people into bundles, and to make the messages of them.

All of it runs in this process on PostgreSQL with fsync, without calls to providers. The floor of the first is storing the same
pages without a budget; so is that of the second, storing pages that a budget has room for. That of the third is reading the
stored pages with one statement.
"""

import asyncio
import random
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry
from tocsin.notify.v1 import notification_pb2
from tocsin.type.v1.severity_pb2 import SEVERITY_ERROR, SEVERITY_WARNING
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_kit.ids import new_id
from tocsin_notify.app.delivery.circuits import Circuits
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.first_calls import FirstCalls
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.delivery.slots import Limits, Slots
from tocsin_notify.app.pages.bundles import Bundles
from tocsin_notify.app.pages.intake import MOST_PER_BATCH
from tocsin_notify.app.pages.jobs import read_job
from tocsin_notify.app.pages.submit import Submit
from tocsin_notify.domain.attempt import RetryPolicy
from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.domain.circuit import CircuitPolicy
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.delivery.gate import Gate
from tocsin_notify.store.delivery.senders import Leases
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch

from tests.bench.report import report

MIGRATIONS = Path(__file__).parents[2] / "services/notify/migrations"
PAGES = 10_000
PEOPLE = 20


class Nothing:
    """Calls, hints and the presence of a process that sends nothing."""

    sender = None

    async def start(self, *_: object) -> None:
        """No call begins."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def storm(org: str) -> list[notification_pb2.NotificationJob]:
    return [
        notification_pb2.NotificationJob(
            page=f"pages/{new_id()}",
            org_id=org,
            type=notification_pb2.NOTIFICATION_TYPE_NEW_INCIDENT,
            user=f"users/u{number % PEOPLE}",
            incident=f"incidents/{uuid.uuid4()}",
            title=f"Disk full on db-{number}",
            source="db",
            severity=random.choice((SEVERITY_ERROR, SEVERITY_WARNING)),
            level=1,
            generation=1,
        )
        for number in range(PAGES)
    ]


async def submit_all(submit: Submit, org: str) -> float:
    """Seconds, in batches as they come in."""
    given = [read_job(job) for job in storm(org)]
    began = time.monotonic()
    for start in range(0, PAGES, MOST_PER_BATCH):
        await submit(given[start : start + MOST_PER_BATCH])
    return time.monotonic() - began


async def main() -> None:
    with scratch("bench-bundling-") as folder:
        postgres = Postgres(folder / "pg")
        await postgres.start()
        url = await postgres.ensure_database("tocsin_notify", "tocsin_notify")
        await upgrade(url, MIGRATIONS)
        admin = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
        await admin.executemany(
            """INSERT INTO contact_methods (id, org_id, user_id, display_name, channel, address, key_id, disabled, verify_time)
               VALUES ($1, $2, $3, '', 'console', '', '', false, now())""",
            [(new_id(), org, f"users/u{number}") for org in ("calm", "room", "storm") for number in range(PEOPLE)],
        )
        database = await Database.open(url, name="bench", size=4)
        gate = await Gate.open(url, name="bench")
        nothing: Any = Nothing()
        metrics = NotifyMetrics(CollectorRegistry())
        circuits, slots = Circuits(CircuitPolicy(), metrics), Slots(Limits(), {})
        took: dict[str, float] = {}
        for org, pages in (("calm", 0), ("room", PAGES), ("storm", 10)):
            calls = FirstCalls(nothing, slots, Cipher([b"k" * 32]), circuits, Leases(15.0, nothing))
            submit = Submit(
                *(gate, calls, nothing, metrics),
                nudge=lambda: None,
                bundling=BundlePolicy(pages),
            )
            submit.stopping = True
            took[org] = await submit_all(submit, org)
        assert await admin.fetchval("SELECT count(*) FROM bundle_pages") == PAGES - 10 * PEOPLE
        await admin.execute("UPDATE paces SET bundle_due = now() WHERE bundle IS NOT NULL")
        began = time.monotonic()
        await admin.fetch("SELECT id, job FROM pages WHERE org_id = 'storm'")
        read = time.monotonic() - began
        began = time.monotonic()
        failures = Failures(RetryPolicy(), metrics, nothing, lambda: None)
        await Bundles(database, nothing, metrics, failures, BundlePolicy(), PeopleFirst(), asyncio.Event())()
        sent = time.monotonic() - began
        assert await admin.fetchval("SELECT count(*) FROM pages WHERE type = 'bundle'") == PEOPLE
        report(
            "notify bundling: 10,000 pages of 20 people stored",
            took["storm"],
            "s",
            took["calm"],
            took["storm"] / took["calm"],
        )
        report(
            "notify bundling: 10,000 pages within a budget stored",
            took["room"],
            "s",
            took["calm"],
            took["room"] / took["calm"],
        )
        report("notify bundling: their messages made", sent, "s", read, sent / read)
        await gate.close()
        await database.close()
        await admin.close()
        await postgres.stop()


if __name__ == "__main__":
    asyncio.run(main())
