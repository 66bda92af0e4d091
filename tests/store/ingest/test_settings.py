"""Ingest's settings reach what they are about: each variable makes a difference to a service that its own wiring has made."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiohttp
import pytest
from tocsin.ingest.v1.alert_service_pb2 import SendAlertsRequest, StreamAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import ListIntegrationsRequest
from tocsin_ingest.app.alerts.commit_batch import Answer, CommitBatch, Entry
from tocsin_ingest.settings import IngestSettings
from tocsin_ingest.wiring import build
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.lifecycle import Runtime

from tests.contract.ingest.posting import Sender
from tests.contract.ingest.test_http_signatures import BODY, HEADER, signature, signing
from tests.store.ingest.support import FakeEscalation, Ingest, bearer, key, new_org, running, trigger, until
from tests.wired import loop_of, one_round, rest_after_a_round, wired

SECRET_KEY = "a-key-of-its-own-with-32-characters-or-more"


@contextlib.asynccontextmanager
async def made(url: str, **environment: str) -> AsyncIterator[Runtime[IngestSettings]]:
    async with wired("ingest", IngestSettings, build, url, **environment) as runtime:
        yield runtime


class Gate:
    """Batches wait in front of the database until it is open."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        """Alerts in each batch that has come here."""
        self.opened = asyncio.Event()


@contextlib.contextmanager
def closed_gate() -> Iterator[Gate]:
    """It is open at the end in any case: a replica that stops waits for its batches."""
    gate, commit = Gate(), CommitBatch.__call__

    async def wait(batch: CommitBatch, entries: Sequence[Entry]) -> Sequence[Answer]:
        gate.batches.append(len(entries))
        await gate.opened.wait()
        return await commit(batch, entries)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CommitBatch, "__call__", wait)
        try:
            yield gate
        finally:
            gate.opened.set()


def waiting(ingest: Ingest) -> int:
    """Alerts that no batch has taken yet."""
    return int(ingest.runtime.metrics.registry.get_sample_value("tocsin_ingest_queue") or 0)


@pytest.mark.parametrize(("lanes", "batches"), [("1", 1), ("2", 2)])
async def test_how_many_tenants_batches_are_committed_at_once(
    database_url: str, escalation: FakeEscalation, monkeypatch: pytest.MonkeyPatch, lanes: str, batches: int
) -> None:
    monkeypatch.setenv("INGEST_BATCH_LANES", lanes)
    async with running(database_url, escalation.target) as ingest:
        keys = [(await ingest.integration(new_org()))[1] for _ in range(2)]
        with closed_gate() as gate:
            async with asyncio.TaskGroup() as group:
                for each in keys:
                    group.create_task(send(ingest, each))
                await until(lambda: len(gate.batches) == batches and waiting(ingest) == 2 - batches)
                for _ in range(10):
                    await asyncio.sleep(0)  # what is free would take the other one now
                assert len(gate.batches) == batches
                gate.opened.set()


async def send(ingest: Ingest, with_key: str, dedup_key: str = "a") -> None:
    await ingest.alerts.SendAlert(trigger(dedup_key), metadata=key(with_key))


@pytest.mark.parametrize("size", ["2", "4"])
async def test_how_many_alerts_one_batch_has(
    database_url: str, escalation: FakeEscalation, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    """At most: a busy machine reads the alerts of one call in parts."""
    monkeypatch.setenv("INGEST_BATCH_SIZE", size)
    async with running(database_url, escalation.target) as ingest:
        _, given = await ingest.integration(new_org())
        with closed_gate() as gate:
            async with asyncio.TaskGroup() as group:
                group.create_task(send(ingest, given))
                await until(lambda: gate.batches == [1])
                request = SendAlertsRequest(alerts=[trigger(f"b{number}") for number in range(4)])
                group.create_task(answered(ingest, given, request))
                await until(lambda: waiting(ingest) == 4)
                gate.opened.set()
        assert (max(gate.batches), sum(gate.batches)) == (int(size), 5)


async def answered(ingest: Ingest, with_key: str, request: SendAlertsRequest) -> list[bool]:
    """Which of the alerts were taken."""
    response = await ingest.alerts.SendAlerts(request, metadata=key(with_key))
    return [result.HasField("response") for result in response.results]


@pytest.mark.parametrize(("capacity", "taken"), [("100", 50), ("200", 60)])
async def test_how_many_alerts_may_wait(
    database_url: str, escalation: FakeEscalation, monkeypatch: pytest.MonkeyPatch, capacity: str, taken: int
) -> None:
    """One tenant may fill half of it."""
    monkeypatch.setenv("INGEST_QUEUE_CAPACITY", capacity)
    async with running(database_url, escalation.target) as ingest:
        _, given = await ingest.integration(new_org())
        request = SendAlertsRequest(alerts=[trigger(f"a{number}") for number in range(60)])
        assert sum(await answered(ingest, given, request)) == taken


@pytest.mark.parametrize(("rate", "all_taken"), [("1", False), ("100", True)])
async def test_how_many_alerts_a_tenant_may_send(
    database_url: str, escalation: FakeEscalation, monkeypatch: pytest.MonkeyPatch, rate: str, all_taken: bool
) -> None:
    """Ten seconds' worth of them at once."""
    monkeypatch.setenv("INGEST_TENANT_ALERTS_PER_SECOND", rate)
    async with running(database_url, escalation.target) as ingest:
        _, given = await ingest.integration(new_org())
        request = SendAlertsRequest(alerts=[trigger(f"a{number}") for number in range(500)])
        taken = await answered(ingest, given, request)
        assert sum(taken) > 0
        assert all(taken) is all_taken


@pytest.mark.parametrize("window", [1, 3])
async def test_how_many_alerts_of_a_stream_may_be_unanswered(
    database_url: str, escalation: FakeEscalation, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setenv("INGEST_STREAM_WINDOW", str(window))
    async with running(database_url, escalation.target) as ingest:
        org = new_org()
        _, given = await ingest.integration(org)
        with closed_gate() as gate:
            requests = [StreamAlertsRequest(sequence=each, request=trigger(f"a{each}")) for each in range(1, 6)]

            async def stream() -> int:
                answers: Any = ingest.alerts.StreamAlerts(iter(requests), metadata=key(given))
                return len([answer async for answer in answers])

            streaming = asyncio.create_task(stream())

            def unanswered() -> int:
                return sum(gate.batches) + waiting(ingest)

            await until(lambda: unanswered() >= window)
            for _ in range(5):  # in which more of the stream would be read, if that were allowed
                await ingest.integrations.ListIntegrations(ListIntegrationsRequest(), metadata=bearer(org))
            assert unanswered() == window
            gate.opened.set()
            assert await streaming == 5


async def test_how_many_events_of_a_tenant_may_wait_for_escalation(database_url: str) -> None:
    for rows, refused in (("1000", True), ("2000", False)):
        async with made(database_url, INGEST_TENANT_MAX_OUTBOX_ROWS=rows) as runtime:
            budgets = runtime.rpc.budgets
            budgets.note_rows({"acme": 1500})
            with pytest.raises(TocsinError, match="1000 of its messages") if refused else contextlib.nullcontext():
                budgets.require_rows("acme")


async def test_for_how_many_days_what_is_over_is_kept(database_url: str, database: Database) -> None:
    async with database.system() as tx:
        await tx.execute(
            """INSERT INTO refused_alerts (org_id, integration_id, refused, reason, report_time)
               VALUES ('acme', 'a', 0, '', app_now() - interval '100 days')"""
        )
    for days, left in (("102", 1), ("98", 0)):
        async with made(database_url, INGEST_RETENTION_DAYS=days) as runtime:
            await one_round(runtime, "retention")
        async with database.system() as tx:
            assert await tx.fetchval("SELECT count(*) FROM refused_alerts") == left


async def test_from_which_age_on_what_waits_is_late(database_url: str, database: Database) -> None:
    for seconds, late in (("60", True), ("600", False)):
        async with made(database_url, OUTBOX_MAX_AGE_SECONDS=seconds) as runtime:
            watch = loop_of(runtime, "outbox")._work.__self__
            async with database.transaction("acme") as tx:
                await tx.execute(
                    """INSERT INTO outbox (org_id, ordering_key, kind, payload, create_time)
                       VALUES ('acme', '', $1, '', app_now() - interval '5 minutes')""",
                    watch._kinds[0],
                )
            await watch.measure()
            await runtime.health.check_once()
            assert runtime.health.report()["outbox"].startswith("OutboxLate") is late


@pytest.mark.parametrize(
    ("variable", "loop"), [("INGEST_RECONCILE_SECONDS", "reconcile"), ("INGEST_QUIET_SECONDS", "quiet")]
)
async def test_how_often_something_is_done(database_url: str, variable: str, loop: str) -> None:
    for seconds in (3, 50):
        async with made(database_url, **{variable: str(seconds)}) as runtime:
            assert await rest_after_a_round(runtime, loop) == pytest.approx(seconds, rel=0.11)


async def test_which_key_closes_and_opens_the_secrets_of_signatures(
    database_url: str, escalation: FakeEscalation, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = {HEADER: signature(BODY).hex()}
    async with aiohttp.ClientSession() as http:
        monkeypatch.setenv("INGEST_SECRET_KEY", SECRET_KEY)
        async with running(database_url, escalation.target) as ingest:
            sender = await signing(ingest, http)
            assert (await sender.post("/v1/json", BODY, **signed))[0] == 200
        monkeypatch.delenv("INGEST_SECRET_KEY")
        async with running(database_url, escalation.target) as ingest:
            other = Sender(ingest, http, sender.org, sender.key)
            assert (await other.post("/v1/json", BODY, **signed))[0] == 503
