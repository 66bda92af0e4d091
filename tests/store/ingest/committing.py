"""Commits of alerts as ingest makes them, without its listeners."""

from collections.abc import Sequence

import asyncpg
from prometheus_client import CollectorRegistry
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_ingest.app.alerts.commit_batch import CommitBatch, Entry
from tocsin_ingest.domain.message import Message
from tocsin_ingest.metrics import IngestMetrics
from tocsin_kit.db.pool import Database


def committer(database: Database) -> CommitBatch:
    return CommitBatch(database, IngestMetrics(CollectorRegistry()), lambda _: None)


def entry(org: str, sent: Message, request_id: str = "") -> Entry:
    return Entry(org, sent, request_id, request_id.encode())


async def commit(commit_batch: CommitBatch, org: str, sent: Sequence[Message]) -> list[SendAlertResponse]:
    answers = await commit_batch([entry(org, each) for each in sent])
    assert not any(isinstance(each, Exception) for each in answers), answers
    return [SendAlertResponse.FromString(each) for each in answers if isinstance(each, bytes)]


async def rows(database: Database, org: str, sql: str) -> list[asyncpg.Record]:
    async with database.transaction(org) as tx:
        return await tx.fetch(sql)


async def check(database: Database, org: str) -> None:
    """What must hold in the tables in every case."""
    counts = await rows(
        database,
        org,
        """SELECT incidents.id, incidents.firing_count, incidents.alert_count, incidents.state,
          count(*) FILTER (WHERE alerts.state = 'firing') AS firing, sum(alerts.count) AS messages
        FROM incidents JOIN alerts ON alerts.incident_id = incidents.id GROUP BY 1, 2, 3, 4""",
    )
    for row in counts:
        assert row["firing_count"] == row["firing"]
        assert row["alert_count"] <= row["messages"]  # a suppressed alert brings its earlier messages along
        assert (row["state"] == "open") == (row["firing"] > 0)
    # Nothing but the code keeps an id in one partition.
    for table in ("alerts", "incidents"):
        assert not await rows(database, org, f"SELECT id FROM {table} GROUP BY id HAVING count(*) > 1")
    sequences = await rows(database, org, "SELECT id, event_sequence FROM incidents")
    events: dict[str, list[IncidentEvent]] = {}
    for row in await rows(database, org, "SELECT payload FROM outbox ORDER BY id"):
        event = IncidentEvent.FromString(row["payload"])
        events.setdefault(event.incident, []).append(event)
    for row in sequences:
        numbers = [event.sequence for event in events[f"incidents/{row['id']}"]]
        assert numbers == list(range(1, row["event_sequence"] + 1))
