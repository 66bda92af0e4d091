"""SIGTERM: finish or give back, exit 0. Callers notice nothing."""

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import pytest
from tocsin.escalation.v1 import incident_service_pb2
from tocsin.ingest.v1 import alert_service_pb2
from tocsin.notify.v1 import contact_service_pb2
from tocsin_stack.service import ServiceProcess
from tocsin_testkit.busy import within
from tocsin_testkit.clients import Channels, Clients
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet, eventually
from tests.chaos.load import Load

pytestmark = pytest.mark.chaos
Call = Callable[[], Awaitable[Any]]


@pytest.mark.long
async def test_all_replicas_are_restarted_in_turn_under_load(fleet: Fleet, tenant: Tenant) -> None:
    """A rolling restart: first one replica of each service, then the other. Plain clients are never refused."""
    load = await Load.prepare(tenant)
    plain = _Plain(fleet, tenant)
    async with load.under_way() as dice, plain.calling():
        first = [dice.choice(fleet.replicas(service)) for service in fleet.stack.services]
        for some in (first, [replica for replica in fleet.replicas() if replica not in first]):
            codes = await asyncio.gather(*(replica.stop() for replica in some))
            assert codes == [0, 0, 0], [replica.process.output.tail() for replica in some]
            await asyncio.gather(*(replica.start() for replica in some))
            # By its own clock a client looks for a replica that was away: before, it has none but the next to leave.
            await asyncio.gather(*(plain.uses(replica) for replica in some))
    await load.outcome("rolling restart")
    # A machine that has no time for a call, or for the database, is not what this is about.
    busy = {answer for answer in plain.answers if answer.startswith("DEADLINE_EXCEEDED") or "database" in answer}
    assert set(plain.answers) - busy == {"OK"}, plain.answers


class _Plain:
    """A channel to each service without retries or a look at the health.

    Round robin, and quick to find a replica that is back, so that the test need not wait for it.
    """

    def __init__(self, fleet: Fleet, tenant: Tenant) -> None:
        self._targets = {name: fleet.stack.plan.target(name) for name in fleet.stack.services}
        self._token = fleet.token(tenant.org_id)
        self.answers: Counter[str] = Counter()

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        channels = Channels({})
        options = [
            ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        channels.by_service = {name: grpc.aio.insecure_channel(at, options) for name, at in self._targets.items()}
        clients = Clients(channels, self._token)
        calls: tuple[Call, ...] = (
            lambda: clients.alerts.ListAlerts(alert_service_pb2.ListAlertsRequest(page_size=1)),
            lambda: clients.incidents.ListIncidents(incident_service_pb2.ListIncidentsRequest(page_size=1)),
            lambda: clients.contacts.ListContactMethods(contact_service_pb2.ListContactMethodsRequest(page_size=1)),
        )
        over = asyncio.Event()
        async with asyncio.TaskGroup() as callers:
            for call in calls:
                callers.create_task(self._again_and_again(call, over))
            try:
                yield
            finally:
                over.set()
        await channels.close()

    async def uses(self, replica: ServiceProcess) -> None:
        """Wait until calls arrive at a replica."""
        methods = "ListAlerts|ListIncidents|ListContactMethods"
        answered = re.compile(rf'^tocsin_rpc_total{{code="OK",method=".*/({methods})"}} [1-9]', re.MULTILINE)

        async def has_answered() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{replica.http_url}/metrics") as response:
                return answered.search(await response.text()) is not None

        await eventually(has_answered, f"{replica.name} is called", patience=60)

    async def _again_and_again(self, call: Call, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                await call()
                self.answers["OK"] += 1
            except grpc.aio.AioRpcError as error:
                self.answers[f"{error.code().name}: {error.details()}"] += 1


async def test_notify_is_stopped_while_it_takes_a_page(fleet: Fleet, tenant: Tenant) -> None:
    """Its call begins when the others have ended already: it is waited for as well, and written down."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    provider = fleet.holds_back(ana.addresses[0])
    condition = f"NEW.org_id = '{tenant.org_id}'"
    async with fleet.breakpoint("notify", "notifications", "INSERT", condition) as point:
        incident = await prom.triggers("db down")
        stopping = await point.reached()
        stopping.process.send_signal(signal.SIGTERM)
        await fleet.not_serving(stopping)
        await point.let_go()
        await provider.reached()
        await fleet.for_a_while(0.3)  # the provider takes its time
    provider.answers()
    assert await stopping.process.wait(timeout=within(20)) == 0
    await ana.is_paged(incident)
    await fleet.orphans_come_due()
    await fleet.idle()
