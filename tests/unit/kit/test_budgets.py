"""What a tenant may use in one replica: told which limit, never at the cost of another tenant, bounded in memory."""

import asyncio
from typing import Any

import grpc
import pytest
from tocsin_kit.auth import mint
from tocsin_kit.budgets import OBJECTS, OUTBOX_ROWS, RPCS, STREAMS, Budgets, Limit, per_minute, per_second
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_kit.metrics import Metrics

PINGS = "pings_per_minute"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def budgets(clock: Clock, metrics: Metrics) -> Budgets:
    limits = (
        per_second(RPCS, 10),
        per_minute(PINGS, 60),
        Limit(STREAMS, 4),
        Limit(OUTBOX_ROWS, 5000),
        Limit(OBJECTS, 9),
    )
    return Budgets(limits, metrics, clock=clock)


def taken(budgets: Budgets, org_id: str, name: str = RPCS, kept: float = 0.0) -> int:
    """How often until it is refused."""
    count = 0
    while count < 10_000 and not budgets.try_take(org_id, name, kept=kept):
        count += 1
    return count


def test_a_tenant_has_its_rate_and_ten_seconds_of_it_at_once(budgets: Budgets, clock: Clock) -> None:
    assert taken(budgets, "a") == 100
    assert taken(budgets, "b") == 100
    clock.now += 2
    assert taken(budgets, "a") == 20
    assert taken(budgets, "a", PINGS) == 60
    clock.now += 3
    assert taken(budgets, "a", PINGS) == 3


def test_a_refusal_names_the_limit_and_when_to_come_again(budgets: Budgets, metrics: Metrics) -> None:
    taken(budgets, "a")
    with pytest.raises(TocsinError) as caught:
        budgets.take("a", RPCS)
    error = caught.value
    assert (error.reason_name, error.code) == ("RATE_LIMITED", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert dict(error.metadata) == {"limit": RPCS, "allowed": "10"}
    assert error.retry_after == pytest.approx(0.1)
    assert budgets.refused("a", RPCS) == 1
    assert metrics.registry.get_sample_value("tocsin_tenant_refused_total", {"limit": RPCS}) == 1
    assert metrics.registry.get_sample_value("tocsin_tenant_most_used_ratio", {"limit": RPCS}) == pytest.approx(1)
    assert metrics.registry.get_sample_value("tocsin_tenant_most_used_ratio", {"limit": PINGS}) == 0


def test_reads_leave_a_part_to_what_changes_something(budgets: Budgets) -> None:
    assert taken(budgets, "a", kept=0.25) == 76
    assert budgets.try_take("a", RPCS, kept=0.25) > 0
    assert taken(budgets, "a") == 24


def test_what_is_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_off(budgets: Budgets, clock: Clock) -> None:
    assert budgets.try_take("a", RPCS, 250) == 0
    assert budgets.try_take("a", RPCS) == pytest.approx(15.1)
    clock.now += 16
    assert budgets.try_take("a", RPCS) == 0


def test_operators_choose_for_a_tenant(budgets: Budgets) -> None:
    budgets.choose({"a": {RPCS: 1, STREAMS: 1}})
    assert (taken(budgets, "a"), taken(budgets, "b")) == (10, 100)
    assert (budgets.allowed("a", RPCS), budgets.allowed("a", OBJECTS), budgets.allowed("b", STREAMS)) == (1, 9, 4)


def test_operators_and_tocsins_own_services_have_no_limit(budgets: Budgets) -> None:
    assert taken(budgets, "*") == 10_000
    for _ in range(100):
        budgets.enter_stream("*")
    assert budgets.known() == []


def test_without_redis_each_replica_has_its_part(budgets: Budgets) -> None:
    budgets.replicas = 4
    assert taken(budgets, "a") == 25
    budgets.enter_stream("a")
    with pytest.raises(TocsinError, match="4 streams"):
        budgets.enter_stream("a")
    budgets.leave_stream("a")
    budgets.enter_stream("a")


def test_what_could_not_be_reported_is_reported_less_what_has_come_in_since(budgets: Budgets, clock: Clock) -> None:
    budgets.shared = True
    limit = budgets.limits[RPCS]
    budgets.take("a", RPCS, limit.burst(limit.default))
    for waited in (1, 2):
        budgets.notice_again(budgets.noticed())
        clock.now += waited
    [(_, _, usage)] = budgets.noticed()
    assert usage.unreported == limit.burst(limit.default) - 3 * limit.rate(limit.default)
    budgets.notice_again([("a", limit, usage)])
    clock.now += 3600
    budgets.notice_again(budgets.noticed())
    assert not budgets.has_noticed, "all of it has come in, so there is nothing to report"


def test_waiting_rows_are_refused_more_of(budgets: Budgets) -> None:
    budgets.require_rows("a")
    budgets.note_rows({"a": 5000, "b": 4999})
    budgets.require_rows("b")
    with pytest.raises(TocsinError) as caught:
        budgets.require_rows("a")
    assert caught.value.metadata["limit"] == OUTBOX_ROWS
    assert [budgets.used(org_id, OUTBOX_ROWS) for org_id in "ab"] == pytest.approx([1, 0.9998])
    budgets.note_rows({})
    budgets.require_rows("a")


def test_what_is_counted_without_refusing_is_missing_afterwards(budgets: Budgets, clock: Clock) -> None:
    for _ in range(1000):
        budgets.note("a", PINGS)
    assert taken(budgets, "a", PINGS) == 0
    clock.now += 90
    assert taken(budgets, "a", PINGS) == 30


def test_memory_is_bounded_and_open_streams_stay_counted(metrics: Metrics) -> None:
    budgets = Budgets((per_second(RPCS, 10), Limit(STREAMS, 4)), metrics, size=10)
    budgets.enter_stream("streaming")
    for number in range(100):
        budgets.take(f"t{number}", RPCS)
    assert len(budgets._tenants) == 10
    budgets.leave_stream("streaming")
    assert budgets.used("streaming", STREAMS) == 0


async def test_the_pipeline_counts_calls_bytes_and_streams(serve: Any, connect: Any, echo: Any, settings: Any) -> None:
    using = settings.model_copy(
        update={"tenant_rpcs_per_second": 1, "tenant_max_streams": 1, "tenant_bytes_per_second": 100}
    )
    server = await serve(echo.Echo(), using=using)
    keys = settings.signing_keys
    greedy, other = (
        connect(server, using=mint(keys, org_id=org, subject="users/u", scopes={"echo:use"}, ttl=60)) for org in "ab"
    )
    request = echo.Request(text="x")

    async def refusal(message: Any) -> TocsinError:
        while True:
            try:
                await greedy.call("Unary", message, timeout=30)
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error)

    async with asyncio.timeout(60):
        assert (await refusal(request)).metadata["limit"] == RPCS
        server.budgets.choose({"a": {RPCS: 1_000_000}})
        refused = await refusal(echo.Request(items=[{"name": "n" * 1000}]))
    assert refused.metadata == {"limit": "bytes_per_second", "allowed": "100"}
    assert refused.retry_after is not None
    assert await other.call("Unary", request, timeout=30) == ["x"]
    assert await other.call("BidiStream", request, timeout=30) == ["x"]
