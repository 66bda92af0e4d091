"""Escalation's settings reach what they are about: each variable makes a difference to a service that its own wiring has made."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from tocsin.escalation.v1.calendar_service_pb2 import CalendarFeed, CreateCalendarFeedRequest
from tocsin.escalation.v1.calendar_service_pb2_grpc import CalendarServiceStub
from tocsin.escalation.v1.incident_service_pb2 import ResolveIncidentRequest
from tocsin.escalation.v1.incident_service_pb2_grpc import IncidentServiceStub
from tocsin.ingest.v1 import internal_service_pb2 as ingest_pb
from tocsin.ingest.v1.internal_service_pb2_grpc import (
    IngestInternalServiceServicer,
    add_IngestInternalServiceServicer_to_server,
)
from tocsin.notify.v1 import internal_service_pb2 as notify_pb
from tocsin.notify.v1.internal_service_pb2_grpc import (
    NotifyInternalServiceServicer,
    add_NotifyInternalServiceServicer_to_server,
)
from tocsin_escalation.app.figures.count_figures import CountFigures
from tocsin_escalation.app.notices.plan_notices import PlanNotices
from tocsin_escalation.app.people import people
from tocsin_escalation.app.schedules import overrides, schedules
from tocsin_escalation.app.schedules.calendar_imports import PURPOSE
from tocsin_escalation.domain.events import Resolved
from tocsin_escalation.domain.policy import Level, Policy
from tocsin_escalation.domain.schedules.model import Layer, Mode, Scope, Turn, Unit
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules import calendar_imports
from tocsin_escalation.store.schedules.calendar_imports import ImportRow
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_escalation.wiring import build
from tocsin_kit.auth import SigningKeys, mint
from tocsin_kit.db.pool import Tx
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.secret_boxes import Boxes

from tests.store.escalation.recorders import ORG, Arming, Desk
from tests.store.escalation.shifts import begins_in, puts, sent, want
from tests.store.escalation.test_gaps import WEB, write
from tests.store.escalation.test_shift_notices import AN_HOUR_BEFORE
from tests.unit.escalation.schedules.writing import group, local
from tests.wired import KEYS, loop_of, one_round, rest_after_a_round, wired

SECRET_KEY = "a-key-of-its-own-with-32-characters-or-more"


@contextlib.asynccontextmanager
async def escalation(desk: Desk, **environment: str) -> AsyncIterator[Runtime[EscalationSettings]]:
    async with wired("escalation", EscalationSettings, build, desk.url, **environment) as runtime:
        yield runtime


async def round_of(desk: Desk, loop: str, **environment: str) -> None:
    async with escalation(desk, **environment) as runtime:
        await one_round(runtime, loop)


async def number(desk: Desk, sql: str) -> int:
    async with desk.db.system() as tx:
        return int(await tx.fetchval(sql))


def figure(runtime: Runtime[EscalationSettings], name: str, **labels: str) -> float | None:
    return runtime.metrics.registry.get_sample_value(f"tocsin_escalation_{name}", labels)


@pytest.mark.parametrize(
    ("variable", "loop", "table"),
    [
        ("ESCALATION_RETENTION_DAYS", "retention", "escalations"),
        ("ESCALATION_FIGURES_RETENTION_DAYS", "retention", "incident_figures"),
        ("AUDIT_RETENTION_DAYS", "audit-retention", "audit_entries"),
    ],
)
async def test_what_is_over_is_kept_for_as_many_days(desk: Desk, variable: str, loop: str, table: str) -> None:
    await desk.take(await desk.opens(), Resolved("users/ana"))
    await CountFigures(desk.db).everything()
    async with desk.db.transaction(ORG) as tx:
        await tx.execute(
            """INSERT INTO audit_entries (org_id, actor, method, resources, reason, credential, trace_id)
               VALUES ($1, 'users/ana', '/x/Y', '{}', '', '', '')""",
            ORG,
        )
    await desk.passes(days=100)
    await round_of(desk, loop, **{variable: "102"})
    assert await number(desk, f"SELECT count(*) FROM {table}") == 1
    await round_of(desk, loop, **{variable: "98"})
    assert await number(desk, f"SELECT count(*) FROM {table}") == 0


async def test_how_long_redis_has_before_the_sweep_fires(desk: Desk) -> None:
    incident = await desk.opens()
    await desk.passes(minutes=5, seconds=1)
    await round_of(desk, "overdue", ESCALATION_SWEEP_GRACE_SECONDS="60")
    assert await desk.paged(incident) == [(1, "ana")]
    await round_of(desk, "overdue", ESCALATION_SWEEP_GRACE_SECONDS="0.5")
    assert await desk.paged(incident) == [(1, "ana"), (2, "ben")]


@pytest.mark.parametrize(("batch", "transactions"), [("1", 3), ("3", 1)])
async def test_how_many_timers_one_transaction_of_the_sweep_fires(desk: Desk, batch: str, transactions: int) -> None:
    for _ in range(3):
        await desk.opens()
    await desk.passes(minutes=5, seconds=1)
    await round_of(desk, "overdue", ESCALATION_SWEEP_BATCH=batch)
    assert await number(desk, "SELECT count(DISTINCT xmin::text) FROM escalations WHERE level = 2") == transactions


async def test_how_far_ahead_timers_are_armed_again(desk: Desk) -> None:
    await desk.opens()  # its level ends in five minutes
    for seconds, armed in (("200", 0), ("400", 1)):
        async with escalation(desk, ESCALATION_REARM_AHEAD_SECONDS=seconds) as runtime:
            sweeps = loop_of(runtime, "rearm")._work.__self__
            sweeps._effects = replace(sweeps._effects, arming=(arming := Arming()))
            await one_round(runtime, "rearm")
            assert len(arming.armed) == armed
            assert await rest_after_a_round(runtime, "rearm") < int(seconds), "or some would be armed by no round"


async def test_how_far_ahead_gaps_are_looked_for(desk: Desk) -> None:
    now = datetime.now(UTC)
    await write(desk, now + timedelta(days=6), Policy("web", (Level((WEB,), timedelta(minutes=5)),)))
    row = OverrideRow(uuid4(), "web", now, now + timedelta(days=4), Scope.SCHEDULE, "", ("ben",), "", "users/ana")
    await desk.db.run(ORG, lambda tx: overrides.create_override(tx, row))
    for days, gaps in (("2", 0), ("5", 1)):
        async with escalation(desk, ESCALATION_GAP_WARNING_DAYS=days) as runtime:
            await one_round(runtime, "gaps")
            assert figure(runtime, "gaps_ahead") == gaps


@pytest.mark.parametrize("users", [1, 2])
async def test_how_many_users_are_told_of_their_shifts_at_once(desk: Desk, users: int) -> None:
    begins = await begins_in(desk, 3)
    await begins_in(desk, 3, schedule="db")
    await desk.db.run(ORG, lambda tx: people.create_user(tx, UserRow("carl", "Carl", "", False)))
    await puts(desk, "carl", begins, hours=7 * 24)
    await want(desk, AN_HOUR_BEFORE, "ana", "carl")
    await PlanNotices(desk.db).look()
    await desk.passes(hours=2, minutes=1)
    await round_of(desk, "notices", ESCALATION_NOTICES_PER_SECOND=str(users))
    assert len(await sent(desk)) == users


@pytest.mark.parametrize(
    ("variable", "loop"),
    [
        ("ESCALATION_COUNTING_SECONDS", "counting"),
        ("ESCALATION_SWEEP_SECONDS", "overdue"),
        ("ESCALATION_SWEEP_SECONDS", "reminders"),
        ("ESCALATION_NOTICE_LOOK_SECONDS", "notice-plans"),
        ("ESCALATION_NOTICE_LOOK_SECONDS", "shift-changes"),
    ],
)
async def test_how_often_something_is_done(desk: Desk, variable: str, loop: str) -> None:
    for seconds in (3, 50):
        async with escalation(desk, **{variable: str(seconds)}) as runtime:
            assert await rest_after_a_round(runtime, loop) == pytest.approx(seconds, rel=0.11)


async def test_how_many_timers_a_second_the_workers_take(desk: Desk) -> None:
    for rate, limit in (("0", None), ("7.5", 7.5)):
        async with escalation(desk, ESCALATION_WORKER_RATE_PER_SECOND=rate) as runtime:
            assert loop_of(runtime, "timers").__self__._rate_limit == limit


@pytest.mark.parametrize("relay", ["page", "cancel", "event", "notice"])
async def test_from_which_age_on_what_waits_is_late(desk: Desk, relay: str) -> None:
    for seconds, late in (("60", True), ("600", False)):
        async with escalation(desk, OUTBOX_MAX_AGE_SECONDS=seconds) as runtime:
            watch = loop_of(runtime, f"outbox-{relay}")._work.__self__
            async with desk.db.transaction(ORG) as tx:
                await tx.execute(
                    """INSERT INTO outbox (org_id, ordering_key, kind, payload, create_time)
                       VALUES ($1, '', $2, '', app_now() - interval '5 minutes')""",
                    ORG,
                    watch._kinds[0],
                )
            await watch.measure()
            await runtime.health.check_once()
            assert runtime.health.report()[f"outbox-{relay}"].startswith("OutboxLate") is late


@contextlib.asynccontextmanager
async def peer(servicer: object, add: Callable[[Any, grpc.aio.Server], None]) -> AsyncIterator[str]:
    """Another service; where it is reached."""
    server = grpc.aio.server()
    add(servicer, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield target
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def called(runtime: Runtime[EscalationSettings]) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to it: it takes calls."""
    await runtime.rpc.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{runtime.rpc.port}") as channel:
        yield channel


def bearer(*scopes: str) -> tuple[tuple[str, str], ...]:
    token = mint(SigningKeys.parse(KEYS), org_id=ORG, subject="users/ana", scopes=scopes, ttl=600)
    return (("authorization", f"Bearer {token}"),)


class Notify(NotifyInternalServiceServicer):
    """Notes how long its callers would wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def CancelNotifications(
        self, request: notify_pb.CancelNotificationsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> notify_pb.CancelNotificationsResponse:
        self.waits.append(context.time_remaining())
        return notify_pb.CancelNotificationsResponse()

    async def ComparePages(
        self, request: notify_pb.ComparePagesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> notify_pb.ComparePagesResponse:
        """None is known."""
        return notify_pb.ComparePagesResponse(known=[False] * len(request.pages))


async def test_how_often_pages_are_compared_with_those_that_notify_knows(desk: Desk) -> None:
    for seconds in (3, 50):
        async with escalation(desk, ESCALATION_RECONCILE_SECONDS=str(seconds)) as runtime:
            assert await rest_after_a_round(runtime, "reconcile-pages") == pytest.approx(seconds, rel=0.11)


async def test_for_how_long_notify_must_not_know_a_page(desk: Desk) -> None:
    incident = await desk.opens()
    async with desk.db.system() as tx:
        await tx.execute("DELETE FROM outbox")  # as if all of it were handed over
    async with peer(Notify(), add_NotifyInternalServiceServicer_to_server) as target:  # type: ignore[abstract]
        for seconds, handed in (("3600", 0), ("0", 1)):
            environment = {"ESCALATION_RECONCILE_GRACE_SECONDS": seconds, "NOTIFY_TARGET": target}
            async with escalation(desk, **environment) as runtime:
                for _ in range(2):
                    await one_round(runtime, "reconcile-pages")
            assert (await desk.said(incident)).count("note") == handed


async def test_how_long_an_acknowledge_waits_for_notify(desk: Desk) -> None:
    notify = Notify()  # type: ignore[abstract]
    async with peer(notify, add_NotifyInternalServiceServicer_to_server) as target:
        for seconds in ("100", "1000"):
            async with escalation(desk, ESCALATION_CANCEL_TIMEOUT_SECONDS=seconds, NOTIFY_TARGET=target) as runtime:
                await loop_of(runtime, "page-sender").__self__._notify.cancel([notify_pb.Cancellation()])
    short, long = notify.waits
    assert short <= 100 < long <= 1000


class Ingest(IngestInternalServiceServicer):
    """Notes what is to be resolved, and knows nothing of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ResolveIncidents(
        self, request: ingest_pb.ResolveIncidentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ingest_pb.ResolveIncidentsResponse:
        self.asked += request.incidents
        return ingest_pb.ResolveIncidentsResponse(results=[ingest_pb.ResolvedIncident()])


async def test_which_ingest_is_asked_to_resolve(desk: Desk) -> None:
    name = f"incidents/{await desk.opens()}"
    ingest = Ingest()  # type: ignore[abstract]
    async with (
        peer(ingest, add_IngestInternalServiceServicer_to_server) as target,
        escalation(desk, INGEST_TARGET=target) as runtime,
        called(runtime) as channel,
    ):
        stub: Any = IncidentServiceStub(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):  # ingest knows nothing of it
            await stub.ResolveIncident(ResolveIncidentRequest(name=name), metadata=bearer("incidents:write"))
    assert ingest.asked == [name]


@pytest.mark.parametrize("public", ["", "https://tocsin.example.com/escalation"])
async def test_where_calendar_feeds_are_found(desk: Desk, public: str) -> None:
    request = CreateCalendarFeedRequest(calendar_feed=CalendarFeed(user="users/ana"))
    async with escalation(desk, ESCALATION_PUBLIC_URL=public) as runtime, called(runtime) as channel:
        stub: Any = CalendarServiceStub(channel)
        made = await stub.CreateCalendarFeed(request, metadata=bearer("schedules:write"))
    assert made.url.startswith(f"{public}/")


async def imports(desk: Desk, key: bytes) -> UUID:
    """A calendar that a schedule imports, from a port without a listener; its URL was encrypted with this key."""
    layer = Layer("week", (Turn(Unit.WEEK, 1),), local("2024-01-01 00:00"), (group("ana"),), "UTC")
    id = uuid4()
    url = Boxes([key], PURPOSE).close(f"{ORG}/calendarImports/{id}", b"http://127.0.0.1:1/team.ics")
    row = ImportRow(id, "web", "Team", url, "127.0.0.1", "UTC", 1, next(iter(Mode)), {}, "users/ana")

    async def work(tx: Tx) -> None:
        await schedules.create(tx, ScheduleRow("web", "Web", "", "UTC", False, (layer,)))
        await calendar_imports.insert(tx, row)

    await desk.db.run(ORG, work)
    return id


async def error_of(desk: Desk, **environment: str) -> str:
    """Why the calendar could not be read."""
    async with desk.db.system() as tx:
        await tx.execute("UPDATE calendar_imports SET due_time = app_now()")
    await round_of(desk, "calendars", **environment)
    async with desk.db.system() as tx:
        return str(await tx.fetchval("SELECT error FROM calendar_imports"))


SIGNING_KEY = SigningKeys.parse(KEYS).keys[0][1]


async def test_whether_calendars_may_be_private(desk: Desk) -> None:
    await imports(desk, SIGNING_KEY)
    assert (await error_of(desk, ESCALATION_ALLOW_PRIVATE_CALENDARS="false")).startswith("the URL, or one")
    assert (await error_of(desk, ESCALATION_ALLOW_PRIVATE_CALENDARS="true")).startswith("cannot be fetched")


async def test_which_key_opens_the_urls_of_calendars(desk: Desk) -> None:
    await imports(desk, SECRET_KEY.encode())
    assert "no configured key opens" in await error_of(desk, ESCALATION_SECRET_KEY="")
    assert "no configured key opens" not in await error_of(desk, ESCALATION_SECRET_KEY=SECRET_KEY)


async def test_how_often_a_calendar_is_read(desk: Desk) -> None:
    await imports(desk, SIGNING_KEY)
    for seconds, readings in (("500", 1), ("50", 2)):
        async with escalation(desk, ESCALATION_CALENDAR_FETCH_SECONDS=seconds) as runtime:
            async with desk.db.system() as tx:
                await tx.execute("UPDATE calendar_imports SET due_time = app_now()")
            await one_round(runtime, "calendars")
            await desk.passes(seconds=100)
            await one_round(runtime, "calendars")
            assert figure(runtime, "calendars_read_total", outcome="failed") == readings


async def test_when_a_calendar_that_cannot_be_read_is_told_of(desk: Desk) -> None:
    await imports(desk, SIGNING_KEY)
    await desk.passes(seconds=100)
    for seconds, stale in (("500", 0), ("50", 1)):
        async with escalation(desk, ESCALATION_CALENDAR_STALE_SECONDS=seconds) as runtime:
            await one_round(runtime, "stale-calendars")
            assert figure(runtime, "calendars_stale") == stale
