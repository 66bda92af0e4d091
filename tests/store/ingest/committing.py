"""Commits of alerts as ingest makes them, without its listeners."""

from collections.abc import Sequence

import asyncpg
from prometheus_client import CollectorRegistry
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
