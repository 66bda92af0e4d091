"""Ingest and a server that does nothing, each as a process of its own."""

import asyncio
import base64
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tocsin.escalation.v1 import internal_service_pb2_grpc
from tocsin.escalation.v1.internal_service_pb2 import (
    ApplyIncidentEventsRequest,
    ApplyIncidentEventsResponse,
    CompareIncidentsRequest,
    CompareIncidentsResponse,
    IncidentEventResult,
    IncidentStanding,
    ListOpenIncidentsRequest,
    ListOpenIncidentsResponse,
)
from tocsin.ingest.v1 import alert_service_pb2_grpc
from tocsin.ingest.v1.alert_service_pb2 import (
    SendAlertRequest,
    SendAlertResponse,
    SendAlertsRequest,
    SendAlertsResponse,
    SendAlertsResult,
)
from tocsin_kit.auth import SigningKeys, mint
from tocsin_stack.ports import free_port


@dataclass(frozen=True, slots=True)
class Ingest:
    """Where the service is reached, and a token for it."""

    target: str
    http: str
    token: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


class Noop:
    """Answers, and does nothing."""

    def __getattr__(self, name: str) -> Any:
        """The methods that are not called here."""
        if name[0] == "_":
            raise AttributeError(name)
        return self.SendAlert

    async def SendAlert(self, request: SendAlertRequest, context: Any) -> SendAlertResponse:
        return SendAlertResponse(dedup_key=request.alert.dedup_key)

    async def SendAlerts(self, request: SendAlertsRequest, context: Any) -> SendAlertsResponse:
        answer = SendAlertResponse(dedup_key="k")
        return SendAlertsResponse(results=[SendAlertsResult(response=answer) for _ in request.alerts])

    async def ApplyIncidentEvents(
        self, request: ApplyIncidentEventsRequest, context: Any
    ) -> ApplyIncidentEventsResponse:
        applied = IncidentEventResult.INCIDENT_EVENT_RESULT_APPLIED
        return ApplyIncidentEventsResponse(results=[applied] * len(request.events))

    async def CompareIncidents(self, request: CompareIncidentsRequest, context: Any) -> CompareIncidentsResponse:
        return CompareIncidentsResponse(standings=[IncidentStanding(known=True, sequence=1) for _ in request.incidents])

    async def ListOpenIncidents(self, request: ListOpenIncidentsRequest, context: Any) -> ListOpenIncidentsResponse:
        return ListOpenIncidentsResponse()


async def serve_noop(port: int, http_port: int) -> None:
    noop: Any = Noop()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    alert_service_pb2_grpc.add_AlertServiceServicer_to_server(noop, server)
    internal_service_pb2_grpc.add_EscalationInternalServiceServicer_to_server(noop, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    app = web.Application()
    app.add_routes([web.post("/take", _take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http_port).start()
    await server.wait_for_termination()


async def _take(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"status": "success"}, status=202)


@asynccontextmanager
async def noop_process() -> AsyncIterator[tuple[str, str]]:
    """Its gRPC target, and the URL that takes what is posted."""
    port, http_port = free_port(), free_port()
    async with child("tests.bench.ingest_service", str(port), str(http_port), environment={}):
        target = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(target) as channel, asyncio.timeout(20):
            await channel.channel_ready()
        yield target, f"http://127.0.0.1:{http_port}/take"


@asynccontextmanager
async def service_process(url: str, escalation: str, *, processes: int = 1) -> AsyncIterator[Ingest]:
    """The service, once it serves."""
    signing = f"k1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}"
    target, http, admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
    environment = {
        "INGEST_PROCESSES": str(processes),
        "INGEST_HTTP_LISTEN": http,
        "INGEST_ADMIN_LISTEN": admin,
        "INGEST_DATABASE_URL": url,
        "INGEST_GRPC_LISTEN": target,
        "INGEST_RATE_PER_SECOND": "1e9",
        "INGEST_RATE_BURST": "1e9",
        "INGEST_TENANT_ALERTS_PER_SECOND": "1000000",
        "TENANT_RPCS_PER_SECOND": "1000000",
        "TENANT_BYTES_PER_SECOND": "1000000000",
        "ESCALATION_TARGET": escalation,
        # The escalation here remembers nothing: each incident would be found to differ, and be sent anew.
        "INGEST_RECONCILE_SECONDS": "3600",
        "AUTH_SIGNING_KEYS": signing,
        "LOG_LEVEL": "WARNING",
    }
    async with child("tocsin_ingest", "serve", environment=environment):
        async with grpc.aio.insecure_channel(target) as channel, asyncio.timeout(20):
            await channel.channel_ready()
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while (await stub.Check(health_pb2.HealthCheckRequest())).status != health_pb2.HealthCheckResponse.SERVING:
                await asyncio.sleep(0.05)
        scopes = ("alerts:write", "integrations:write")
        token = mint(SigningKeys.parse(signing), org_id="acme", subject="users/bench", scopes=scopes, ttl=3600)
        yield Ingest(target, f"http://{http}", token)


@asynccontextmanager
async def child(module: str, *arguments: str, environment: dict[str, str]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env={**os.environ, **environment}
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(serve_noop(*map(int, sys.argv[1:])))
