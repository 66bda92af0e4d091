"""What an integration may send holds over all replicas, and each has its part while Redis is away."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from tocsin.ingest.v1 import alert_service_pb2 as pb
from tocsin_ingest.app.alerts.rate_limit import NEW, SERVICE
from tocsin_stack.scratch import scratch
from tocsin_stack.valkey import Valkey

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org, running, trigger, until

BURST = 100


@pytest.fixture
async def valkey() -> AsyncIterator[Valkey]:
    with scratch("tocsin-ingest-rates-") as folder:
        server = Valkey(folder, appendonly=False)
        await server.start()
        yield server
        await server.stop()


async def taken(ingest: Ingest, org: str, count: int, prefix: str) -> int:
    """How many of as many alerts with keys of their own are taken."""
    request = pb.SendAlertsRequest(alerts=[trigger(f"{prefix}{number}") for number in range(count)])
    answer = await ingest.alerts.SendAlerts(request, metadata=bearer(org))
    return sum(not each.HasField("error") for each in answer.results)


def used(ingest: Ingest) -> float:
    value = ingest.runtime.metrics.registry.get_sample_value("tocsin_tenant_most_used_ratio", {"limit": NEW})
    assert value is not None
    return value


async def test_what_one_replica_has_let_pass_is_missing_at_the_other(
    database_url: str, escalation: FakeEscalation, valkey: Valkey
) -> None:
    """A bucket fills by an alert in 100 s."""
    given = {"REDIS_URL": SecretStr(valkey.url), "rate_per_second": 0.01, "rate_burst": BURST}
    org = new_org()
    async with (
        Redis.from_url(valkey.url) as redis,
        running(database_url, escalation.target, **given) as one,
        running(database_url, escalation.target, **given) as two,
    ):
        assert await taken(one, org, 60, "a") == 60
        await until(lambda: told(redis, org))
        assert await taken(two, org, 10, "b") == 10, "what it has not heard of yet"
        await until(lambda: used(two) >= 0.65)
        assert await taken(two, org, 60, "c") == 30
        assert await taken(two, new_org(), 60, "a") == 60, "another tenant's integration"


async def told(redis: Redis, org: str) -> bool:
    """Whether the other replicas can know what an integration of this tenant has sent."""
    return bool(await redis.keys(f"*{SERVICE}*{NEW}:{org}/*"))
