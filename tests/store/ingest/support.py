"""Ingest on a real PostgreSQL: databases cloned from a migrated template, whole replicas in this process, a peer."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from pydantic import SecretStr
from tocsin.escalation.v1 import internal_service_pb2_grpc
from tocsin.escalation.v1.internal_service_pb2 import (
    ApplyIncidentEventsRequest,
    ApplyIncidentEventsResponse,
    ApplyPageOutcomesRequest,
    ApplyPageOutcomesResponse,
    CheckPoliciesRequest,
    CheckPoliciesResponse,
    CompareIncidentsRequest,
    CompareIncidentsResponse,
    GetReceiversRequest,
    GetReceiversResponse,
    IncidentEvent,
    IncidentEventResult,
    IncidentStanding,
    ListOpenIncidentsRequest,
    ListOpenIncidentsResponse,
    OpenEventFeedsRequest,
    OpenEventFeedsResponse,
    ReconcilePagesRequest,
    ReconcilePagesResponse,
    SimulateEventRequest,
    SimulateEventResponse,
    SummarizeForDigestsRequest,
    SummarizeForDigestsResponse,
)
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER, AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin.ingest.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.ingest.v1.integration_service_pb2 import CreateIntegrationRequest, Integration, RoutingRule
from tocsin.ingest.v1.integration_service_pb2_grpc import IntegrationServiceStub
from tocsin.ingest.v1.internal_service_pb2_grpc import IngestInternalServiceStub
from tocsin.ingest.v1.silence_service_pb2_grpc import SilenceServiceStub
from tocsin_ingest import wiring
from tocsin_ingest.settings import IngestSettings
from tocsin_ingest.wiring import build, receivers
from tocsin_kit.auth import JwtAuthenticator, SigningKeys, mint
from tocsin_kit.db.pool import Database
from tocsin_kit.http import HttpServer
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.loops import Loops
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.health import Health, HealthCheck
from tocsin_kit.rpc.server import RpcServer
from tocsin_stack.postgres import Postgres, tenant_url
from tocsin_testkit import busy
from tocsin_testkit.clock import MovableClock
from tocsin_testkit.databases import dialed

from tests.store.emptied import Emptied

MIGRATIONS = Path(__file__).parents[3] / "services/ingest/migrations"
KEYS = "k1:" + "Ab3dEf6hIj9lMn" * 3 + "A"
ALL_SCOPES = (
    *("alerts:write", "alerts:read", "integrations:write", "integrations:read", "silences:write", "silences:read"),
)
_TEMPLATE = "tocsin_ingest"
_LOOK_SECONDS: Final = 1.0


@pytest.fixture(scope="session")
async def emptied(postgres: Postgres) -> AsyncIterator[Emptied]:
    databases = Emptied(postgres, _TEMPLATE, "ingest")
    yield databases
    await databases.close()


@pytest.fixture
async def database_url(emptied: Emptied) -> AsyncIterator[str]:
    """An empty, migrated database."""
    async with emptied.lent() as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on an empty database."""
    opened = await dialed(database_url, name="test", tenant_url=tenant_url(database_url), size=6)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def escalation() -> AsyncIterator["FakeEscalation"]:
    """A peer that takes events in order, on a real port. Shared: a test that lets it misbehave makes its own."""
    async with peer() as fake:
        yield fake


@pytest.fixture(scope="session")
async def ingest(postgres: Postgres, escalation: "FakeEscalation") -> AsyncIterator["Ingest"]:
    """One replica beside the peer. Shared: every test is another tenant.

    Tests move the time of what it looks for, and then wait for the next look.
    """
    url = await postgres.clone_database(_TEMPLATE, "ingest_shared")
    patched = pytest.MonkeyPatch()
    for module, every in ((receivers, "EVERY"), (wiring, "REFUSALS_EVERY")):
        patched.setattr(module, every, _LOOK_SECONDS)
    async with running(url, escalation.target) as replica:
        patched.undo()
        yield replica


def clock_of(database: Database) -> MovableClock:
    """The clock of a pool's database. To move it through a session of its own each time would cost more than most tests."""

    async def execute(_: str, sql: str) -> None:
        async with database.system() as tx:
            await tx.execute(sql)

    return MovableClock([""], execute)


class FakeEscalation(internal_service_pb2_grpc.EscalationInternalServiceServicer):
    """Applies events as the contract says, remembers them, and can be told to misbehave."""

    def __init__(self) -> None:
        self.events: dict[str, list[IncidentEvent]] = {}
        self.policies: set[str] = set()
        self.calls = 0
        self.refused = 0
        self.refuse: Callable[[IncidentEvent], bool] = lambda _: False
        self.unavailable = False
        self._server: grpc.aio.Server | None = None
        self.target = ""

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        internal_service_pb2_grpc.add_EscalationInternalServiceServicer_to_server(self, self._server)
        self.target = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        await self._server.start()

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.stop(0)

    async def ApplyIncidentEvents(
        self, request: ApplyIncidentEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ApplyIncidentEventsResponse:
        self.calls += 1
        if self.unavailable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if any(self.refuse(event) for event in request.events):
            self.refused += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
        return ApplyIncidentEventsResponse(results=[self._apply(event) for event in request.events])

    async def ApplyPageOutcomes(
        self, request: ApplyPageOutcomesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ApplyPageOutcomesResponse:
        raise NotImplementedError("ingest has no pages")

    async def ReconcilePages(
        self, request: ReconcilePagesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ReconcilePagesResponse:
        raise NotImplementedError("ingest has no pages")

    async def OpenEventFeeds(
        self, request: OpenEventFeedsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> OpenEventFeedsResponse:
        raise NotImplementedError("ingest has no subscriptions")

    async def CheckPolicies(
        self, request: CheckPoliciesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> CheckPoliciesResponse:
        if self.unavailable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return CheckPoliciesResponse(missing=[each for each in request.policies if each not in self.policies])

    async def CompareIncidents(
        self, request: CompareIncidentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> CompareIncidentsResponse:
        """What it was told of each."""
        return CompareIncidentsResponse(standings=[self._standing(each.incident) for each in request.incidents])

    async def ListOpenIncidents(
        self, request: ListOpenIncidentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ListOpenIncidentsResponse:
        """None: several databases share this peer."""
        return ListOpenIncidentsResponse()

    async def SummarizeForDigests(
        self, request: SummarizeForDigestsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> SummarizeForDigestsResponse:
        raise NotImplementedError("ingest has no digests")

    async def SimulateEvent(
        self, request: SimulateEventRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> SimulateEventResponse:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    async def GetReceivers(
        self, request: GetReceiversRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetReceiversResponse:
        raise NotImplementedError("ingest sends no messages")

    def _standing(self, incident: str) -> IncidentStanding:
        events = self.events.get(incident, ())
        over = any(event.HasField("resolved") for event in events)
        return IncidentStanding(known=bool(events), resolved=over, sequence=events[-1].sequence if events else 0)

    def _apply(self, event: IncidentEvent) -> IncidentEventResult.ValueType:
        known = self.events.setdefault(event.incident, [])
        last = known[-1].sequence if known else 0
        if event.sequence <= last:
            return IncidentEventResult.INCIDENT_EVENT_RESULT_DUPLICATE
        if not known and not event.HasField("opened"):
            return IncidentEventResult.INCIDENT_EVENT_RESULT_UNKNOWN_INCIDENT
        if event.sequence > last + 1 and not event.opened.anew_because:
            return IncidentEventResult.INCIDENT_EVENT_RESULT_OUT_OF_ORDER
        known.append(event)
        return IncidentEventResult.INCIDENT_EVENT_RESULT_APPLIED

    def kinds(self, incident: str) -> list[str]:
        """What it was told of an incident, in order."""
        return [str(event.WhichOneof("event")) for event in self.events.get(incident, ())]


@contextlib.asynccontextmanager
async def peer() -> AsyncIterator[FakeEscalation]:
    """A peer until the block ends."""
    fake = FakeEscalation()
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


class Ingest:
    """One replica in this process, as `tocsin_kit.lifecycle.serve` makes it, without signals."""

    def __init__(self, runtime: Runtime[IngestSettings], channel: grpc.aio.Channel) -> None:
        self.runtime = runtime
        self.channel = channel
        self.alerts = AlertServiceStub(channel)
        self.integrations = IntegrationServiceStub(channel)
        self.internal = IngestInternalServiceStub(channel)
        self.silences = SilenceServiceStub(channel)
        self.http = f"http://127.0.0.1:{runtime.http.port}"

    @property
    def database(self) -> Database:
        return self.runtime.database

    async def integration(
        self, org: str, *, rules: Iterable[RoutingRule] = (), integration_id: str = "", default_policy: str = ""
    ) -> tuple[str, str]:
        """Name and key of a new integration."""
        response = await self.integrations.CreateIntegration(
            CreateIntegrationRequest(
                integration_id=integration_id,
                integration=Integration(display_name="test", routing_rules=rules, default_policy=default_policy),
            ),
            metadata=bearer(org),
        )
        return response.integration.name, response.key


@contextlib.asynccontextmanager
async def running(database_url: str, target: str, **overrides: Any) -> AsyncIterator[Ingest]:
    """A replica that serves and works until the block ends."""
    settings = IngestSettings(
        database_url=SecretStr(database_url),
        auth_signing_keys=SecretStr(KEYS),
        escalation_target=target,
        database_pool_size=6,
        shutdown_grace_seconds=2.0,
        **overrides,
    )
    stop = asyncio.Event()
    metrics = Metrics()
    database = await dialed(
        database_url,
        name="ingest",
        tenant_url=tenant_url(database_url),
        size=settings.database_pool_size,
        metrics=metrics,
    )
    health = Health((HealthCheck("database", database.ping),), metrics)
    authenticators: list[Any] = [JwtAuthenticator(settings.signing_keys)]
    rpc = RpcServer(settings, authenticators=authenticators, metrics=metrics, health_checks=health)
    http = HttpServer(settings, metrics=metrics, health=health)
    loops = Loops(metrics)
    runtime = Runtime("ingest", settings, metrics, database, authenticators, health, rpc, http, loops, stop, None)
    service = await build(runtime)
    await http.start()
    await rpc.start()
    calls_ended = asyncio.Event()
    loops.start(stop, calls_ended=calls_ended)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{rpc.port}") as channel:
        try:
            yield Ingest(runtime, channel)
        finally:
            stop.set()
            await asyncio.gather(loops.join(2.0), rpc.stop(2.0))
            calls_ended.set()
            await loops.join_everywhere(2.0)
            await http.stop()
            for close in service.close:
                await close()
            await database.close()


def bearer(org: str, scopes: Sequence[str] = ALL_SCOPES, subject: str = "users/ana") -> tuple[tuple[str, str], ...]:
    """Metadata of a caller with a token."""
    return key(mint(SigningKeys.parse(KEYS), org_id=org, subject=subject, scopes=scopes, ttl=600))


def internal() -> tuple[tuple[str, str], ...]:
    """Metadata of another of Tocsin's services."""
    return bearer("*", ("internal",), "services/escalation")


def key(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a caller with that token or integration key."""
    return (("authorization", f"Bearer {token}"),)


def trigger(dedup_key: str = "", *, request_id: str = "", integration: str = "", **fields: Any) -> SendAlertRequest:
    """A trigger with a summary."""
    fields.setdefault("summary", "disk full")
    alert = AlertInput(action=ALERT_ACTION_TRIGGER, dedup_key=dedup_key, **fields)
    return SendAlertRequest(request_id=request_id, integration=integration, alert=alert)


def resolve(dedup_key: str, *, request_id: str = "", integration: str = "") -> SendAlertRequest:
    """A resolve."""
    alert = AlertInput(action=ALERT_ACTION_RESOLVE, dedup_key=dedup_key)
    return SendAlertRequest(request_id=request_id, integration=integration, alert=alert)


async def stored(ingest: Ingest, org: str) -> list[tuple[Any, ...]]:
    """A tenant's alerts with their incidents: all but ids and times, and the order in which the fields of an alert are written."""
    async with ingest.database.transaction(org) as tx:
        found = await tx.fetch(
            """SELECT alerts.dedup_key, alerts.state, alerts.count, alerts.severity, alerts.summary, alerts.newest,
              incidents.state, incidents.alert_count, incidents.firing_count, incidents.severity, incidents.title
            FROM alerts LEFT JOIN incidents ON incidents.id = alerts.incident_id ORDER BY alerts.id"""
        )
    return sorted((tuple(map(_in_order, row)) for row in found), key=repr)


def _in_order(value: object) -> object:
    return AlertInput.FromString(value).SerializeToString(deterministic=True) if isinstance(value, bytes) else value


def new_org() -> str:
    """A tenant that no other test uses."""
    return f"org-{uuid.uuid4().hex[:12]}"


until: Final = busy.until
