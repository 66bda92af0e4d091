"""A tenant whose work fails in any way delays no other; a database that is away and a cancellation end the round."""

import asyncio
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason as R
from tocsin_ingest.app.tenant_by_tenant import tenant_by_tenant
from tocsin_ingest.metrics import IngestMetrics
from tocsin_kit.errors import TocsinError

AT_ONCE = pytest.mark.parametrize("at_once", [1, 3, 200])


@dataclass(frozen=True)
class One:
    org_id: str
    number: int


class Round:
    """What one round did. `failing`: what is raised for a tenant."""

    def __init__(self, failing: dict[str, BaseException]) -> None:
        self.failing = failing
        self.done: list[str] = []
        self.running = self.most = 0
        self.metrics = IngestMetrics(CollectorRegistry())

    async def work(self, org_id: str, mine: list[One]) -> None:
        assert {each.org_id for each in mine} == {org_id}
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if (error := self.failing.get(org_id)) is not None:
            raise error
        self.done += [f"{org_id}{each.number}" for each in mine]

    async def run(self, orgs: str, at_once: int) -> set[str]:
        found = [One(org_id, number) for number, org_id in enumerate(orgs)]
        failures = self.metrics.tenant_failures
        return await tenant_by_tenant(found, self.work, name="test", failures=failures, at_once=at_once)

    @property
    def counted(self) -> float:
        [metric] = self.metrics.tenant_failures.labels("test").collect()
        return sum(each.value for each in metric.samples if each.name.endswith("_total"))


@AT_ONCE
@pytest.mark.parametrize(
    "error",
    [
        TocsinError(R.ERROR_REASON_OVERLOADED, "too much waits"),
        TocsinError(R.ERROR_REASON_CONFLICT, "another transaction holds the row"),
        TocsinError(R.ERROR_REASON_DATABASE_UNAVAILABLE, "its statement took too long"),
        ZeroDivisionError(),
    ],
    ids=["overloaded", "conflict", "unavailable", "defect"],
)
async def test_a_tenant_that_fails_holds_up_no_other(error: Exception, at_once: int) -> None:
    one = Round({"b": error})
    assert await one.run("abacb", at_once) == {"b"}
    assert sorted(one.done) == ["a0", "a2", "c3"]
    assert (one.counted, one.most) == (1, min(at_once, 3))


@pytest.mark.parametrize("broken", [{3}, {0, 7}, {1, 2, 5}, set(range(8))])
async def test_one_that_is_broken_holds_up_no_other_of_its_tenant(broken: set[int]) -> None:
    one = Round({})
    works = one.work

    async def work(org_id: str, mine: list[One]) -> None:
        if org_id == "a" and broken & {each.number for each in mine}:
            raise ZeroDivisionError
        await works(org_id, mine)

    one.work = work  # type: ignore[method-assign]
    assert await one.run("aaaaaaaabb", 1) == {"a"}
    assert one.done == [f"a{number}" for number in range(8) if number not in broken] + ["b8", "b9"]
    assert one.counted == 1, "of one tenant"


@AT_ONCE
async def test_many_tenants_that_fail_hold_up_no_other(at_once: int) -> None:
    orgs = "abcdefghijklmnopqrstuvwxyz"
    one = Round({org_id: TocsinError(R.ERROR_REASON_CONFLICT, "held") for org_id in orgs[:-1]})
    assert await one.run(orgs, at_once) == set(orgs[:-1])
    assert one.done == ["z25"]


async def test_a_database_that_is_away_for_ten_tenants_in_a_row_ends_the_round() -> None:
    away = TocsinError(R.ERROR_REASON_DATABASE_UNAVAILABLE, "gone")
    orgs = "abcdefghijklmnop"
    one = Round(dict.fromkeys(orgs, away))
    with pytest.raises(TocsinError):
        await one.run(orgs, 1)
    assert one.counted == 10
    between = Round(dict.fromkeys(orgs.replace("i", ""), away))
    assert await between.run(orgs, 1) == set(orgs) - {"i"}, "it is there for one of them"


@AT_ONCE
async def test_a_cancellation_passes_through_and_nothing_goes_on_behind_it(at_once: int) -> None:
    one = Round({})
    begun, never = asyncio.Event(), asyncio.Event()

    async def work(org_id: str, mine: list[One]) -> None:
        one.running += 1
        try:
            begun.set()
            await never.wait()
        finally:
            one.running -= 1

    one.work = work  # type: ignore[method-assign]
    task = asyncio.create_task(one.run("abc", at_once))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.running == 0


async def test_without_anything_found_nothing_happens() -> None:
    assert await Round({}).run("", 1) == set()
